"""A package: what its files are made from, and whether it can run step by step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from keras_lstm_custom.export.plain_c.graph.ir import Value
from keras_lstm_custom.export.plain_c.graph.schedule import Schedule
from keras_lstm_custom.export.plain_c.writing.emitter import Emitter

#: What reads several steps at once, or knows which step it is.
NOT_STEPWISE = ("reverse", "at", "whole", "steps", "window", "dots", "mix", "table")


@dataclass
class Port:
    """An input or an output of the model."""

    name: str
    value: Value  #: the input itself, or what is written to the output

    @property
    def step_size(self) -> int:
        return self.value.size

    @property
    def size(self) -> int:
        return self.value.size * (self.value.steps or 1)


@dataclass
class Package:
    """What the files are made from."""

    name: str
    emitter: Emitter
    inputs: Sequence[Port]
    outputs: Sequence[Port]
    about: list[str]  #: lines on the model and its numbers
    rows: Sequence[np.ndarray] = ()  #: of the test, one array for each input, `(rows, size)`
    expected: Sequence[np.ndarray] = ()  #: what they give
    tolerance: Sequence[float] = ()  #: how far each output may be from it
    why_not_stepwise: str = field(init=False)

    def __post_init__(self) -> None:
        self.why_not_stepwise = why_not_stepwise(self.emitter.schedule)

    def signature(self, function: str, number: str = "float", end: str = "") -> str:
        """Return the head of a function that takes all inputs and outputs."""
        xs, ys = self.names(end)
        arguments = [f"const {number} *{x}" for x in xs] + [f"{number} *{y}" for y in ys]
        return f"void {self.name}_{function}(struct {self.name} *m, {', '.join(arguments)})"

    def names(self, end: str = "") -> tuple[list[str], list[str]]:
        """Return what inputs and outputs are called in C."""
        return [f"x{k}{end}" for k in range(len(self.inputs))], [f"y{k}{end}" for k in range(len(self.outputs))]


def why_not_stepwise(schedule: Schedule) -> str:
    """Return what keeps a model from running step by step; "" if it can."""
    loops = [phase for phase in schedule.phases if phase.steps is not None]
    sequences = [value for value in schedule.values if value.kind == "input" and value.steps is not None]
    several = [value for value in schedule.values if value.kind in NOT_STEPWISE]
    several += [value for value in schedule.values if value.kind == "state" and "whole" in value.attributes]
    if not sequences:
        return "no input is a sequence"
    if several:
        return f"the layer {several[0].layer!r} reads several time steps at once, or counts them"
    if len(loops) != 1:
        return "a part of it begins where the sequence ends"
    computed = [state for state in loops[0].states if state.inputs and state.inputs[0].kind != "const"]
    return f"the layer {computed[0].layer!r} begins from a state that comes with the sequence" if computed else ""
