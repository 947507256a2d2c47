"""The graph in NumPy and float64: what its values are for real input, from which integers get their scales."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from keras_lstm_custom.export.plain_c.graph.ir import ANYWHERE, FUNCTIONS, Value, ordered

Found = dict[int, np.ndarray]


def run(outputs: Sequence[Value], inputs: Sequence[np.ndarray]) -> Found:
    """Return every value by its number, `(rows, size)` or `(rows, steps, size)`.

    Args:
        outputs: what is wanted.
        inputs: of the model, `(rows, ...)` each.
    """
    found: Found = {}
    for values in _together(ordered(outputs)):
        group = values[0].group
        if group is None or not any(value.kind == "state" for value in values):
            for value in values:
                found[value.number] = _computed(value, [found[v.number] for v in value.inputs], inputs)
        else:
            _loop(values, found, inputs)
    return found


def _together(values: Sequence[Value]) -> Iterator[list[Value]]:
    """Yield values of one group together, others alone."""
    groups: dict[Any, list[Value]] = {}
    for value in values:
        groups.setdefault(value.number if value.group is None else ("group", value.group), []).append(value)
    yield from groups.values()


def _loop(values: list[Value], found: Found, inputs: Sequence[np.ndarray]) -> None:
    """Compute a recurrence step by step, and before it what does not depend on a state."""
    rows = len(inputs[0])
    changing: set[int] = set()
    for value in values:
        if value.kind == "state" or any(v.number in changing for v in value.inputs):
            changing.add(value.number)
        else:
            found[value.number] = _computed(value, [found[v.number] for v in value.inputs], inputs)
    stepped = [value for value in values if value.number in changing]
    states = [value for value in stepped if value.kind == "state"]
    steps = states[0].steps or 1
    now: Found = {}
    for state in states:
        start = found[state.inputs[0].number] if state.inputs else np.zeros((1, state.size))
        now[state.number] = np.broadcast_to(start, (rows, state.size))
    kept: dict[int, list[np.ndarray]] = {value.number: [] for value in stepped}
    outside = {v.number: v for value in stepped for v in value.inputs if v.number not in changing}
    for t in range(steps):
        for value in stepped:
            if value.kind != "state":
                arrays = []
                for place, v in enumerate(value.inputs):
                    at_step = (
                        v.number in outside and v.steps is not None and not (value.kind in ANYWHERE and place == 0)
                    )
                    array = now[v.number] if v.number in changing else found[v.number]
                    arrays.append(array[:, t] if at_step else array)
                now[value.number] = _computed(value, arrays, inputs)
            kept[value.number].append(now[value.number])
        now.update({state.number: _next(state, now, found, t) for state in states})
    found.update({number: np.stack(np.broadcast_arrays(*parts), 1) for number, parts in kept.items()})


def _next(state: Value, now: Found, found: Found, t: int) -> np.ndarray:
    following = state.next
    if following.number in now:
        return now[following.number]
    return found[following.number][:, t] if following.steps is not None else found[following.number]


def _computed(value: Value, arrays: list[np.ndarray], inputs: Sequence[np.ndarray]) -> np.ndarray:
    """Return a value of what its inputs are: of one step, or of all of them."""
    rank = max((array.ndim for array in arrays), default=2)
    if value.kind not in ANYWHERE and value.kind not in ("steps", "repeat", "last"):
        arrays = [array[:, None] if array.ndim < rank else array for array in arrays]
    return KINDS[value.kind](value, arrays, inputs)


def _input(value: Value, arrays: Any, inputs: Sequence[np.ndarray]) -> np.ndarray:
    array = np.asarray(inputs[value.index], np.float64)
    return array.reshape(len(array), *([value.steps] if value.steps is not None else []), value.size)


def _linear(value: Value, arrays: list[np.ndarray], inputs: Any) -> np.ndarray:
    parts = zip(arrays, value.kernels, strict=True)
    total: Any = value.bias + sum(read_by(value, array, kernel) @ kernel for array, kernel in parts)
    return total.reshape(*total.shape[:-2], -1)


def read_by(value: Value, array: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Return what a product reads of one of its inputs, `(..., positions, columns)`."""
    lead = array.shape[:-1]
    if "hop" in value.attributes:
        array = array[..., np.arange(value.shape[0])[:, None] * value.hop + np.arange(len(kernel))]
    return array.reshape(*lead, -1, len(kernel))


def _reduce(value: Value, arrays: list[np.ndarray], inputs: Any) -> np.ndarray:
    (x,) = arrays
    x = x.reshape(*x.shape[:-1], -1, value.inputs[0].shape[-1])
    if value.fn == "sparsemax":
        ranked = -np.sort(-x, axis=-1)
        sums = np.cumsum(ranked, axis=-1)
        left = ranked - (sums - 1) / np.arange(1, x.shape[-1] + 1) > 0
        return ((sums * left).sum(-1) - 1) / left.sum(-1)  # as Keras has it, which is not the paper's
    if value.fn == "rms":
        return np.sqrt((x * x).sum(-1) / value.count + value.epsilon)
    return x.sum(-1) if value.fn == "add" else x.max(-1)


def _gather(value: Value, arrays: list[np.ndarray], inputs: Any) -> np.ndarray:
    tokens = arrays[0].astype(int)
    rows = value.array[np.clip(tokens, 0, len(value.array) - 1)]
    return rows.reshape(*tokens.shape[:-1], -1)


def _window(value: Value, arrays: list[np.ndarray], inputs: Any) -> np.ndarray:
    (x,) = arrays
    taps = np.arange(value.steps)[:, None] * value.stride - value.before + np.arange(value.length) * value.dilation
    there = (taps >= 0) & (taps < x.shape[1])
    chosen = x[:, np.clip(taps, 0, x.shape[1] - 1)] * there[..., None]
    return chosen.reshape(len(x), len(taps), -1)


def _constant(value: Value, arrays: Any, inputs: Any) -> np.ndarray:
    return value.array[None]


KINDS: dict[str, Any] = {
    "input": _input,
    "const": _constant,
    "table": _constant,
    "map": lambda v, arrays, _: FUNCTIONS[v.fn](*arrays),
    "linear": _linear,
    "reduce": _reduce,
    "gather": _gather,
    "concat": lambda v, arrays, _: np.concatenate(
        [np.broadcast_to(a, (*np.broadcast_shapes(*(b.shape[:-1] for b in arrays)), a.shape[-1])) for a in arrays], -1
    ),
    "pick": lambda v, arrays, _: arrays[0][..., v.places],
    "slice": lambda v, arrays, _: arrays[0][..., v.start : v.start + v.size],
    "load": lambda v, arrays, _: (arrays[0] - v.offset) * v.factor,
    "window": _window,
    "reverse": lambda v, arrays, _: arrays[0][:, ::-1],
    "last": lambda v, arrays, _: arrays[0][:, -1],
    "at": lambda v, arrays, _: arrays[0][:, v.step],
    "whole": lambda v, arrays, _: arrays[0].reshape(len(arrays[0]), -1),
    "steps": lambda v, arrays, _: arrays[0].reshape(len(arrays[0]), v.steps, -1),
    "repeat": lambda v, arrays, _: np.repeat(arrays[0][:, None], v.steps, 1),
    "dots": lambda v, arrays, _: np.einsum("btn,b...n->b...t", *arrays),
    "mix": lambda v, arrays, _: np.einsum("btn,b...t->b...n", *arrays),
}
