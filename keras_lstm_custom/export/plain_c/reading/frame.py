"""Tensors of Keras as values: which axis is time, which are those of a step, and what is done along them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_lstm_custom.export.plain_c.graph.builder import Builder
from keras_lstm_custom.export.plain_c.graph.ir import Value
from keras_lstm_custom.export.plain_c.reading import functions


class Unsupported(Exception):
    """There is no C for this; the text says for what."""


TIME = -1  #: in place of an axis of one step's shape


@dataclass(frozen=True)
class Turned:
    """A tensor of one step whose batch stands second, `(n, 1, m)`: as a product for each of n blocks wants it."""

    value: Value  #: `(n, m)`


class Frame:
    """How tensors of Keras are values: of a model, with time as the axis behind the batch; or within one step."""

    def __init__(self, b: Builder, within_step: bool = False):
        """Take the builder, and whether the tensors are those of one step, `(1, ...)`."""
        self.b, self.within_step = b, within_step

    def shape(self, x: Value | Turned) -> tuple[int, ...]:
        """Return the shape of the tensor, with a batch of one."""
        if isinstance(x, Turned):
            return (x.value.shape[0], 1, *x.value.shape[1:])
        return (1, *x.shape) if self.within_step or x.steps is None else (1, x.steps, *x.shape)

    def axis(self, x: Value, axis: int) -> int:
        """Return which axis of one step's shape this is, or TIME."""
        axis = axis % len(self.shape(x))
        if axis == 0:
            raise Unsupported("an operation over the batch")
        if self.within_step or x.steps is None:
            return axis - 1
        return axis - 2 if axis > 1 else TIME

    def flat(self, x: Value) -> Value:
        """Return the tensor as one vector in the shape that it has without its batch."""
        return x if self.within_step else self.b.whole(x)

    def wrap(self, x: Value) -> Value:
        """Return what `flat` was given, from a vector."""
        return x if self.within_step or len(x.shape) < 2 else self.b.steps(x)

    def map(self, fn: str, *inputs: Any) -> Value:
        """Return `Builder.map` with the axes of the tensors brought together."""
        values = [x for x in inputs if isinstance(x, Value)]
        ranks = [len(self.shape(x)) for x in values]
        if not self.within_step and len({x.steps is None for x in values}) > 1 and max(ranks) == 2:
            inputs = tuple(self.flat(x) if isinstance(x, Value) else x for x in inputs)
            values = [x for x in inputs if isinstance(x, Value)]
        rank = max(ranks, default=0)
        timed = not self.within_step and any(x.steps is not None for x in values)
        if timed and any(x.steps is not None and len(self.shape(x)) != rank for x in values):
            raise Unsupported("an operation on sequences of another number of axes")
        return self.b.map(fn, *(x if isinstance(x, Value) else self._constant(x, rank, timed) for x in inputs))

    def _constant(self, array: Any, rank: int, timed: bool) -> Value:
        array = np.asarray(array, np.float64)
        if array.ndim >= rank and array.ndim:
            array = array.reshape(array.shape[array.ndim - rank + 1 :])  # its batch is 1
        if timed and array.ndim == rank - 1:
            return self.b.const(array[0]) if array.shape[0] == 1 else self.b.table(array)
        return self.b.const(array)

    def linear(self, x: Value, kernel: np.ndarray, bias: np.ndarray | None = None) -> Value:
        """Return x W + b over the last axis of the tensor."""
        if not x.shape:
            x = self.flat(x)
        return self.b.linear([(x, kernel)], bias)

    def product(self, x: Value, y: Value) -> Value:
        """Return x y of two computed tensors, over the last axis of x and the one before the last of y."""
        if not self.within_step and y.steps is not None and len(x.shape) == len(y.shape) == 1:
            return self.b.mix(y, x)
        if not self.within_step or len(x.shape) != 2 or len(y.shape) != 2:
            raise Unsupported("a product of two computed tensors of these axes")
        rows, inner = x.shape
        turned = self.b.pick(y, np.arange(y.size).reshape(y.shape).T)
        products = self.b.map("mul", self.b.reshape(x, (rows, 1, inner)), self.b.reshape(turned, (1, *turned.shape)))
        return self.b.reduce("add", products, keep=False)

    def reduce(self, fn: str, x: Value, axes: Any, keep: bool) -> Value:
        """Return the sum or the largest over axes."""
        rank = len(self.shape(x))
        axes = range(1, rank) if axes is None else [axes] if isinstance(axes, int) else axes
        own = [self.axis(x, axis) for axis in axes]
        inner = sorted(axis for axis in own if axis != TIME)
        if inner:
            others = [axis for axis in range(len(x.shape)) if axis not in inner]
            places = np.arange(x.size).reshape(x.shape).transpose(*others, *inner)
            kept = [x.shape[axis] for axis in others]
            after = [1 if axis in inner else size for axis, size in enumerate(x.shape)] if keep else kept
            x = self.b.reshape(self.b.pick(x, places.reshape(*kept, -1)), (*kept, x.size // int(np.prod(kept))))
            x = self.b.reshape(self.b.reduce(fn, x), after)
        if TIME in own:
            x = self.b.over_time(fn, x)
            x = self.b.repeat(x, 1) if keep else x
        return x

    def count(self, x: Value, axes: Any) -> int:
        """Return how many numbers a reduction over these axes brings together."""
        shape = self.shape(x)
        axes = range(1, len(shape)) if axes is None else [axes] if isinstance(axes, int) else axes
        return int(np.prod([shape[axis] for axis in axes]))

    def of_length_one(self, x: Value, axis: Any, least: float = 1e-12) -> Value:
        """Return x over the root of its squares' sum, which is at least `least` before the root."""
        square = self.reduce("add", self.b.map("mul", x, x), axis, True)
        return self.map("div", x, self.b.map("sqrt", self.b.map("max", square, least)))

    def softmax(self, x: Value, axis: Any, logarithm: bool = False) -> Value:
        """Return the softmax over one axis."""
        axis, *more = [axis] if isinstance(axis, int) else axis
        if more:
            raise Unsupported("a softmax over several axes")
        own = self.axis(x, axis)
        if own == TIME:
            if logarithm:
                raise Unsupported("a log-softmax over time")
            return functions.softmax_over_time(self.b, x)
        return self.along(x, own, lambda moved: functions.softmax(self.b, moved, logarithm))

    def along(self, x: Value, axis: int, function: Callable[[Value], Value]) -> Value:
        """Apply what works on the last axis to another one of a step's."""
        last = len(x.shape) - 1
        if axis == last:
            return function(x)
        moved = function(self.b.pick(x, np.moveaxis(np.arange(x.size).reshape(x.shape), axis, last)))
        return self.b.pick(moved, np.moveaxis(np.arange(x.size).reshape(moved.shape), last, axis))

    def reshape(self, x: Value, shape: Any) -> Value:
        """Return the tensor in another shape, without the batch; one size may be -1."""
        total = x.size * (1 if self.within_step else x.steps or 1)
        known = int(np.prod([size for size in shape if size != -1], dtype=int))
        shape = tuple(total // known if size == -1 else int(size) for size in shape)
        if not self.within_step and x.steps is not None and len(shape) > 1 and shape[0] == x.steps:
            return self.b.reshape(x, shape[1:])
        return self.wrap(self.b.reshape(self.flat(x), shape))

    def transpose(self, x: Value | Turned, axes: Any) -> Any:
        """Return the tensor with its axes in another order; the batch stays, or changes places within a step."""
        if isinstance(x, Turned):
            return x.value
        axes = [axis % len(self.shape(x)) for axis in axes]
        if self.within_step and axes == [1, 0, 2]:
            return Turned(x)
        if axes[0] != 0:
            raise Unsupported("an operation over the batch")
        if not self.within_step and x.steps is not None and axes[1] == 1:
            inner = [axis - 2 for axis in axes[2:]]
            return self.b.pick(x, np.arange(x.size).reshape(x.shape).transpose(inner))
        flat = self.flat(x)
        places = np.arange(flat.size).reshape(flat.shape).transpose([axis - 1 for axis in axes[1:]])
        return self.wrap(self.b.pick(flat, places))

    def concatenate(self, values: Any, axis: int) -> Value:
        """Return tensors joined along an axis."""
        values = [x if isinstance(x, Value) else self.b.const(np.asarray(x)[0]) for x in values]
        own = self.axis(values[0], axis)
        if own == TIME:
            return self.wrap(self.b.concat([self.flat(x) for x in values], 0))
        return self.b.concat(values, own)

    def item(self, x: Value, key: Any) -> Value:
        """Return x[key]."""
        key = list(key) if isinstance(key, (tuple, list)) else [key]
        rank = len(self.shape(x))
        if Ellipsis in key:
            place = key.index(Ellipsis)
            given = sum(part is not None for part in key) - 1
            key[place : place + 1] = [slice(None)] * (rank - given)
        if key[0] not in (slice(None), slice(0, None)) or any(isinstance(part, Value) for part in key):
            raise Unsupported("an index of the batch, or one that is computed")
        key = key[1:]
        if self.within_step or x.steps is None or not key or key[0] is None:
            flat = self.flat(x)
            return self.wrap(self.b.pick(flat, np.arange(flat.size).reshape(flat.shape)[tuple(key)]))
        inner = np.arange(x.size).reshape(x.shape)[tuple(key[1:])]
        if isinstance(key[0], slice):
            steps = x.steps
            chosen = range(steps)[key[0]]
            if chosen != range(steps):
                if chosen.step < 0:
                    x, chosen = self.b.reverse(x), range(steps)[steps - 1 - chosen.start :: -chosen.step]
                x = self.b.reshape(self.b.window(x, 1, chosen.step, 1, -chosen.start, len(chosen)), x.shape)
        else:
            x = self.b.last(x) if key[0] in (-1, (x.steps or 1) - 1) else self.b.at(x, key[0])
        return self.b.pick(x, inner)
