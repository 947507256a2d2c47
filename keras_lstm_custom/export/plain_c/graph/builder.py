"""Makes the values of a graph: what stands at its beginning, elementwise values, products, and reading over time."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from keras_lstm_custom.export.plain_c.graph.ir import FUNCTIONS, LOWEST, VIEWS, Value, unshaped, viewed


class Builder:
    """Makes values; knows the layer that is being read, and the loop that must stay together."""

    def __init__(self) -> None:
        self.layer = ""
        self._group: int | None = None
        self._groups = itertools.count()

    def new(self, kind: str, inputs: Sequence[Value], steps: int | None, shape: Sequence[int], **more: Any) -> Value:
        value = Value(kind, inputs, steps, shape, **more)
        value.group, value.layer = self._group, self.layer
        return value

    @contextmanager
    def one_loop(self) -> Iterator[None]:
        """Let what is made inside the block be computed in one loop."""
        before = self._group
        self._group = next(self._groups) if before is None else before
        try:
            yield
        finally:
            self._group = before

    # Leaves

    def const(self, array: Any) -> Value:
        array = np.asarray(array, np.float64)
        return self.new("const", [], None, array.shape, array=array.reshape(-1))

    def table(self, array: np.ndarray) -> Value:
        """Return a constant for each step, `(steps, ...)`."""
        return self.new("table", [], array.shape[0], array.shape[1:], array=array.reshape(len(array), -1))

    def state(self, steps: int, shape: Sequence[int], initial: Value | None = None) -> Value:
        """Return a state, of zeros at first or of what `initial` is; its `next` is set by `carry`."""
        return self.new("state", [] if initial is None else [initial], steps, shape, next=None, name="state")

    def carry(self, state: Value, following: Value) -> None:
        state.attributes["next"] = following

    # Elementwise

    def map(self, fn: str, *inputs: Value | float | np.ndarray) -> Value:
        """Return a function of numbers at the same place of each input; inputs broadcast as in NumPy."""
        values = [value if isinstance(value, Value) else self.const(value) for value in inputs]
        values = [self.last(v) if v.steps == 1 and any((u.steps or 0) > 1 for u in values) else v for v in values]
        shape = np.broadcast_shapes(*(value.shape for value in values))
        steps = next((value.steps for value in values if value.steps is not None), None)
        if any(value.steps not in (None, steps) for value in values):
            raise ValueError(f"sequences of {' and '.join(str(v.steps) for v in values)} steps")
        if all(value.kind == "const" for value in values):
            return self.const(FUNCTIONS[fn](*(v.array.reshape(v.shape) for v in values)))
        return self.new("map", [self._broadcast(value, shape) for value in values], steps, shape, fn=fn)

    def _broadcast(self, value: Value, shape: tuple[int, ...]) -> Value:
        if value.shape == shape or value.size == 1:
            return value
        if value.size == int(np.prod(shape, dtype=int)):
            return self.reshape(value, shape)
        if value.kind == "const":
            return self.const(np.broadcast_to(value.array.reshape(value.shape), shape))
        places = np.broadcast_to(np.arange(value.size).reshape(value.shape), shape)
        return self.pick(value, places)

    # Vectors

    def linear(self, parts: Sequence[tuple[Value, np.ndarray]], bias: np.ndarray | None = None) -> Value:
        """Return Σ x W + b over the last axis of each x; W `(inputs, outputs)`."""
        (x, kernel), *_ = parts
        shape = (*x.shape[:-1], kernel.shape[1])
        return self.new(
            "linear",
            [value for value, _ in parts],
            next((value.steps for value, _ in parts if value.steps is not None), None),
            shape,
            kernels=[np.asarray(kernel, np.float64) for _, kernel in parts],
            bias=np.zeros(kernel.shape[1]) if bias is None else np.asarray(bias, np.float64),
        )

    def slide(self, parts: Sequence[tuple[Value, np.ndarray]], bias: np.ndarray, positions: int, hop: int) -> Value:
        """Return at each position p what `linear` makes of the numbers of each x from p · hop on."""
        found = self.linear([(self.reshape(x, (x.size,)), kernel) for x, kernel in parts], bias)
        found.shape = (positions, parts[0][1].shape[1])
        found.attributes["hop"] = hop
        return found

    def reduce(self, fn: str, x: Value, keep: bool = True) -> Value:
        """Return the sum or the largest of the last axis."""
        return self.new("reduce", [x], x.steps, (*x.shape[:-1], 1) if keep else x.shape[:-1], fn=fn)

    def pick(self, x: Value, places: np.ndarray) -> Value:
        """Return the numbers of `x` at places of its flat form."""
        flat = places.reshape(-1)
        if flat.size and np.array_equal(flat, np.arange(flat[0], flat[0] + flat.size)):
            if flat.size == x.size:
                return self.reshape(x, places.shape)
            return self.new("slice", [x], x.steps, places.shape, start=int(flat[0]))
        if x.kind == "const":
            return self.const(x.array[places])
        return self.new("pick", [x], x.steps, places.shape, places=flat)

    def reshape(self, x: Value, shape: Sequence[int]) -> Value:
        """Return the same numbers in another shape of one step."""
        if tuple(shape) == x.shape:
            return x
        if x.kind == "const":
            return self.const(x.array.reshape(shape))
        return self.new("slice", [x], x.steps, shape, start=0)

    def concat(self, values: Sequence[Value], axis: int = -1) -> Value:
        """Return values joined along an axis of one step's shape."""
        steps = next((value.steps for value in values if value.steps is not None), None)
        if len(values) == 1:
            return values[0]
        flat = self.new("concat", values, steps, (sum(value.size for value in values),))
        starts = np.cumsum([0, *(value.size for value in values)])
        places = np.concatenate(
            [start + np.arange(v.size).reshape(v.shape) for start, v in zip(starts, values, strict=False)], axis
        )
        return self.pick(flat, places)

    def gather(self, table: np.ndarray, token: Value) -> Value:
        """Return the row of a table that a whole number names."""
        return self.new("gather", [token], token.steps, (*token.shape, table.shape[1]), array=np.asarray(table))

    # Time

    def window(self, x: Value, length: int, stride: int, dilation: int, before: int, steps: int) -> Value:
        """Return at step t the steps t·stride − before + k·dilation of x, k < length; zeros where there is none."""
        options = {"length": length, "stride": stride, "dilation": dilation, "before": before}
        return self.new("window", [x], steps, (length, *x.shape), **options)

    def reverse(self, x: Value) -> Value:
        return self.new("reverse", [x], x.steps, x.shape)

    def last(self, x: Value) -> Value:
        """Return what x is after its loop; of an input, too, the step that was read last."""
        if x.steps is None:
            return x
        return self.new("last", [self.map("same", x) if viewed(x).kind == "input" else x], None, x.shape)

    def at(self, x: Value, step: int) -> Value:
        return self.new("at", [x], None, x.shape, step=step % (x.steps or 1))

    def whole(self, x: Value) -> Value:
        """Return all steps of x as one vector `(steps, ...)`."""
        if x.kind == "steps":
            return x.inputs[0]
        return x if x.steps is None else self.new("whole", [self._solid(x)], None, (x.steps, *x.shape))

    def _solid(self, x: Value) -> Value:
        """Return a sequence whose steps stand one behind the other in memory."""
        base = unshaped(x)
        return self.map("same", x) if base.kind in VIEWS and base.kind != "steps" else x

    def steps(self, x: Value) -> Value:
        """Return a vector `(steps, ...)` as a sequence."""
        if x.kind == "whole" and x.shape[0] == x.inputs[0].steps:
            return self.reshape(x.inputs[0], x.shape[1:])
        if x.kind == "map" and all(v.size == 1 or v.kind == "input" for v in x.inputs):  # a mask of tokens
            return self.map(x.fn, *(v if v.size == 1 else self.steps(v) for v in x.inputs))
        return self.new("steps", [x], x.shape[0], x.shape[1:])

    def repeat(self, x: Value, steps: int) -> Value:
        return self.new("repeat", [x], steps, x.shape)

    def dots(self, keys: Value, query: Value) -> Value:
        """Return the product of each step of `keys` with the query: `(steps of keys,)`."""
        return self.new("dots", [self._solid(keys), query], query.steps, (keys.steps or 1,))

    def mix(self, values: Value, weights: Value) -> Value:
        """Return the sum of the steps of `values`, each times its weight."""
        return self.new("mix", [self._solid(values), weights], weights.steps, values.shape)

    def over_time(self, fn: str, x: Value) -> Value:
        """Return the sum or the largest of all steps."""
        with self.one_loop():
            start = None if fn == "add" else self.const(np.full(x.shape, LOWEST))
            total = self.state(x.steps or 1, x.shape, start)
            total.attributes["whole"] = True  # what it gives is that of a whole sequence
            following = self.map(fn, total, x)
            self.carry(total, following)
        return self.last(following)
