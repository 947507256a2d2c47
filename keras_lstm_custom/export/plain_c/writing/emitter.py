"""The body of a package in C: its phases, with what the arithmetics have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from keras_lstm_custom.export.plain_c.graph.ir import VIEWS, Value, unshaped
from keras_lstm_custom.export.plain_c.graph.memory import Memory, plan
from keras_lstm_custom.export.plain_c.graph.schedule import Group, Phase, Schedule
from keras_lstm_custom.export.plain_c.writing.text import Address, array, indented, loop, real


class Arguments(NamedTuple):
    """What the functions of the phases take besides the struct and the step."""

    names: list[str]
    declared: list[str]


class Emitter:
    """Writes phases as functions of C; an arithmetic adds how each kind of value is computed."""

    number: str  #: the type of what lies in memory
    unit, pad = 1, 0  #: of the memory plan
    includes: tuple[str, ...] = ()
    header_includes: tuple[str, ...] = ()
    test_number = "float"  #: the type of the numbers in the test
    test_end = ""  #: of the names of the functions that the test calls
    rounding = 0.0  #: how far the outputs of another compiler's code may be, as a share of the largest
    normalises = False  #: whether there are values that may take two int16: `remainders.split`
    exact = False  #: whether weights and values are those of the model, but for the rounding of float32
    helper_text: Mapping[str, str] = {}  #: by the name of a helper
    helper_needs: Mapping[str, Sequence[str]] = {}  #: which others it calls

    def __init__(self, name: str, outputs: list[Value], inputs: int):
        """Take the package's name, its values, and how many inputs the model has."""
        self.name, self.input_count = name, inputs
        self.schedule = Schedule(outputs)
        self.memory: Memory = plan(self.schedule, self.unit, self.pad)
        self.constants: dict[tuple, tuple[str, str]] = {}  #: by content: name and definition
        self.helpers: dict[str, None] = {}  #: the functions that are used, in order

    # Memory

    def constant(self, kind: str, values: Any, more: str = "") -> str:
        """Return the name of a constant array, which stands in the file once."""
        values = np.asarray(values).reshape(-1)
        key = (kind, values.tobytes(), str(values.dtype), more)
        if key not in self.constants:
            name = f"c{len(self.constants)}"
            self.constants[key] = (name, array(kind, name, values.tolist(), more))
        return self.constants[key][0]

    def helper(self, name: str) -> str:
        """Return the name of a helper function, and remember that it is used."""
        self.helpers.setdefault(name)
        return f"k_{name}"

    def address(self, value: Value, t: str = "t") -> Address:
        """Return where the numbers of a value are at step `t`."""
        if value.kind in VIEWS:
            return self._view(value, t)
        if value.kind == "input":
            return Address(f"x{value.index}", (_times(t, value.size),) if value.steps is not None else ())
        if value.kind == "state":
            return Address("m->s", (self.memory.states[value.number],))
        if value.kind in ("const", "table"):
            return self.constant_address(value, t)
        if "output" in value.attributes:
            return Address(f"y{value.output}", (_times(t, value.size),) if value.steps is not None else ())
        if value.number in self.schedule.stored:
            return Address("m->w", (self.memory.work[value.number], _times(t, value.size)))
        if value.number in self.memory.shared:
            return self.address(self.memory.shared[value.number][0])
        return Address("m->w", (self.memory.work[value.number],))

    def _view(self, value: Value, t: str) -> Address:
        (source,) = value.inputs
        steps = source.steps or 1
        if value.kind == "slice":
            return self.address(source, t).plus(value.start)
        if value.kind == "reverse":
            return self.address(source, t if steps == 1 else f"({steps - 1} - {t})")
        if value.kind == "steps":
            return self.address(source).plus(_times(t, value.size))
        if value.kind == "last":
            return self.address(source, str(steps - 1))
        return self.address(source, {"at": str(getattr(value, "step", 0)), "whole": "0"}.get(value.kind, t))

    def constant_address(self, value: Value, t: str) -> Address:
        name = self.constant(self.number, self.stored(value))
        return Address(name, (_times(t, value.size),) if value.kind == "table" else ())

    def stored(self, value: Value) -> np.ndarray:
        """Return the numbers of a constant as they lie in memory."""
        return value.array

    # Phases

    def phase(self, number: int, phase: Phase) -> list[str]:
        """Return the lines of one step of a phase."""
        lines = []
        for group in phase.groups:
            lines += self.group(group)
        states = {state.number for state in phase.states}
        for state, following in self.memory.copied:
            if state.number in states:
                lines.append(self.carried(state, following))
        return lines

    def carried(self, state: Value, following: Value, t: str = "t") -> str:
        """Return the line that brings a value to a state."""
        return self.copy(self.address(state), self.address(following, t), state.size)

    def starts(self, phase: Phase) -> list[str]:
        """Return the lines that give states what they begin with, where that is computed."""
        return [
            self.carried(state, state.inputs[0], "0")
            for state in phase.states
            if state.inputs and unshaped(state.inputs[0]).kind != "const"
        ]

    def resets(self) -> list[str]:
        """Return the lines that give states zeros or constants."""
        lines = ["memset(m->s, 0, sizeof m->s);"] if self.memory.state_size else []
        for phase in self.schedule.phases:
            for state in phase.states:
                if state.inputs and unshaped(state.inputs[0]).kind == "const":
                    initial = unshaped(state.inputs[0])
                    name = self.constant(self.number, np.broadcast_to(self.initial(state, initial), state.size))
                    lines.append(self.copy(self.address(state), Address(name), state.size))
        return lines

    def initial(self, state: Value, constant: Value) -> np.ndarray:
        """Return what a state begins with, as it lies in memory."""
        return self.stored(constant)

    def group(self, group: Group) -> list[str]:
        """Return the lines that compute a group."""
        if group.elementwise:
            return self.elementwise(group)
        (value,) = group.values
        return self.KINDS[value.kind](self, value)

    def copy(self, to: Address, source: Address, count: int) -> str:
        return f"memcpy({to.pointer}, {source.pointer}, {count} * sizeof({self.number}));"

    def zeros(self, to: Address, count: int) -> list[str]:
        return [f"for (int i = 0; i < {count}; ++i) {to.at('i')} = 0;"]

    def destinations(self, value: Value, group: Group) -> list[Address]:
        """Return where an elementwise value is written to."""
        found = [self.address(state) for state in self.memory.shared.get(value.number, [])]
        kept = "output" in value.attributes or value.number in self.schedule.stored
        if kept or (not found and value.number in self.schedule.buffered):
            found.append(self.address(value))
        return found

    def elementwise(self, group: Group) -> list[str]:
        raise NotImplementedError

    # What the report says

    notes: tuple[str, ...] = ()

    def coarse(self) -> list[str]:
        """Return what may be the cause of an error that is too large."""
        return []

    bytes_of: Mapping[str, int] = {
        **{"int8_t": 1, "uint8_t": 1, "int16_t": 2, "uint16_t": 2, "int32_t": 4, "uint32_t": 4, "float": 4}
    }

    @property
    def constant_bytes(self) -> int:
        """Return the size of all constants."""
        return sum(
            self.bytes_of[kind] * len(np.frombuffer(content, dtype)) for kind, content, dtype, _ in self.constants
        )

    @property
    def struct_bytes(self) -> int:
        return max(self.memory.state_size + self.memory.work_size, 1) * self.bytes_of[self.number]

    def scale_of(self, port: Value) -> float:
        """Return what one is in the numbers of an input or an output."""
        return 1.0

    def held(self, array: np.ndarray, port: Value) -> np.ndarray:
        """Return rows of an input or an output in the package's own numbers, `(rows, size)`."""
        return np.asarray(array, np.float32).reshape(len(array), -1)

    # The parts of the files

    def helper_texts(self) -> list[str]:
        """Return the functions that are used."""
        return [self.helper_text[name] for name in self.wanted()]

    def wanted(self) -> list[str]:
        """Return the helpers that are used, each behind those that it needs itself."""
        found: dict[str, None] = {}

        def add(name: str) -> None:
            for other in self.helper_needs.get(name, ()):
                add(other)
            found.setdefault(name)

        for name in self.helpers:
            add(name)
        return list(found)

    def tolerance(self, value: float) -> str:
        return real(value)

    def header_constants(self, package: Any) -> list[str]:
        """Return what the header says in numbers."""
        return []

    def more_declarations(self, package: Any) -> list[str]:
        """Return further functions for whole sequences."""
        return []

    def more_step_declarations(self, package: Any) -> list[str]:
        """Return further functions for steps."""
        return []

    def arguments(self, package: Any) -> Arguments:
        """Return what the functions of the phases take."""
        xs, ys = package.names()
        declared = [f"const {self.number} *{x}" for x in xs] + [f"{self.number} *{y}" for y in ys]
        return Arguments([*xs, *ys], declared)

    def entries(self, package: Any, calls: list[str], step_calls: list[str]) -> list[str]:
        """Return the public functions."""
        name = package.name
        texts = ["\n".join([f"{package.signature('run')} {{", *indented(["start(m);", *calls]), "}\n"])]
        if step_calls:
            texts.append(f"void {name}_reset(struct {name} *m) {{ start(m); }}\n")
            texts.append("\n".join([f"{package.signature('step')} {{", *indented(step_calls), "}\n"]))
        return texts

    # Kinds that only move numbers

    def concat(self, value: Value) -> list[str]:
        lines, start, to = [], 0, self.address(value)
        for part in value.inputs:
            lines.append(self.moved(to.plus(start), part, part.size, value))
            start += part.size
        return lines

    def moved(self, to: Address, part: Value, count: int, value: Value) -> str:
        """Return the line that brings a part of a value to its place."""
        return self.copy(to, self.address(part), count)

    def pick(self, value: Value) -> list[str]:
        kind = "uint8_t" if value.places.max() < 256 else "uint16_t" if value.places.max() < 65536 else "int32_t"
        places = self.constant(kind, value.places)
        to, source = self.address(value), self.address(value.inputs[0])
        return loop("k", value.size, [f"{to.at('k')} = {source.at(f'{places}[k]')};"])

    def window(self, value: Value) -> list[str]:
        (source,) = value.inputs
        size, to = source.size, self.address(value)
        first = f"t * {value.stride} + i * {value.dilation} - {value.before}"
        lines = [f"const int s = {first};"]
        last = ((value.steps or 1) - 1) * value.stride + (value.length - 1) * value.dilation - value.before
        inside = last < (source.steps or 1)
        there = self.copy(to.plus(_times("i", size)), self.address(source, "s"), size)
        if value.before <= 0 and inside:
            return loop("i", value.length, [*lines, there])
        nothing = f"for (int j = 0; j < {size}; ++j) {to.at(_times('i', size), 'j')} = 0;"
        choice = [f"if (s >= 0 && s < {source.steps}) {{", *indented([there]), "} else {", *indented([nothing]), "}"]
        return loop("i", value.length, [*lines, *choice])

    KINDS: dict[str, Callable[[Any, Value], list[str]]] = {"concat": concat, "pick": pick, "window": window}


def _times(t: str, size: int) -> str | int:
    if t.isdigit():
        return int(t) * size
    return t if size == 1 else f"{t} * {size}"
