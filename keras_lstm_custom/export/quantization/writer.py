"""The graph that computes in integers, as it is written: each tensor of the float graph in the forms that are read."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_lstm_custom.export.file import fused_lstm
from keras_lstm_custom.export.file.flatbuffer import NUMPY_TYPES, Op, Type, quantization, schema
from keras_lstm_custom.export.file.graph import Graph
from keras_lstm_custom.export.file.rewrites_of_functions import FINE
from keras_lstm_custom.export.quantization.plans import Plans
from keras_lstm_custom.export.quantization.promote import Promoted
from keras_lstm_custom.export.quantization.schemes import INT16X8, Params, Scheme
from keras_lstm_custom.export.quantization.seen import Ranges


class Writer:
    """A graph in the making, and the float graph that it comes from, which is not changed."""

    def __init__(
        self,
        source: Graph,
        ranges: Ranges,
        scheme: Scheme,
        promoted: Promoted,
        plans: Plans,
        graph: Graph | None = None,
    ):
        self.source, self.ranges, self.scheme, self.promoted, self.plans = source, ranges, scheme, promoted, plans
        self.graph = graph or Graph()
        self.params = plans.params
        self.states = {index for pair in fused_lstm.state_tensors(source) for index in pair}
        self.float_states = {
            int(operator.inputs[place])
            for operator in fused_lstm.lstm_ops(source)
            if int(operator.outputs[0]) in promoted.in_float
            for place in (fused_lstm.H, fused_lstm.C)
        }
        self.written: dict[tuple[int, Params | None], int] = {}  #: (source tensor, how) -> tensor
        self.exact = _exact(source) | _fine(source)
        self.never_rounded: set[int] = set()  #: tensors that were float from the first
        self.in_float: list[str] = []  #: ops for which there is no integer form

    def is_float(self, index: int) -> bool:
        """Say whether a source tensor holds float values."""
        return index >= 0 and self.source.tensors[index].type == Type.FLOAT32

    def is_fine(self, index: int) -> bool:
        """Say whether a source tensor is computed inside of one function of several ops."""
        return index >= 0 and FINE in self.source.name(index) and self.source.value(index) is None

    def declared(self, index: int, how: Params | None) -> int:
        """Return the tensor that a computed or variable tensor becomes, declaring it at first."""
        if (index, how) not in self.written:
            tensor = self.source.tensors[index]
            dtype, record = (np.float32, None) if how is None else (how.dtype, how.record)
            if not self.is_float(index):
                dtype = NUMPY_TYPES[tensor.type]
            self.written[index, how] = self.graph.tensor(
                self.source.name(index), self.source.shape(index), dtype, record, bool(tensor.isVariable)
            )
        return self.written[index, how]

    def read(self, index: int, how: Params | None) -> int:
        """Return a tensor with the values of a source tensor stored in a way; None stands for float."""
        if index < 0:
            return -1
        value = self.source.value(index)
        if value is not None:
            if how is None or not self.is_float(index):
                return self.graph.constant(self.source.name(index), value)
            return self.graph.constant(self.source.name(index), how.stored(value), how.record)
        if not self.is_float(index):
            return self.declared(index, None)
        if (index, how) not in self.written:
            own = self.params[index] if (index, self.params[index]) in self.written else None
            self._requantize(self.declared(index, own), self.declared(index, how), how)
        return self.written[index, how]

    def _requantize(self, source: int, target: int, how: Params | None) -> None:
        code = Op.DEQUANTIZE if how is None else Op.QUANTIZE
        options = schema.DequantizeOptionsT() if how is None else schema.QuantizeOptionsT()
        self.graph.operators.append(self.graph.operator(code, [source], [target], options, 2))

    def input(self, index: int, float_io: bool) -> int:
        """Return the tensor that an input of the file becomes."""
        if not self.is_float(index) or float_io or index in self.exact:
            self.never_rounded.add(index)
            return self.declared(index, None)
        return self.declared(index, self.params[index])

    def output(self, index: int, float_io: bool) -> int:
        """Return the tensor that an output of the file becomes."""
        # A state is read from its variable as it is: nothing tells a runtime to convert it after the LSTM has run.
        if not self.is_float(index) or (float_io and index not in self.states):
            return self.read(index, None)
        as_stored = index in self.states or index in self.promoted.int16
        return self.read(index, self.params[index] if as_stored else self.own(index, self.scheme))

    def own(self, index: int, scheme: Scheme) -> Params:
        """Return how a tensor is read by itself: as it is stored, in a scheme's type; a constant by its own range."""
        value = self.source.value(index)
        if value is None:
            stored = self.params[index]
            seen = self.ranges.low.get(index, 0.0), self.ranges.high.get(index, 0.0)
            return stored if stored.dtype == scheme.dtype else scheme.params(*seen)
        return scheme.params(min(0.0, float(value.min())), max(0.0, float(value.max())))

    def scheme_of(self, output: int) -> Scheme:
        """Return how an op computes: in int16 where its output is too fine for int8 (see `scales`, `promote`)."""
        return INT16X8 if self.params[output].dtype == INT16X8.dtype else self.scheme

    def weights(self, source: int, stored: np.ndarray, scale: np.ndarray, axis: int | None = None) -> int:
        """Return a constant of weights with their scale, or their scales along an axis."""
        return self.graph.constant(self.source.name(source), stored, quantization(scale, 0, axis or 0))

    def bias(self, name: str, bias: np.ndarray, scale: np.ndarray, scheme: Scheme) -> int:
        """Return a constant of biases with the scale of the product that they are added to."""
        stored = np.round(bias.astype(np.float64) / scale).astype(scheme.bias)
        return self.graph.constant(name, stored, quantization(scale))

    def emit(self, operator: Any, inputs: Sequence[int], outputs: Sequence[int]) -> Any:
        """Add an operator like one of the source, with these tensors; return it."""
        options = copy.copy(operator.builtinOptions)
        if isinstance(options, (schema.AddOptionsT, schema.SubOptionsT)):
            options.potScaleInt16 = False  # the scales are any, not powers of two
        known = self.source.model.operatorCodes[operator.opcodeIndex]
        made = self.graph.operator(known.builtinCode, inputs, outputs, options, known.version)
        self.graph.operators.append(made)
        return made


def _exact(graph: Graph) -> set[int]:
    """Return the tensors that only ever become whole numbers or bools, such as tokens: in float they stay exact."""
    readers: dict[int, list[Any]] = {}
    for operator in graph.operators:
        for index in map(int, operator.inputs):
            readers.setdefault(index, []).append(operator)
    found: set[int] = set()
    for index in [*[int(i) for o in reversed(graph.operators) for i in o.outputs], *graph.inputs]:
        outputs = [int(output) for operator in readers.get(index, []) for output in operator.outputs]
        becomes_float = [i for i in outputs if graph.tensors[i].type == Type.FLOAT32 and i not in found]
        if outputs and not becomes_float and index not in graph.outputs and graph.tensors[index].type == Type.FLOAT32:
            found.add(index)
    return found


def _fine(graph: Graph) -> set[int]:
    return {k for k in range(len(graph.tensors)) if FINE in graph.name(k) and graph.value(k) is None}
