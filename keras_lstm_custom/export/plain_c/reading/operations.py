"""Operations of Keras, `keras.ops`, on values: by the name of their class, with the axes as Keras counts them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_lstm_custom.export.plain_c.graph.ir import Value
from keras_lstm_custom.export.plain_c.reading import functions
from keras_lstm_custom.export.plain_c.reading.frame import TIME, Frame, Turned, Unsupported
from keras_lstm_custom.export.plain_c.reading.functions import ACTIVATIONS

Lowering = Callable[[Frame, Any, list[Any]], Any]


def _mean(frame: Frame, op: Any, x: Value) -> Value:
    return frame.b.map("mul", frame.reduce("add", x, op.axis, op.keepdims), 1 / frame.count(x, op.axis))


def _variance(frame: Frame, op: Any, x: Value) -> Value:
    share = 1 / frame.count(x, op.axis)
    mean = frame.b.map("mul", frame.reduce("add", x, op.axis, True), share)
    away = frame.map("sub", x, mean)
    return frame.b.map("mul", frame.reduce("add", frame.b.map("mul", away, away), op.axis, op.keepdims), share)


def _matmul(frame: Frame, op: Any, args: list[Any]) -> Value | Turned:
    x, kernel = args
    if isinstance(x, Turned) and np.ndim(kernel) == 3:
        rows = np.arange(x.value.size).reshape(x.value.shape)
        blocks = [frame.linear(frame.b.pick(x.value, row), part) for row, part in zip(rows, kernel, strict=True)]
        return Turned(frame.b.reshape(frame.b.concat(blocks, 0), (len(rows), kernel.shape[-1])))
    if isinstance(x, Value) and not isinstance(kernel, Value) and np.ndim(kernel) == 2:
        return frame.linear(x, kernel)
    if isinstance(x, Value) and isinstance(kernel, Value):
        return frame.product(x, kernel)
    raise Unsupported("a product of tensors of these axes")


def _split(frame: Frame, op: Any, args: list[Any]) -> list[Value] | list[Turned]:
    (x,) = args
    if isinstance(x, Turned):
        places = np.arange(x.value.size).reshape(x.value.shape)
        return [Turned(frame.b.pick(x.value, part)) for part in np.split(places, op.indices_or_sections, -1)]
    own = frame.axis(x, op.axis)
    if own == TIME:
        raise Unsupported("a split over time")
    places = np.arange(x.size).reshape(x.shape)
    return [frame.b.pick(x, part) for part in np.split(places, op.indices_or_sections, own)]


def _where(frame: Frame, op: Any, args: list[Any]) -> Value:
    return frame.map("where", *args)


def _expand(frame: Frame, op: Any, args: list[Any]) -> Value:
    (x,), shape = args, list(frame.shape(args[0])[1:])
    shape.insert((op.axis if op.axis >= 0 else op.axis + len(shape) + 2) - 1, 1)
    return frame.reshape(x, shape)


def _squeeze(frame: Frame, op: Any, args: list[Any]) -> Value:
    shape = frame.shape(args[0])
    axes = [n for n, size in enumerate(shape) if size == 1 and n] if op.axis is None else np.atleast_1d(op.axis)
    gone = {int(axis) % len(shape) for axis in axes}
    return frame.reshape(args[0], [size for n, size in enumerate(shape) if n and n not in gone])


def _exchanged(frame: Frame, op: Any, args: list[Any]) -> Value:
    order = list(range(len(frame.shape(args[0]))))
    a, c = op.axis1, op.axis2
    order[a], order[c] = order[c], order[a]
    return frame.transpose(args[0], order)


def _stack(frame: Frame, op: Any, args: list[Any]) -> Value:
    (values,) = args
    rank = len(frame.shape(values[0]))
    axis = op.axis % (rank + 1)
    wider = [frame.reshape(x, [*frame.shape(x)[1:axis], 1, *frame.shape(x)[axis:]]) for x in values]
    return frame.concatenate(wider, axis)


def _flip(frame: Frame, op: Any, args: list[Any]) -> Value:
    (x,) = args
    own = frame.axis(x, op.axis)
    if own == TIME:
        return frame.b.reverse(x)
    return frame.b.pick(x, np.flip(np.arange(x.size).reshape(x.shape), own))


def _normalize(frame: Frame, op: Any, args: list[Any]) -> Value:
    if op.order != 2:
        raise Unsupported(f"normalize of the order {op.order}")
    return frame.of_length_one(args[0], op.axis, (op.epsilon or keras.config.epsilon()) ** 2)


def _like(value: float) -> Lowering:
    return lambda frame, op, args: frame.b.const(np.full(args[0].shape, value))


def _pair(fn: str, turned: bool = False) -> Lowering:
    return lambda frame, op, args: frame.map(fn, *(args[::-1] if turned else args))


def _truths(fn: str) -> Lowering:
    return lambda frame, op, args: frame.map(fn, *(functions.truth(frame.b, x) for x in args))


def _max(frame: Frame, op: Any, args: list[Any]) -> Value:
    found = frame.reduce("max", args[0], op.axis, op.keepdims)
    return found if op.initial is None else frame.b.map("max", found, float(op.initial))


def _one(activation: Any) -> Lowering:
    return lambda frame, op, args: activation(frame.b, args[0], op)


OPERATIONS: dict[str, Lowering] = {
    **{name: _one(f) for name, f in ACTIVATIONS.items()},
    **{name: _pair(fn) for name, fn in {
        **{"Add": "add", "Subtract": "sub", "Multiply": "mul", "Divide": "div", "TrueDivide": "div"},
        **{"Maximum": "max", "Minimum": "min", "Power": "pow", "Equal": "eq", "NotEqual": "ne", "Greater": "gt"},
        **{"GreaterEqual": "ge"},
    }.items()},
    "LogicalAnd": _truths("min"),
    "LogicalOr": _truths("max"),
    "Less": _pair("gt", turned=True),
    "LessEqual": _pair("ge", turned=True),
    "Softmax": lambda frame, op, args: frame.softmax(args[0], op.axis),
    "LogSoftmax": lambda frame, op, args: frame.softmax(args[0], op.axis, logarithm=True),
    "Sparsemax": lambda frame, op, args: frame.along(
        args[0], frame.axis(args[0], op.axis), lambda x: functions.sparsemax(frame.b, x)
    ),
    "Glu": lambda frame, op, args: _glu(frame, args[0], op.axis),
    "Sum": lambda frame, op, args: frame.reduce("add", args[0], op.axis, op.keepdims),
    "Max": _max,
    "Any": lambda frame, op, args: frame.reduce("max", functions.truth(frame.b, args[0]), op.axis, op.keepdims),
    "Mean": lambda frame, op, args: _mean(frame, op, args[0]),
    "Var": lambda frame, op, args: _variance(frame, op, args[0]),
    "Std": lambda frame, op, args: frame.b.map("sqrt", _variance(frame, op, args[0])),
    "Matmul": _matmul,
    "Dot": _matmul,
    "Split": _split,
    "Concatenate": lambda frame, op, args: frame.concatenate(args[0], op.axis),
    "Stack": _stack,
    "Reshape": lambda frame, op, args: frame.reshape(args[0], op.newshape[1:]),
    "Transpose": lambda frame, op, args: frame.transpose(args[0], op.axes or range(len(frame.shape(args[0])))[::-1]),
    "Swapaxes": _exchanged,
    "ExpandDims": _expand,
    "Squeeze": _squeeze,
    "GetItem": lambda frame, op, args: frame.item(*args),
    "Where": _where,
    "Flip": _flip,
    "Normalize": _normalize,
    "ZerosLike": _like(0.0),
    "OnesLike": _like(1.0),
}  # fmt: skip


def _glu(frame: Frame, x: Value, axis: int) -> Value:
    own = frame.axis(x, axis)
    a, gate = (frame.b.pick(x, part) for part in np.split(np.arange(x.size).reshape(x.shape), 2, own))
    return frame.b.map("mul", a, frame.b.map("sigmoid", gate))
