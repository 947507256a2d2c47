"""The scale of every tensor: each op has a rule that says how what it writes is stored, and what that is tied to."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
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
from keras_lstm_custom.export.quantization.tied import Range, TiedTensors

#: From how many times the values' range on, a scale that an op's kernels presuppose is too coarse for them: a
#: softmax over many classes, a tanh near zero. The op then computes in int16, and a QUANTIZE follows it.
TOO_WIDE = 1.5


def choose(
    graph: Graph,
    ranges: Ranges,
    scheme: Scheme,
    tied: Sequence[tuple[int, int]],
    promoted: Promoted,
    given: Mapping[int, Params] = MappingProxyType({}),
) -> dict[int, Params]:
    """Return how each computed float tensor and each state is stored.

    The pairs `tied` are stored in the same way; what is promoted, in int16, or as suits what computes in float; what
    is given, as it is.

    Raises:
        ExportError: a cell state exceeds what the runtimes' integers hold.
    """
    chooser = _Chooser(graph, ranges, scheme, promoted, given)
    for operator in graph.operators:
        chooser.look_at(operator)
    return chooser.params(tied)


class _Chooser:
    """What the operators ask for, looked at one after the other."""

    def __init__(
        self, graph: Graph, ranges: Ranges, scheme: Scheme, promoted: Promoted, given: Mapping[int, Params]
    ) -> None:
        self.graph, self.ranges, self.scheme, self.promoted = graph, ranges, scheme, promoted
        self.tensors = TiedTensors(ranges)
        self.fixed = dict(given)  #: tensors that are stored in one way, whatever they are tied to
        self.finer: list[int] = []  #: tensors in int16
        self.meetings: list[tuple[int, list[int]]] = []  #: what an op joins, and the parts: tied if that costs little
        self.cells = {c: cell_params(_checked(graph, c, ranges.cell[c])) for _, c in fused_lstm.state_tensors(graph)}
        moving = (o for o in graph.operators if RULES.get(graph.code(o)) is Rule.SAME)
        self.moved = {int(index) for operator in moving for index in operator.inputs}

    def look_at(self, operator: Any) -> None:
        """Note what an operator asks for."""
        output = next(map(int, operator.outputs), None)
        if output is None or self.graph.tensors[output].type != Type.FLOAT32:
            return
        if self.graph.tensors[output].isVariable:  # it is set at the start, to a value that it must hold, too
            self.tensors.widen(output, self.range_of(int(operator.inputs[0])))
            return
        code = self.graph.code(operator)
        rule = BY_OP.get(code) or BY_RULE.get(RULES.get(code))
        if rule is not None:
            rule(self, operator, output)
        if output in self.promoted.int16 and output not in self.fixed:
            self.finer.append(output)

    def params(self, tied: Sequence[tuple[int, int]]) -> dict[int, Params]:
        """Return how each tensor is stored, now that all operators were looked at."""
        for one, other in tied:
            self.tensors.tie(one, other)
        for tensor in [*self.fixed, *self.finer]:
            self.tensors.fix(tensor)
        for output, parts in self.meetings:
            for part in parts:
                self.tensors.tie_if_near(output, part)
        # What moves values (SPLIT) has one range with what it moves.
        found = {self.tensors.root(tensor): INT16X8.params(*self.tensors.range_of(tensor)) for tensor in self.finer}
        found |= {self.tensors.root(tensor): how for tensor, how in self.fixed.items()}
        computed = (tensor for tensor in range(len(self.graph.tensors)) if self.is_computed(tensor))
        params = {
            tensor: found.get(self.tensors.root(tensor)) or self.scheme.params(*self.tensors.range_of(tensor))
            for tensor in computed
        }
        return params | self.cells

    def is_computed(self, tensor: int) -> bool:
        """Say whether a tensor holds float values that are no constants."""
        return tensor >= 0 and self.graph.tensors[tensor].type == Type.FLOAT32 and self.graph.value(tensor) is None

    def computed(self, tensors: Any) -> list[int]:
        """Return those of some tensors that are computed."""
        return [int(tensor) for tensor in tensors if self.is_computed(int(tensor))]

    def range_of(self, tensor: int) -> Range:
        """Return the range of a tensor by itself; of a constant, with zero in it."""
        value = self.graph.value(tensor)
        if value is None:
            return self.ranges.low[tensor], self.ranges.high[tensor]
        return min(0.0, float(value.min())), max(0.0, float(value.max()))


def _sum(chooser: _Chooser, operator: Any, output: int) -> None:
    """Store the last cell state, read after the LSTM (see `fused_lstm`), as wide as the state itself."""
    cells = [int(index) for index in operator.inputs if int(index) in chooser.cells]
    if cells:
        chooser.fixed[output] = chooser.cells[cells[0]]


def _looked_up(chooser: _Chooser, operator: Any, output: int) -> None:
    """Store rows of a table in int8: it is weights, and the microcontroller runtime gathers nothing else."""
    chooser.fixed[output] = INT8.params(*chooser.range_of(int(operator.inputs[0])))


def _presupposed(chooser: _Chooser, operator: Any, output: int) -> None:
    """Store it as the kernels presuppose, in int16 where that is too coarse in int8; what computes in float, anyhow."""
    if output in chooser.promoted.in_float:
        return
    code = chooser.graph.code(operator)
    narrow = output not in chooser.moved and _is_narrow(chooser.scheme.fixed[code], *chooser.range_of(output))
    finer = narrow or output in chooser.promoted.int16
    chooser.fixed[output] = (INT16X8 if finer else chooser.scheme).fixed[code]


def _of_lstm(chooser: _Chooser, operator: Any, output: int) -> None:
    """Store it as the state h."""
    chooser.tensors.tie(output, int(operator.inputs[fused_lstm.H]))
    if bound := operator.builtinOptions.projClip:
        # The kernel clips int8 as if zero stood for 0. So the largest integer is the bound instead.
        low, high = chooser.range_of(output)
        chooser.fixed[output] = chooser.scheme.params(max(low, -bound), min(high, bound))


def _moved(chooser: _Chooser, operator: Any, output: int) -> None:
    """Store it as what it comes from."""
    parts = chooser.computed(operator.inputs)
    if len(parts) == 1:
        for each in operator.outputs:
            chooser.tensors.tie(parts[0], int(each))
    else:
        chooser.meetings.append((output, parts))


Stored = Callable[[_Chooser, Any, int], None]

#: How the output of an op is stored, by the op itself or else by its rule; without one, in its own range.
BY_OP: dict[int, Stored] = {Op.ADD: _sum, Op.GATHER: _looked_up}
BY_RULE: dict[Rule | None, Stored] = {Rule.FIXED: _presupposed, Rule.LSTM: _of_lstm, Rule.SAME: _moved}


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
