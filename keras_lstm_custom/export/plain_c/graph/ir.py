"""What a model computes, as a graph of few kinds of vectors; the one form that is run, planned and written as C.

A `Value` is a vector of `size` numbers: one for each of `steps` time steps, or one alone (`steps` None). Elementwise
values and products read the step that is being computed; `window`, `reverse`, `at`, `whole`, `dots` and `mix` read
anywhere in a sequence. A `state` is what its `next` was one step before: by it a recurrence, and a mean over time, are
graphs as everything else.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

#: What reads a sequence elsewhere than at the step that is being computed; the first of its inputs is the sequence.
ANYWHERE = ("window", "reverse", "at", "whole", "dots", "mix")
#: What is no computation: the same numbers, found in another way.
VIEWS = ("last", "at", "reverse", "whole", "steps", "repeat", "slice")
#: What stands at the beginning.
LEAVES = ("input", "const", "table", "state")

_numbers = itertools.count()


class Value:
    """A vector, and how it comes about."""

    def __init__(self, kind: str, inputs: Sequence[Value], steps: int | None, shape: Sequence[int], **attributes: Any):
        """Take the kind, what it is made of, the number of steps and the shape of one of them."""
        self.kind, self.inputs, self.steps = kind, list(inputs), steps
        self.shape = tuple(int(size) for size in shape)
        self.attributes = attributes
        self.number = next(_numbers)
        self.group: int | None = None  #: of values that must be computed in one loop
        self.layer = ""  #: the layer that it comes from

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=int))

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["attributes"][name]
        except KeyError:
            raise AttributeError(name) from None

    def __repr__(self) -> str:
        inputs = ", ".join(f"v{value.number}" for value in self.inputs)
        fn = self.attributes.get("fn", "")
        return f"v{self.number} = {self.kind} {fn}({inputs}) {self.steps} x {self.shape} {self.layer}"


#: In place of minus infinity: the smallest number that is one in float32.
LOWEST = -3.4e38


def _sigmoid(x):
    return 0.5 * (1 + np.tanh(0.5 * x))


#: The functions of `map`, in NumPy.
FUNCTIONS: dict[str, Any] = {
    "same": lambda a: a,
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "max": np.maximum,
    "min": np.minimum,
    "abs": np.abs,
    "sigmoid": _sigmoid,
    "tanh": np.tanh,
    "exp": np.exp,
    "log": np.log,
    "log1p": np.log1p,
    "expm1": np.expm1,
    "sqrt": np.sqrt,
    "sin": np.sin,
    "cos": np.cos,
    "pow": np.power,
    "floor": np.floor,
    "eq": lambda a, b: np.asarray(a == b, float),
    "ne": lambda a, b: np.asarray(a != b, float),
    "gt": lambda a, b: np.asarray(a > b, float),
    "ge": lambda a, b: np.asarray(a >= b, float),
    "where": lambda c, a, b: np.where(c != 0, a, b),
}


def ordered(outputs: Sequence[Value]) -> list[Value]:
    """Return all values that the outputs need, each after what it is made of; a state's next counts as needed."""
    found: dict[int, Value] = {}
    pending = list(outputs)
    while pending:
        value = pending.pop()
        if value.number not in found:
            found[value.number] = value
            pending += value.inputs
            if value.kind == "state":
                pending.append(value.next)
    return [found[number] for number in sorted(found)]  # a value is made after its inputs


def viewed(value: Value) -> Value:
    """Return what is computed, or given, of which a value is a view."""
    while value.kind in VIEWS:
        value = value.inputs[0]
    return value


def is_alias(value: Value) -> bool:
    """Say whether a value is its input in another shape."""
    return value.kind == "slice" and value.start == 0 and value.size == value.inputs[0].size


def unshaped(value: Value) -> Value:
    """Return what a value is another shape of."""
    while is_alias(value):
        value = value.inputs[0]
    return value
