"""A float file to one that computes in integers, int8 or int16x8.

The converter's own quantiser treats LSTMs wrongly in several ways, refuses int16 for them, and
changes what must stay equal. This one rests on three ideas:

- Tensors that must share a scale form a class (`scales`); its range is that of all of them.
- Every tensor is written in that way; where a reader asks for another scale or type, a QUANTIZE
  is put between.
- An op without a rule (`rules.RULES`) stays in float between DEQUANTIZE and QUANTIZE, and is reported.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_lstm_custom.errors import ExportError
from keras_lstm_custom.export.file import fused_lstm, loop
from keras_lstm_custom.export.file.flatbuffer import NUMPY_TYPES, OP_NAMES, Op, Type, quantization, schema
from keras_lstm_custom.export.file.graph import Graph, set_signature, signature_of
from keras_lstm_custom.export.file.portable import FINE
from keras_lstm_custom.export.quantization.plans import Plans, plan_loops
from keras_lstm_custom.export.quantization.promote import Promoted
from keras_lstm_custom.export.quantization.quantize_lstm import write_lstm
from keras_lstm_custom.export.quantization.rules import CHANNEL_AXIS, PER_TENSOR, RULES, Rule
from keras_lstm_custom.export.quantization.schemes import INT16X8, INT32_ROOM, Params, Scheme, weights
from keras_lstm_custom.export.quantization.seen import Ranges


def quantize(
    content: bytes,
    ranges: Ranges,
    scheme: Scheme,
    *,
    float_io: bool = False,
    alike: Sequence[tuple[int, int]] = (),
    promoted: Promoted | None = None,
) -> tuple[bytes, list[str]]:
    """Return the file that computes in integers, and notes on what does not.

    Args:
        content: a float file, as `convert.float_file` writes it.
        ranges: what `calibrate` saw.
        scheme: a value of `schemes.SCHEMES`.
        float_io: whether inputs and outputs stay float32, with a QUANTIZE and a DEQUANTIZE at the edge.
        alike: pairs of tensors of the float file to store in one way: a state that goes in as it comes out.
        promoted: what is to have more bits than the scheme's.

    Raises:
        ExportError: the file has loops, or a cell state too large for the integers.
    """
    source = Graph(content)
    if not loop.is_ours(source):
        raise ExportError(
            "A layer of the model makes a loop of its own, which cannot compute in integers; the runtimes crash on it.",
            expected="loops over the steps of a recurrent cell alone",
            received=f"{len(source.model.subgraphs)} graphs in the file",
            remedy="Write that layer without a loop, or export in float.",
        )
    promoted = promoted or Promoted()
    plans = plan_loops(source, ranges, scheme, alike, promoted)
    writer = _Writer(source, ranges, scheme, promoted, plans)
    writer.write(float_io)
    return writer.graph.pack(), writer.notes()


class _Writer:
    """Writes a new graph from a float one, operator by operator."""

    def __init__(
        self,
        source: Graph,
        ranges: Ranges,
        scheme: Scheme,
        promoted: Promoted,
        plans: Plans,
        graph: Graph | None = None,
    ):
        self.source = source
        self.scheme = scheme
        self.ranges = ranges
        self.graph = graph or Graph()
        self.promoted = promoted
        self.plans = plans
        self.params = plans.params
        self.states = {index for pair in fused_lstm.state_tensors(source) for index in pair}
        self.float_states = {
            int(operator.inputs[place])
            for operator in fused_lstm.lstm_ops(source)
            if int(operator.outputs[0]) in promoted.in_float
            for place in (fused_lstm.H, fused_lstm.C)
        }
        self.written: dict[tuple[int, Params | None], int] = {}  #: (source tensor, how) -> tensor
        self.in_float: list[str] = []
        self.exact = _exact(source) | _fine(source)
        self.first_in_float: set[int] = set()  #: tensors that were never rounded to integers

    def write(self, float_io: bool) -> None:
        inputs, outputs = signature_of(self.source)
        new_inputs = {name: self._input(index, float_io) for name, index in inputs.items()}
        for operator in self.source.operators:
            self._operator(operator)
        new_outputs = {name: self._output(index, float_io) for name, index in outputs.items()}
        set_signature(self.graph, new_inputs, new_outputs)

    def write_body(self) -> None:
        """Write a graph whose inputs and outputs have no names, and those that are carried one form."""
        self.graph.inputs = [self.declared(i, self.params.get(i)) for i in self.source.inputs]
        for operator in self.source.operators:
            self._operator(operator)
        pairs = zip(self.source.inputs, self.source.outputs, strict=True)
        self.graph.outputs = [self.read(output, self.params.get(i)) for i, output in pairs]

    def notes(self) -> list[str]:
        names = ", ".join(sorted(set(self.in_float)))
        return [f"These ops compute in float, for want of an integer form: {names}."] if names else []

    # Tensors

    def _is_float(self, index: int) -> bool:
        return index >= 0 and self.source.tensors[index].type == Type.FLOAT32

    def declared(self, index: int, how: Params | None) -> int:
        """Return the tensor that a computed or variable tensor becomes, declaring it at first."""
        if (index, how) not in self.written:
            tensor = self.source.tensors[index]
            dtype, record = (np.float32, None) if how is None else (how.dtype, how.record)
            if not self._is_float(index):
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
            if how is None or not self._is_float(index):
                return self.graph.constant(self.source.name(index), value)
            return self.graph.constant(self.source.name(index), how.stored(value), how.record)
        if not self._is_float(index):
            return self.declared(index, None)
        if (index, how) not in self.written:
            own = self.params[index] if (index, self.params[index]) in self.written else None
            self._requantize(self.declared(index, own), self.declared(index, how), own, how)
        return self.written[index, how]

    def _requantize(self, source: int, target: int, was: Params | None, becomes: Params | None) -> None:
        code = Op.DEQUANTIZE if becomes is None else Op.QUANTIZE
        options = schema.DequantizeOptionsT() if becomes is None else schema.QuantizeOptionsT()
        self.graph.operators.append(self.graph.operator(code, [source], [target], options, 2))

    def _input(self, index: int, float_io: bool) -> int:
        if not self._is_float(index) or float_io or index in self.exact:
            self.first_in_float.add(index)
            return self.declared(index, None)
        return self.declared(index, self.params[index])

    def _output(self, index: int, float_io: bool) -> int:
        # A state is read from its variable as it is: nothing tells a runtime to convert it after the LSTM has run.
        if not self._is_float(index) or (float_io and index not in self.states):
            return self.read(index, None)
        as_stored = index in self.states or index in self.promoted.int16
        return self.read(index, self.params[index] if as_stored else self.own(index, self.scheme))

    # Operators

    def _operator(self, operator: Any) -> None:
        code = self.source.code(operator)
        inputs, outputs = ([int(i) for i in group] for group in (operator.inputs, operator.outputs))
        if RULES.get(code) is Rule.LOOP:
            self._loop(operator, inputs, outputs)
        elif not any(map(self._is_float, [*inputs, *outputs])):
            self.emit(operator, [self.read(i, None) for i in inputs], [self.declared(i, None) for i in outputs])
        elif outputs[0] in self.states:
            self._start(inputs[0], outputs[0])
        elif outputs[0] in self.promoted.in_float or outputs[0] in self.exact or self._is_fine(inputs):
            self._in_float(operator, inputs, outputs)
        elif not self._is_float(outputs[0]):
            self._in_float(operator, [self._as_rounded(i, inputs) for i in inputs], outputs)
        elif RULES.get(code) is Rule.LSTM:
            write_lstm(self, operator, inputs, outputs[0])
        elif RULES.get(code) is Rule.WEIGHTED and self.source.value(inputs[1]) is not None:
            self._weighted(operator, code, inputs, outputs[0])
        elif RULES.get(code) in (Rule.OWN, Rule.SAME, Rule.FIXED):
            self._plain(operator, code, inputs, outputs)
        else:
            self.in_float.append(OP_NAMES[code])
            self._in_float(operator, inputs, outputs)

    def _loop(self, operator: Any, inputs: list[int], outputs: list[int]) -> None:
        number, source = loop.body_of(self.source, operator)
        plans = self.plans.loops[number]
        new, body = self.graph.add_part(source.subgraph.name.decode())
        if plans is None:  # in float
            self.in_float += [OP_NAMES[Op.WHILE]] if outputs[0] not in self.promoted.in_float else []
            self.first_in_float.update(outputs)
            grafted = body.graft(source)
            body.inputs, body.outputs = ([grafted[i] for i in group] for group in (source.inputs, source.outputs))
            how: list[Params | None] = [None] * len(inputs)
        else:
            promoted = Promoted(int16=loop.of_step(source))
            writer = _Writer(source, self.ranges.loops[number], self.scheme, promoted, plans, body)
            writer.write_body()
            self.in_float += writer.in_float
            how = [plans.params.get(index) for index in source.inputs]
        reads = [self.read(i, h) for i, h in zip(inputs, how, strict=True)]
        results = [self.declared(o, h) for o, h in zip(outputs, how, strict=True)]
        steps = loop.timesteps_of(self.source, operator)
        self.graph.operators.append(loop.while_op(self.graph, reads, results, new, steps))

    def _in_float(self, operator: Any, inputs: list[int], outputs: list[int]) -> None:
        self.first_in_float.update(outputs)
        self.emit(operator, [self.read(i, None) for i in inputs], [self.declared(i, None) for i in outputs])

    def _is_fine(self, inputs: Sequence[int]) -> bool:
        return any(i >= 0 and FINE in self.source.name(i) and self.source.value(i) is None for i in inputs)

    def _as_rounded(self, index: int, inputs: Sequence[int]) -> int:
        """Return a constant as what it is compared with holds it: padding of -1 is the integer nearest to -1."""
        value = self.source.value(index)
        others = [i for i in inputs if i != index and self.source.value(i) is None and i not in self.first_in_float]
        if value is None or not self._is_float(index) or not others:
            return index
        how = self.params[others[0]]
        steps = how.stored(value).astype(np.float32) - np.float32(how.zero_point)
        rounded = (steps * np.float32(how.scale)).astype(np.float32)
        return self.source.constant(f"{self.source.name(index)}/rounded", rounded)

    def emit(self, operator: Any, inputs: Sequence[int], outputs: Sequence[int]) -> None:
        code = self.source.code(operator)
        version = self.source.model.operatorCodes[operator.opcodeIndex].version
        options = copy.copy(operator.builtinOptions)
        if isinstance(options, (schema.AddOptionsT, schema.SubOptionsT)):
            options.potScaleInt16 = False  # the scales are any, not powers of two
        self.graph.operators.append(self.graph.operator(code, inputs, outputs, options, version))

    def _plain(self, operator: Any, code: int, inputs: list[int], outputs: list[int]) -> None:
        target = self.params[outputs[0]]
        same = RULES[code] is Rule.SAME
        # The kernels add what has one type, and a cell state read after the LSTM is int16 in int8 files too.
        same |= code == Op.ADD and not self.states.isdisjoint(inputs)
        scheme = self._scheme_for(target)
        reads = [self.read(i, (target if same else self.own(i, scheme)) if self._is_float(i) else None) for i in inputs]
        self.emit(operator, reads, [self.declared(i, self.params[i]) for i in outputs])

    def _scheme_for(self, target: Params) -> Scheme:
        """Return how an op computes: in int16 where its output is too fine for int8 (see `scales`, `promote`)."""
        return INT16X8 if target.dtype == INT16X8.dtype else self.scheme

    def own(self, index: int, scheme: Scheme) -> Params:
        """Return how a tensor is read by itself: as it is stored, in a scheme's type; a constant by its own range."""
        value = self.source.value(index)
        if value is None:
            stored = self.params[index]
            seen = self.ranges.low.get(index, 0.0), self.ranges.high.get(index, 0.0)
            return stored if stored.dtype == scheme.dtype else scheme.params(*seen)
        return scheme.params(min(0.0, float(value.min())), max(0.0, float(value.max())))

    def _weighted(self, operator: Any, code: int, inputs: list[int], output: int) -> None:
        scheme = self._scheme_for(self.params[output])
        x = self.own(inputs[0], scheme)
        kernel = self.source.array(inputs[1])
        bias = self.source.array(inputs[2]) if len(inputs) > 2 and inputs[2] >= 0 else None
        axis = None if (code, x.dtype) in PER_TENSOR else CHANNEL_AXIS[code]
        room = 0.0 if bias is None else np.abs(bias) / (x.scale * INT32_ROOM)
        stored, scale = weights(kernel, axis, np.max(room) if axis is None else room)
        reads = [self.read(inputs[0], x), self.weights(inputs[1], stored, scale, axis)]
        if bias is not None:
            shift = _mean_error(code, kernel, stored, scale, self.ranges.mean[inputs[0]])
            reads.append(self.bias(self.source.name(inputs[2]), bias - shift, x.scale * scale, scheme))
        self.emit(operator, reads, [self.declared(output, self.params[output])])

    def bias(self, name: str, bias: np.ndarray, scale: np.ndarray, scheme: Scheme) -> int:
        stored = np.round(bias.astype(np.float64) / scale).astype(scheme.bias)
        return self.graph.constant(name, stored, quantization(scale))

    def _start(self, source: int, state: int) -> None:
        """Write the initial value into a state, in the state's own scale."""
        how = None if state in self.float_states else self.params[state]
        self.graph.operators.append(fused_lstm.copy_of(self.graph, self.read(source, how), self.declared(state, how)))

    def weights(self, source: int, stored: np.ndarray, scale: np.ndarray, axis: int | None = None) -> int:
        return self.graph.constant(self.source.name(source), stored, quantization(scale, 0, axis or 0))


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


def _mean_error(code: int, kernel: np.ndarray, stored: np.ndarray, scale: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Return what the rounding of the weights adds to each output channel on average; `mean` is that of the input."""
    axis = CHANNEL_AXIS[code]
    error = np.moveaxis(stored, axis, -1) * scale - np.moveaxis(kernel, axis, -1)
    if code == Op.DEPTHWISE_CONV_2D:
        return error.sum(axis=(0, 1, 2)) * np.repeat(mean, error.shape[-1] // len(mean))
    return mean @ error.reshape(-1, len(mean), error.shape[-1]).sum(axis=0)
