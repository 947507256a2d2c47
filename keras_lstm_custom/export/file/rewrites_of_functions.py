"""Functions that the microcontroller runtime lacks, written in elementary ones that both runtimes have."""

from __future__ import annotations

import math

import numpy as np

from keras_lstm_custom.export.file.flatbuffer import Op, schema
from keras_lstm_custom.export.file.rewriter import Rewrite, Rewriter, Rewritten

#: Part of the name of a tensor between ops that are one function together: in integers their rounding would add up.
FINE = "/in_float_"


def _reduce_any(w: Rewriter) -> Rewritten:
    x, axes = w.inputs
    as_float = w.cast(x, np.float32)
    largest = w.op(Op.REDUCE_MAX, [as_float, axes], (w.shape(w.output), np.float32), w.options)
    w.op(Op.GREATER, [largest, w.constant(0.5)], w.output)
    return w.made


def _one_hot(w: Rewriter) -> Rewritten:
    depth, on, off = (w.graph.value(index) for index in w.inputs[1:])
    indices, axis = _as_int32(w, w.inputs[0]), w.options.axis
    last = axis in (-1, len(w.shape(w.output)) - 1)
    if depth is None or on is None or off is None or not last or indices is None:
        return None
    column = w.reshaped(indices, [*w.shape(indices), 1])
    classes = w.constant(np.arange(int(depth)).reshape([1] * len(w.shape(indices)) + [-1]), np.int32)
    hit = w.op(Op.EQUAL, [column, classes], (w.shape(w.output), np.bool_))
    w.op(Op.SELECT_V2, [hit, w.inputs[2], w.inputs[3]], w.output)
    return w.made


def _as_int32(w: Rewriter, index: int) -> int | None:
    """Return whole numbers as int32: as they are, or as they were before they became int64."""
    if w.dtype(index) == np.int32:
        return index
    makers = [operator for operator in w.graph.of(Op.CAST) if index in operator.outputs]
    source = int(makers[0].inputs[0]) if makers else index
    if w.dtype(source) == np.int32:
        return source
    if w.dtype(source) != np.float32:
        return None
    return w.cast(source, np.int32)


def _bucketize(w: Rewriter) -> Rewritten:
    """Count the boundaries that a value has reached."""
    x = w.inputs[0]
    if w.dtype(x) != np.float32:
        return None
    wide = (*w.shape(x), len(w.options.boundaries))
    column = w.reshaped(x, [*w.shape(x), 1])
    bounds = w.constant(np.reshape(w.options.boundaries, [1] * len(w.shape(x)) + [-1]))
    reached = w.op(Op.GREATER_EQUAL, [column, bounds], (wide, np.bool_))
    each = w.cast(reached, np.float32)
    last = w.constant([len(wide) - 1], np.int32)
    count = w.op(Op.SUM, [each, last], (w.shape(x), np.float32), schema.ReducerOptionsT())
    w.cast(count, np.int32, w.output)
    return w.made


def _clipped(w: Rewriter) -> Rewritten:
    below = w.op(Op.MINIMUM, [w.inputs[0], w.constant(1.0)])
    w.op(Op.MAXIMUM, [below, w.constant(-1.0)], w.output)
    return w.made


def _sign(w: Rewriter) -> Rewritten:
    x, zero = w.inputs[0], w.constant(0.0)
    if w.dtype(x) != np.float32:
        return None
    sides = []
    for code in (Op.GREATER, Op.LESS):
        side = w.op(code, [x, zero], (w.shape(x), np.bool_))
        sides.append(w.cast(side, np.float32))
    w.op(Op.SUB, sides, w.output)
    return w.made


def _pow(w: Rewriter) -> Rewritten:
    x, exponent = w.inputs[0], w.graph.value(w.inputs[1])
    if exponent is None or exponent.size != 1 or w.dtype(x) != np.float32:
        return None
    n = float(exponent.ravel()[0])
    if n in (0.5, -0.5):
        w.op(Op.SQRT if n > 0 else Op.RSQRT, [x], w.output)
    elif n in (2.0, 3.0, 4.0):
        square = w.op(Op.MUL, [x, x], w.output if n == 2 else None)
        if n > 2:
            w.op(Op.MUL, [square, x if n == 3 else square], w.output)
    else:
        return None
    return w.made


def _gelu(w: Rewriter) -> Rewritten:
    """Write x Φ(x), or its form with a tanh, in elementary functions."""
    x, w.between = w.inputs[0], FINE
    if w.options.approximate:
        cubic = w.op(Op.MUL, [w.op(Op.MUL, [x, x]), w.constant(0.044715)])
        inner = w.op(Op.MUL, [x, w.op(Op.ADD, [cubic, w.constant(1.0)])])
        part = w.op(Op.TANH, [w.op(Op.MUL, [inner, w.constant(math.sqrt(2 / math.pi))])])
        w.op(Op.MUL, [w.op(Op.MUL, [x, w.constant(0.5)]), w.op(Op.ADD, [part, w.constant(1.0)])], w.output)
        return w.made
    # x Φ(x) = (x + |x| erf(|x| / √2)) / 2, and for z >= 0 (Abramowitz and Stegun, 7.1.26, error 1.5e-7)
    # erf(z) = 1 - (a1 t + ... + a5 t⁵) exp(-z²), t = 1 / (1 + 0.3275911 z).
    size = w.op(Op.ABS, [x])
    z = w.op(Op.MUL, [size, w.constant(math.sqrt(0.5))])
    one = w.constant(np.ones([1] * len(w.shape(x))))
    t = w.op(Op.DIV, [one, _plus(w, z, 0.3275911, 1.0)], (w.shape(x), np.float32))
    series = w.op(Op.MUL, [t, w.constant(1.061405429)])
    for coefficient in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
        series = w.op(Op.MUL, [t, w.op(Op.ADD, [series, w.constant(coefficient)])])
    tail = w.op(Op.MUL, [series, w.op(Op.EXP, [w.op(Op.NEG, [w.op(Op.MUL, [z, z])])])])
    both = w.op(Op.ADD, [x, w.op(Op.SUB, [size, w.op(Op.MUL, [size, tail])])])
    w.op(Op.MUL, [both, w.constant(0.5)], w.output)
    return w.made


def _plus(w: Rewriter, x: int, factor: float, addend: float) -> int:
    return w.op(Op.ADD, [w.op(Op.MUL, [x, w.constant(factor)]), w.constant(addend)])


FUNCTIONS: dict[int, Rewrite] = {
    Op.BUCKETIZE: _bucketize,
    Op.GELU: _gelu,
    Op.ONE_HOT: _one_hot,
    Op.POW: _pow,
    Op.REDUCE_ANY: _reduce_any,
    Op.RELU_N1_TO_1: _clipped,
    Op.SIGN: _sign,
}
