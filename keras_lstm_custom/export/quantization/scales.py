"""The scale of every tensor: those that must share one form a class, whose range is that of all of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from keras_lstm_custom.errors import ExportError
from keras_lstm_custom.export.file import fused_lstm
from keras_lstm_custom.export.file.flatbuffer import Op, Type
from keras_lstm_custom.export.file.graph import Graph
from keras_lstm_custom.export.quantization.promote import Promoted
from keras_lstm_custom.export.quantization.rules import RULES, Rule
from keras_lstm_custom.export.quantization.schemes import CELL_SCALES, INT8, INT16X8, Params, Scheme, cell_params
from keras_lstm_custom.export.quantization.seen import Ranges

#: How much coarser a tensor may become to spare a QUANTIZE where tensors meet, as in a concatenation.
COARSER = 2.0
#: From how many times the values' range on, a scale that an op's kernels presuppose is too coarse for them: a
#: softmax over many classes, a tanh near zero. The op then computes in int16, and a QUANTIZE follows it.
TOO_WIDE = 1.5


def choose(
    graph: Graph,
    ranges: Ranges,
    scheme: Scheme,
    alike: Sequence[tuple[int, int]],
    promoted: Promoted,
    given: Mapping[int, Params] = MappingProxyType({}),
) -> dict[int, Params]:
    """Return how each computed float tensor and each state is stored.

    The pairs `alike` are stored in the same way; what is promoted, in int16, or as suits what computes in float; what
    is given, as it is.

    Raises:
        ExportError: a cell state exceeds what the runtimes' integers hold.
    """
    classes = _Classes(ranges)
    fixed: dict[int, Params] = dict(given)
    finer: list[int] = []
    cells = {c: cell_params(_checked(graph, c, ranges.cell[c])) for _, c in fused_lstm.state_tensors(graph)}
    meetings: list[tuple[int, list[int]]] = []
    moved = {
        int(i) for operator in graph.operators if RULES.get(graph.code(operator)) is Rule.SAME for i in operator.inputs
    }
    for operator in graph.operators:
        code = graph.code(operator)
        inputs = [int(i) for i in operator.inputs if i >= 0 and _is_computed(graph, int(i))]
        outputs = [int(i) for i in operator.outputs]
        if not outputs or graph.tensors[outputs[0]].type != Type.FLOAT32:
            continue
        if graph.tensors[outputs[0]].isVariable:
            classes.widen(outputs[0], *_range(graph, ranges, int(operator.inputs[0])))
            continue
        # What computes in float presupposes no scale.
        rule = Rule.OWN if outputs[0] in promoted.in_float and RULES.get(code) is Rule.FIXED else RULES.get(code)
        if code == Op.ADD and cells.keys() & set(inputs):
            # The last cell state, read after the LSTM (see `fused_lstm`): as wide as the state itself.
            fixed[outputs[0]] = next(cells[i] for i in inputs if i in cells)
        elif code == Op.GATHER:
            # The microcontroller runtime gathers int8 only; a table is weights, whatever the scheme.
            fixed[outputs[0]] = INT8.params(*_range(graph, ranges, int(operator.inputs[0])))
        elif rule is Rule.FIXED:
            narrow = outputs[0] not in moved and _is_narrow(scheme.fixed[code], *_range(graph, ranges, outputs[0]))
            fixed[outputs[0]] = (INT16X8 if narrow or outputs[0] in promoted.int16 else scheme).fixed[code]
        elif rule is Rule.LSTM:
            classes.join(outputs[0], int(operator.inputs[fused_lstm.H]))
            if bound := operator.builtinOptions.projClip:
                # The kernel clips int8 as if zero stood for 0. So the largest integer is the bound instead.
                low, high = _range(graph, ranges, outputs[0])
                fixed[outputs[0]] = scheme.params(max(low, -bound), min(high, bound))
        elif rule is Rule.SAME and len(inputs) == 1:
            for output in outputs:
                classes.join(inputs[0], output)
        elif rule is Rule.SAME:
            meetings.append((outputs[0], inputs))
        if outputs[0] in promoted.int16 and rule is not Rule.FIXED:
            finer.append(outputs[0])
    for one, other in alike:
        classes.join(one, other)
    for tensor in [*fixed, *finer]:
        classes.fix(tensor)
    for output, inputs in meetings:
        for tensor in inputs:
            classes.join_if_near(output, tensor)
    # What moves values (SPLIT) has one range with what it moves.
    found = {root: INT16X8.params(*classes.range_of(root)) for root in map(classes.root, finer)}
    found |= {classes.root(tensor): how for tensor, how in fixed.items()}
    params = {}
    for tensor in range(len(graph.tensors)):
        if tensor in cells:
            params[tensor] = cells[tensor]
        elif _is_computed(graph, tensor):
            root = classes.root(tensor)
            params[tensor] = found.get(root) or scheme.params(*classes.range_of(root))
    return params


def _is_computed(graph: Graph, tensor: int) -> bool:
    return graph.tensors[tensor].type == Type.FLOAT32 and graph.value(tensor) is None


def _range(graph: Graph, ranges: Ranges, tensor: int) -> tuple[float, float]:
    value = graph.value(tensor)
    if value is None:
        return ranges.low[tensor], ranges.high[tensor]
    return min(0.0, float(value.min())), max(0.0, float(value.max()))


def _is_narrow(how: Params, low: float, high: float) -> bool:
    limits = np.iinfo(how.dtype)
    return how.scale * (limits.max - limits.min) > TOO_WIDE * (high - low)


def _checked(graph: Graph, c: int, largest: float) -> float:
    limit = CELL_SCALES[1] * 2**15
    if largest > limit or not math.isfinite(largest):
        raise ExportError(
            f"The cell state {graph.name(c)!r} grows beyond what the integer LSTM can hold.",
            expected=f"|c| of at most {limit:g} on the calibration samples",
            received=f"|c| of {largest:.3g}",
            remedy="Scale the inputs, train with weight decay or shorter sequences, or export in float.",
        )
    return largest


class _Classes:
    """Sets of tensors that share a scale (union-find), each with its range."""

    def __init__(self, ranges: Ranges):
        self.parent: dict[int, int] = {}
        self.ranges: dict[int, tuple[float, float]] = {
            tensor: (ranges.low[tensor], ranges.high[tensor]) for tensor in ranges.low.keys() & ranges.high.keys()
        }
        self.fixed: set[int] = set()

    def root(self, tensor: int) -> int:
        while tensor in self.parent:
            tensor = self.parent[tensor]
        return tensor

    def range_of(self, root: int) -> tuple[float, float]:
        return self.ranges.get(root, (0.0, 0.0))

    def fix(self, tensor: int) -> None:
        """Let a class take no further members whose scale it would change."""
        self.fixed.add(self.root(tensor))

    def widen(self, tensor: int, low: float, high: float) -> None:
        """Let a class hold further values."""
        root = self.root(tensor)
        lowest, highest = self.range_of(root)
        self.ranges[root] = (min(lowest, low), max(highest, high))

    def join(self, one: Any, other: Any) -> None:
        one, other = self.root(one), self.root(other)
        if one != other:
            low, high = zip(self.range_of(one), self.range_of(other), strict=True)
            self.parent[other] = one
            self.ranges[one] = (min(low), max(high))

    def join_if_near(self, one: int, other: int) -> None:
        one, other = self.root(one), self.root(other)
        if one == other or {one, other} & self.fixed:
            return
        widths = [high - low for low, high in (self.range_of(one), self.range_of(other))]
        together = max(self.range_of(one)[1], self.range_of(other)[1]) - min(
            self.range_of(one)[0], self.range_of(other)[0]
        )
        if together <= COARSER * min(widths):
            self.join(one, other)
