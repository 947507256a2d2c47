"""What the microcontroller runtime has no kernel for, written in ops that both runtimes have.

The converter chooses ops for phones. Of those, the microcontroller runtime lacks some (TILE, REDUCE_ANY, GELU, ...),
and others take less there (STRIDED_SLICE four axes, UNPACK no bool, CONCATENATION ten inputs, CAST no 64-bit integers,
a strided convolution no positions that it does not read).
Each has its equal here, so that one file runs on both, whichever layer it comes from.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from keras_lstm_custom.export.file.flatbuffer import NUMPY_TYPES, Op, Type, schema
from keras_lstm_custom.export.file.graph import Graph

MOST_JOINED = 10  #: inputs of a CONCATENATION (tflite-micro, `kMaxInputNum` in concatenation.cc)
MOST_AXES = 4  #: of a STRIDED_SLICE (tflite-micro, strided_slice_common.cc); a SLICE takes five

#: Part of the name of a tensor between ops that are one function together: in integers their rounding would add up.
FINE = "/in_float_"


def portable(graph: Graph) -> None:
    """Put ops that both runtimes have in place of those that the one for microcontrollers lacks."""
    operators: list[Any] = []
    for operator in graph.operators:
        rewrite = REWRITES.get(graph.code(operator))
        operators += (rewrite(_Writer(graph, operator)) if rewrite else None) or [operator]
    graph.operators[:] = operators
    _drop_unread(graph)


def _drop_unread(graph: Graph) -> None:
    """Take away what nothing reads any more: it, too, must have a kernel."""
    kept: list[Any] = []
    read = set(graph.outputs)
    for operator in reversed(graph.operators):
        outputs = {int(index) for index in operator.outputs}
        if outputs & read or any(graph.tensors[index].isVariable for index in outputs):
            kept.append(operator)
            read |= {int(index) for index in operator.inputs}
    graph.operators[:] = kept[::-1]


class _Writer:
    """The operator that is rewritten, and the operators that take its place."""

    def __init__(self, graph: Graph, operator: Any):
        self.graph = graph
        self.operator = operator
        self.options = operator.builtinOptions
        self.inputs = [int(index) for index in operator.inputs]
        self.output = int(operator.outputs[0])
        self.made: list[Any] = []
        self.between = "/portable_"

    def shape(self, index: int) -> tuple[int, ...]:
        return self.graph.shape(index)

    def dtype(self, index: int) -> np.dtype | None:
        return NUMPY_TYPES.get(self.graph.tensors[index].type)

    def constant(self, values: Any, dtype: Any = np.float32) -> int:
        array = np.asarray(values, dtype)
        return self.graph.constant(f"{self.graph.name(self.output)}/portable_constant", array)

    def op(self, code: int, inputs: Sequence[int], target: Any = None, options: Any = None, version: int = 1) -> int:
        """Add an operator that writes a tensor: one that is there (`target`), or a new one of a shape and type."""
        if not isinstance(target, int):
            shape, dtype = target or self._joint(inputs)
            target = self.graph.tensor(
                f"{self.graph.name(self.output)}{self.between}{len(self.graph.tensors)}", shape, dtype
            )
        options = options or getattr(schema, _OPTIONS.get(code, ""), lambda: None)()
        self.made.append(self.graph.operator(code, inputs, [target], options, version))
        return target

    def _joint(self, inputs: Sequence[int]) -> tuple[tuple[int, ...], Any]:
        return np.broadcast_shapes(*map(self.shape, inputs)), self.dtype(inputs[0])

    def reshaped(self, index: int, shape: Sequence[int], target: int | None = None) -> int:
        wanted = target if target is not None else (tuple(shape), self.dtype(index))
        return self.op(Op.RESHAPE, [index, self.constant(shape, np.int32)], wanted)


#: The options of those ops that must have some.
_OPTIONS = {
    Op.ADD: "AddOptionsT",
    Op.BROADCAST_TO: "BroadcastToOptionsT",
    Op.CAST: "CastOptionsT",
    Op.DIV: "DivOptionsT",
    Op.EQUAL: "EqualOptionsT",
    Op.EXP: "ExpOptionsT",
    Op.GREATER: "GreaterOptionsT",
    Op.GREATER_EQUAL: "GreaterEqualOptionsT",
    Op.LESS: "LessOptionsT",
    Op.MAXIMUM: "MaximumMinimumOptionsT",
    Op.MINIMUM: "MaximumMinimumOptionsT",
    Op.MUL: "MulOptionsT",
    Op.NEG: "NegOptionsT",
    Op.RESHAPE: "ReshapeOptionsT",
    Op.SELECT_V2: "SelectV2OptionsT",
    Op.SLICE: "SliceOptionsT",
    Op.SUB: "SubOptionsT",
}

Rewritten = list[Any] | None  #: the operators in its place; None: it stays


def _tile(w: _Writer) -> Rewritten:
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


def _select(w: _Writer) -> Rewritten:
    condition, yes, no = w.inputs
    ranks = len(w.shape(condition)), len(w.shape(yes))
    if ranks[0] == 1 and ranks[1] > 1:  # it chooses rows
        condition = w.reshaped(condition, [*w.shape(condition), *[1] * (ranks[1] - 1)])
    w.op(Op.SELECT_V2, [condition, yes, no], w.output)
    return w.made


def _reduce_any(w: _Writer) -> Rewritten:
    x, axes = w.inputs
    as_float = w.op(Op.CAST, [x], (w.shape(x), np.float32), _cast(w, x, np.float32))
    largest = w.op(Op.REDUCE_MAX, [as_float, axes], (w.shape(w.output), np.float32), w.options)
    w.op(Op.GREATER, [largest, w.constant(0.5)], w.output)
    return w.made


def _cast(w: _Writer, source: int, dtype: Any) -> Any:
    options = schema.CastOptionsT()
    options.inDataType = w.graph.tensors[source].type
    options.outDataType = next(code for code, known in NUMPY_TYPES.items() if known == np.dtype(dtype))
    return options


def _unpack(w: _Writer) -> Rewritten:
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


def _strided_slice(w: _Writer) -> Rewritten:
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


def _convolution(w: _Writer) -> Rewritten:
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


def _concatenation(w: _Writer) -> Rewritten:
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


def _joined(w: _Writer, parts: Sequence[int], axis: int) -> int:
    shape = list(w.shape(parts[0]))
    shape[axis] = sum(w.shape(part)[axis] for part in parts)
    return w.op(Op.CONCATENATION, parts, (tuple(shape), w.dtype(w.output)), w.options)


def _one_hot(w: _Writer) -> Rewritten:
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


def _as_int32(w: _Writer, index: int) -> int | None:
    """Return whole numbers as int32: as they are, or as they were before they became int64."""
    if w.dtype(index) == np.int32:
        return index
    makers = [operator for operator in w.graph.of(Op.CAST) if index in operator.outputs]
    source = int(makers[0].inputs[0]) if makers else index
    if w.dtype(source) == np.int32:
        return source
    if w.dtype(source) != np.float32:
        return None
    return w.op(Op.CAST, [source], (w.shape(source), np.int32), _cast(w, source, np.int32))


def _bucketize(w: _Writer) -> Rewritten:
    """Count the boundaries that a value has reached."""
    x = w.inputs[0]
    if w.dtype(x) != np.float32:
        return None
    wide = (*w.shape(x), len(w.options.boundaries))
    column = w.reshaped(x, [*w.shape(x), 1])
    bounds = w.constant(np.reshape(w.options.boundaries, [1] * len(w.shape(x)) + [-1]))
    reached = w.op(Op.GREATER_EQUAL, [column, bounds], (wide, np.bool_))
    each = w.op(Op.CAST, [reached], (wide, np.float32), _cast(w, reached, np.float32))
    last = w.constant([len(wide) - 1], np.int32)
    count = w.op(Op.SUM, [each, last], (w.shape(x), np.float32), schema.ReducerOptionsT())
    w.op(Op.CAST, [count], w.output, _cast(w, count, np.int32))
    return w.made


def _clipped(w: _Writer) -> Rewritten:
    below = w.op(Op.MINIMUM, [w.inputs[0], w.constant(1.0)])
    w.op(Op.MAXIMUM, [below, w.constant(-1.0)], w.output)
    return w.made


def _sign(w: _Writer) -> Rewritten:
    x, zero = w.inputs[0], w.constant(0.0)
    if w.dtype(x) != np.float32:
        return None
    sides = []
    for code in (Op.GREATER, Op.LESS):
        side = w.op(code, [x, zero], (w.shape(x), np.bool_))
        sides.append(w.op(Op.CAST, [side], (w.shape(x), np.float32), _cast(w, side, np.float32)))
    w.op(Op.SUB, sides, w.output)
    return w.made


def _pow(w: _Writer) -> Rewritten:
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


def _gelu(w: _Writer) -> Rewritten:
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


def _plus(w: _Writer, x: int, factor: float, addend: float) -> int:
    return w.op(Op.ADD, [w.op(Op.MUL, [x, w.constant(factor)]), w.constant(addend)])


REWRITES: dict[int, Callable[[_Writer], Rewritten]] = {
    Op.BUCKETIZE: _bucketize,
    Op.CONCATENATION: _concatenation,
    Op.CONV_2D: _convolution,
    Op.DEPTHWISE_CONV_2D: _convolution,
    Op.GELU: _gelu,
    Op.ONE_HOT: _one_hot,
    Op.POW: _pow,
    Op.REDUCE_ANY: _reduce_any,
    Op.RELU_N1_TO_1: _clipped,
    Op.SELECT: _select,
    Op.SIGN: _sign,
    Op.STRIDED_SLICE: _strided_slice,
    Op.TILE: _tile,
    Op.UNPACK: _unpack,
}
