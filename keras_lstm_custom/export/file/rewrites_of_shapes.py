"""Ops that move values, cut and join, written in those that both runtimes have, with the limits of either."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_lstm_custom.export.file.flatbuffer import Op, Type, schema
from keras_lstm_custom.export.file.graph import Graph
from keras_lstm_custom.export.file.rewriter import Rewrite, Rewriter, Rewritten

MOST_JOINED = 10  #: inputs of a CONCATENATION (tflite-micro, `kMaxInputNum` in concatenation.cc)
MOST_AXES = 4  #: of a STRIDED_SLICE (tflite-micro, strided_slice_common.cc); a SLICE takes five


def _tile(w: Rewriter) -> Rewritten:
    """Repeat by a new axis of size 1 before each repeated one, which is then broadcast."""
    times = w.graph.value(w.inputs[1])
    if times is None:
        return None
    apart: list[int] = []
    wide: list[int] = []
    for size, count in zip(w.shape(w.inputs[0]), times.ravel().tolist(), strict=True):
        if count > 1 and size > 1:
            apart, wide = [*apart, 1, size], [*wide, count, size]
        else:
            apart, wide = [*apart, size], [*wide, size * count]
    x = w.inputs[0] if len(apart) == len(w.shape(w.inputs[0])) else w.reshaped(w.inputs[0], apart)
    plain = len(wide) == len(w.shape(w.output))
    target = w.output if plain else (tuple(wide), w.dtype(x))
    y = w.op(Op.BROADCAST_TO, [x, w.constant(wide, np.int32)], target, version=3 if _is_small(w.dtype(x)) else 2)
    if not plain:
        w.reshaped(y, w.shape(w.output), w.output)
    return w.made


def _is_small(dtype: Any) -> bool:
    return dtype is not None and dtype.itemsize < 4


def _select(w: Rewriter) -> Rewritten:
    condition, yes, no = w.inputs
    ranks = len(w.shape(condition)), len(w.shape(yes))
    if ranks[0] == 1 and ranks[1] > 1:  # it chooses rows
        condition = w.reshaped(condition, [*w.shape(condition), *[1] * (ranks[1] - 1)])
    w.op(Op.SELECT_V2, [condition, yes, no], w.output)
    return w.made


def _unpack(w: Rewriter) -> Rewritten:
    """Cut a row of bools into its parts; there is an op for other types."""
    x, axis = w.inputs[0], w.options.axis % len(w.shape(w.inputs[0]))
    shape = w.shape(x)
    if w.graph.tensors[x].type != Type.BOOL or len(shape) > MOST_AXES:
        return None
    for number, output in enumerate(map(int, w.operator.outputs)):
        begin, end = [0] * len(shape), list(shape)
        begin[axis], end[axis] = number, number + 1
        options = schema.StridedSliceOptionsT()
        options.shrinkAxisMask = 1 << axis
        ends = [w.constant(values, np.int32) for values in (begin, end, [1] * len(shape))]
        w.op(Op.STRIDED_SLICE, [x, *ends], output, options, version=3)
    return w.made


def _strided_slice(w: Rewriter) -> Rewritten:
    """Cut from more axes than four by SLICE, neighbours of which all is taken as one axis."""
    shape = w.shape(w.inputs[0])
    values = [w.graph.value(index) for index in w.inputs[1:]]
    if len(shape) <= MOST_AXES or any(v is None for v in values) or w.options.ellipsisMask or w.options.newAxisMask:
        return None
    begin, end, stride = ([int(v) for v in array.ravel()] for array in values if array is not None)
    if stride != [1] * len(shape):
        return None
    parts: list[list[int]] = []  #: size, first, count of each axis
    for axis, size in enumerate(shape):
        first = 0 if w.options.beginMask >> axis & 1 else begin[axis]
        first, last, _ = slice(first, None if w.options.endMask >> axis & 1 else end[axis]).indices(size)
        if w.options.shrinkAxisMask >> axis & 1:
            last = first + 1
        whole = last - first == size
        if whole and parts and parts[-1][0] == parts[-1][2]:
            parts[-1] = [parts[-1][0] * size, 0, parts[-1][2] * size]
        else:
            parts.append([size, first, last - first])
    sizes, firsts, counts = (list(column) for column in zip(*parts, strict=True))
    x = w.reshaped(w.inputs[0], sizes)
    ends = [w.constant(values, np.int32) for values in (firsts, counts)]
    cut = w.op(Op.SLICE, [x, *ends], (tuple(counts), w.dtype(x)), version=5 if len(sizes) > MOST_AXES else 1)
    w.reshaped(cut, w.shape(w.output), w.output)
    return w.made


def positions_read(graph: Graph, operator: Any) -> list[int]:
    """Return how many rows and columns of its input a convolution reads."""
    options = operator.builtinOptions
    x, kernel, y = (graph.shape(int(i))[1:3] for i in (*operator.inputs[:2], operator.outputs[0]))
    if options.padding != schema.Padding.VALID:
        return list(x)
    strides, dilations = (options.strideH, options.strideW), (options.dilationHFactor, options.dilationWFactor)
    return [(n - 1) * s + (k - 1) * d + 1 for n, s, k, d in zip(y, strides, kernel, dilations, strict=True)]


def _convolution(w: Rewriter) -> Rewritten:
    """Cut off the last positions that a strided convolution without padding does not read.

    Helium's kernels of CMSIS-NN leave out a tap of the last output where they are there (measured, in int8).
    """
    shape, read = w.shape(w.inputs[0]), positions_read(w.graph, w.operator)
    wanted = (shape[0], *read, shape[3])
    if wanted == shape:
        return None
    ends = [w.constant(values, np.int32) for values in ([0] * 4, wanted)]
    cut = w.op(Op.SLICE, [w.inputs[0], *ends], (wanted, w.dtype(w.inputs[0])))
    version = w.graph.model.operatorCodes[w.operator.opcodeIndex].version
    w.op(w.graph.code(w.operator), [cut, *w.inputs[1:]], w.output, w.options, version)
    return w.made


def _concatenation(w: Rewriter) -> Rewritten:
    """Join in groups."""
    if len(w.inputs) <= MOST_JOINED:
        return None
    axis = w.options.axis % len(w.shape(w.output))
    parts = w.inputs
    while len(parts) > MOST_JOINED:
        groups = [parts[k : k + MOST_JOINED] for k in range(0, len(parts), MOST_JOINED)]
        parts = [group[0] if len(group) == 1 else _joined(w, group, axis) for group in groups]
    w.op(Op.CONCATENATION, parts, w.output, w.options)
    return w.made


def _joined(w: Rewriter, parts: Sequence[int], axis: int) -> int:
    shape = list(w.shape(parts[0]))
    shape[axis] = sum(w.shape(part)[axis] for part in parts)
    return w.op(Op.CONCATENATION, parts, (tuple(shape), w.dtype(w.output)), w.options)


SHAPES: dict[int, Rewrite] = {
    Op.CONCATENATION: _concatenation,
    Op.CONV_2D: _convolution,
    Op.DEPTHWISE_CONV_2D: _convolution,
    Op.SELECT: _select,
    Op.STRIDED_SLICE: _strided_slice,
    Op.TILE: _tile,
    Op.UNPACK: _unpack,
}
