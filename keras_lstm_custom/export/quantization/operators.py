"""How each operator of a float graph is written into one that computes in integers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from keras_lstm_custom.export.file import fused_lstm, loop
from keras_lstm_custom.export.file.flatbuffer import OP_NAMES, Op
from keras_lstm_custom.export.quantization.promote import Promoted
from keras_lstm_custom.export.quantization.quantize_lstm import write_lstm
from keras_lstm_custom.export.quantization.rules import CHANNEL_AXIS, PER_TENSOR, RULES, Rule
from keras_lstm_custom.export.quantization.schemes import INT32_ROOM, Params, weights
from keras_lstm_custom.export.quantization.writer import Writer

Way = Callable[[Writer, Any, list[int], list[int]], None]  #: the operator, its inputs, its outputs


def write(w: Writer, operator: Any) -> None:
    """Write an operator in the first way of `WAYS` that suits it."""
    inputs, outputs = ([int(i) for i in group] for group in (operator.inputs, operator.outputs))
    way = next(way for suits, way in WAYS if suits(w, operator, inputs, outputs))
    way(w, operator, inputs, outputs)


def _as_it_is(w: Writer, operator: Any, inputs: list[int], outputs: list[int]) -> None:
    w.emit(operator, [w.read(i, None) for i in inputs], [w.declared(i, None) for i in outputs])


def _start(w: Writer, operator: Any, inputs: list[int], outputs: list[int]) -> None:
    """Write the initial value into a state, in the state's own scale."""
    state = outputs[0]
    how = None if state in w.float_states else w.params[state]
    w.graph.operators.append(fused_lstm.copy_of(w.graph, w.read(inputs[0], how), w.declared(state, how)))


def _in_float(w: Writer, operator: Any, inputs: list[int], outputs: list[int]) -> None:
    w.never_rounded.update(outputs)
    _as_it_is(w, operator, inputs, outputs)


def _without_integer_form(w: Writer, operator: Any, inputs: list[int], outputs: list[int]) -> None:
    w.in_float.append(OP_NAMES[w.source.code(operator)])
    _in_float(w, operator, inputs, outputs)


def _compared(w: Writer, operator: Any, inputs: list[int], outputs: list[int]) -> None:
    """Write, in float, what gives bools or whole numbers."""
    w.never_rounded.update(outputs)
    reads = [_as_rounded(w, i, inputs) for i in inputs]
    w.emit(operator, reads, [w.declared(i, None) for i in outputs])


def _as_rounded(w: Writer, index: int, inputs: list[int]) -> int:
    """Read a constant as what it is compared with holds it: padding of -1 is the integer nearest to -1."""
    value = w.source.value(index)
    others = [i for i in inputs if i != index and w.source.value(i) is None and i not in w.never_rounded]
    if value is None or not w.is_float(index) or not others:
        return w.read(index, None)
    how = w.params[others[0]]
    steps = how.stored(value).astype(np.float32) - np.float32(how.zero_point)
    rounded = (steps * np.float32(how.scale)).astype(np.float32)
    return w.graph.constant(f"{w.source.name(index)}/rounded", rounded)


def _plain(w: Writer, operator: Any, inputs: list[int], outputs: list[int]) -> None:
    """Write what has no weights, each input in its own scale or, where they must be the same, in the output's."""
    code, scheme = w.source.code(operator), w.scheme_of(outputs[0])
    # The kernels add what has one type, and a cell state read after the LSTM is int16 in int8 files too.
    same = RULES[code] is Rule.SAME or (code == Op.ADD and not w.states.isdisjoint(inputs))

    def how(index: int) -> Params | None:
        if not w.is_float(index):
            return None
        return w.params[outputs[0]] if same else w.own(index, scheme)

    w.emit(operator, [w.read(i, how(i)) for i in inputs], [w.declared(i, w.params[i]) for i in outputs])


def _weighted(w: Writer, operator: Any, inputs: list[int], outputs: list[int]) -> None:
    """Write a product with int8 weights, one scale for each channel or per tensor."""
    code, scheme = w.source.code(operator), w.scheme_of(outputs[0])
    x, kernel = w.own(inputs[0], scheme), w.source.array(inputs[1])
    bias = w.source.array(inputs[2]) if len(inputs) > 2 and inputs[2] >= 0 else None
    axis = None if (code, x.dtype) in PER_TENSOR else CHANNEL_AXIS[code]
    room = 0.0 if bias is None else np.abs(bias) / (x.scale * INT32_ROOM)
    stored, scale = weights(kernel, axis, np.max(room) if axis is None else room)
    reads = [w.read(inputs[0], x), w.weights(inputs[1], stored, scale, axis)]
    if bias is not None:
        shift = _mean_error(code, kernel, stored, scale, w.ranges.mean[inputs[0]])
        reads.append(w.bias(w.source.name(inputs[2]), bias - shift, x.scale * scale, scheme))
    w.emit(operator, reads, [w.declared(outputs[0], w.params[outputs[0]])])


def _mean_error(code: int, kernel: np.ndarray, stored: np.ndarray, scale: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Return what the rounding of the weights adds to each output channel on average; `mean` is that of the input."""
    axis = CHANNEL_AXIS[code]
    error = np.moveaxis(stored, axis, -1) * scale - np.moveaxis(kernel, axis, -1)
    if code == Op.DEPTHWISE_CONV_2D:
        return error.sum(axis=(0, 1, 2)) * np.repeat(mean, error.shape[-1] // len(mean))
    return mean @ error.reshape(-1, len(mean), error.shape[-1]).sum(axis=0)


def _loop(w: Writer, operator: Any, inputs: list[int], outputs: list[int]) -> None:
    number, source = loop.body_of(w.source, operator)
    plans = w.plans.loops[number]
    new, body = w.graph.add_part(source.subgraph.name.decode())
    if plans is None:  # in float
        w.in_float += [OP_NAMES[Op.WHILE]] if outputs[0] not in w.promoted.in_float else []
        w.never_rounded.update(outputs)
        grafted = body.graft(source)
        body.inputs, body.outputs = ([grafted[i] for i in group] for group in (source.inputs, source.outputs))
        how: list[Params | None] = [None] * len(inputs)
    else:
        how = [plans.params.get(index) for index in source.inputs]
        inner = Writer(source, w.ranges.loops[number], w.scheme, Promoted(int16=loop.of_step(source)), plans, body)
        _write_body(inner, how)
        w.in_float += inner.in_float
    reads = [w.read(i, h) for i, h in zip(inputs, how, strict=True)]
    results = [w.declared(o, h) for o, h in zip(outputs, how, strict=True)]
    w.graph.operators.append(loop.while_op(w.graph, reads, results, new, loop.timesteps_of(w.source, operator)))


def _write_body(w: Writer, how: list[Params | None]) -> None:
    """Write a graph whose inputs and outputs have no names, and those that are carried one form."""
    w.graph.inputs = [w.declared(i, h) for i, h in zip(w.source.inputs, how, strict=True)]
    for operator in w.source.operators:
        write(w, operator)
    w.graph.outputs = [w.read(o, h) for o, h in zip(w.source.outputs, how, strict=True)]


def _has_rule(*rules: Rule) -> Callable[..., bool]:
    return lambda w, operator, inputs, outputs: RULES.get(w.source.code(operator)) in rules


#: Whether an operator is written in a way, and the way. The first that suits is taken.
WAYS: tuple[tuple[Callable[[Writer, Any, list[int], list[int]], bool], Way], ...] = (
    (_has_rule(Rule.LOOP), _loop),
    (lambda w, operator, inputs, outputs: not any(map(w.is_float, [*inputs, *outputs])), _as_it_is),
    (lambda w, operator, inputs, outputs: outputs[0] in w.states, _start),
    (lambda w, operator, inputs, outputs: outputs[0] in w.promoted.in_float, _in_float),
    (lambda w, operator, inputs, outputs: outputs[0] in w.exact, _in_float),
    (lambda w, operator, inputs, outputs: any(map(w.is_fine, inputs)), _in_float),
    (lambda w, operator, inputs, outputs: not w.is_float(outputs[0]), _compared),
    (_has_rule(Rule.LSTM), write_lstm),
    (
        lambda w, operator, inputs, outputs: (
            RULES.get(w.source.code(operator)) is Rule.WEIGHTED and w.source.value(inputs[1]) is not None
        ),
        _weighted,
    ),
    (_has_rule(Rule.OWN, Rule.SAME, Rule.FIXED), _plain),
    (lambda w, operator, inputs, outputs: True, _without_integer_form),
)
