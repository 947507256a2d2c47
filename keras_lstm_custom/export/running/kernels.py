"""Which kernels of TensorFlow Lite for Microcontrollers run a file, and how much memory they take.

The runtime has two sets of kernels: its own, the reference, and those of CMSIS-NN, with which it is built for Cortex-M.
The package on the index has the first alone. What the others refuse, or do otherwise, stands here as rules, each with
what it was read from (tflite-micro 90b983c, CMSIS-NN 99f736a) or seen on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from keras_lstm_custom.export.file import fused_lstm
from keras_lstm_custom.export.file.flatbuffer import Op, Type
from keras_lstm_custom.export.file.graph import Graph
from keras_lstm_custom.export.file.rewrites_of_shapes import positions_read

_INTEGERS = (Type.INT8, Type.INT16)


@dataclass(frozen=True)
class Rule:
    """Something that CMSIS-NN does not do, and how it is found in a file."""

    says: str
    remedy: str
    source: str
    broken: Callable[[Graph], Iterator[str]]  #: yields the names of the tensors at fault


def broken_rules(graph: Graph) -> list[tuple[Rule, str]]:
    """Return the rules that a file breaks, each with the first tensor at fault; without one, it runs on CMSIS-NN."""
    parts = graph.parts
    found = ((rule, next((name for part in parts for name in rule.broken(part)), None)) for rule in RULES)
    return [(rule, name) for rule, name in found if name is not None]


def _fully_connected(graph: Graph) -> Iterator[str]:
    for operator in graph.of(Op.FULLY_CONNECTED):
        x, weights = (int(index) for index in operator.inputs[:2])
        record = graph.tensors[weights].quantization
        if graph.tensors[x].type == Type.INT16 and record is not None and len(record.scale) > 1:
            yield graph.name(weights)


def _integer_lstms(graph: Graph) -> Iterator[Any]:
    return (o for o in fused_lstm.lstm_ops(graph) if graph.tensors[int(o.inputs[fused_lstm.X])].type in _INTEGERS)


def _started_elsewhere(graph: Graph) -> Iterator[str]:
    """Yield states that are not zero at the beginning of an invocation: kept, or given."""
    made_by = graph.made_by()
    for operator in _integer_lstms(graph):
        for state in (int(operator.inputs[place]) for place in (fused_lstm.H, fused_lstm.C)):
            start = graph.value(int(made_by[state].inputs[0])) if state in made_by else None
            record = graph.tensors[state].quantization
            if start is None or (start != int(record.zeroPoint[0])).any():
                yield graph.name(state)


def _read_cells(graph: Graph) -> Iterator[str]:
    """Yield cell states that are read after the LSTM."""
    lstms = list(_integer_lstms(graph))
    read = set(graph.outputs) | {
        int(index) for operator in graph.operators if operator not in lstms for index in operator.inputs
    }
    for operator in lstms:
        if (c := int(operator.inputs[fused_lstm.C])) in read:
            yield graph.name(c)


def _unread_steps(graph: Graph) -> Iterator[str]:
    for code in (Op.CONV_2D, Op.DEPTHWISE_CONV_2D):
        for operator in graph.of(code):
            x = int(operator.inputs[0])
            if graph.tensors[x].type in _INTEGERS and list(graph.shape(x)[1:3]) != positions_read(graph, operator):
                yield graph.name(x)


RULES = (
    Rule(
        "refuses a FULLY_CONNECTED of int16 values whose weights have a scale for each channel",
        "store these weights with one scale",
        "kernels/cmsis_nn/fully_connected.cc, Prepare",
        _fully_connected,
    ),
    Rule(
        "starts its integer LSTM from zero at every invocation, whatever its states hold",
        "use state='explicit', fused=False, or float32",
        "kernels/cmsis_nn/unidirectional_sequence_lstm.cc, CMSIS_NN_EvalInteger8x8_16Lstm",
        _started_elsewhere,
    ),
    Rule(
        "does not write the last cell state of its integer LSTM back",
        "use fused=False, or float32",
        "kernels/cmsis_nn/unidirectional_sequence_lstm.cc, CMSIS_NN_EvalInteger8x8_16Lstm",
        _read_cells,
    ),
    Rule(
        "leaves a tap out of the last position of a strided convolution that does not read its last inputs (Helium)",
        "crop them",
        "seen on an emulated Cortex-M55; exact where the last inputs are read",
        _unread_steps,
    ),
)

#: Bytes of parameters that the kernels of CMSIS-NN keep for each integer LSTM beside the sums (cmsis_nn_lstm_params,
#: 316 on a 64-bit computer), and what aligning its eight buffers to 16 bytes takes.
LSTM_PARAMETERS = 320
LSTM_ALIGNMENT = 8 * 16


def cmsis_nn_bytes(graph: Graph) -> int:
    """Return how many more bytes of the arena the kernels of CMSIS-NN take than the reference kernels, at most.

    For each integer LSTM of `units`, eight sums over its weights (int32 for int8 values, int64 for int16):
    32 or 64 bytes a unit. One buffer is shared by all convolutions and products: the largest that one asks for, with
    Helium or without.
    """
    parts = graph.parts
    kept = sum(_lstm_bytes(part, operator) for part in parts for operator in _integer_lstms(part))
    kept += sum(_kept_sums(part, operator) for part in parts for operator in part.of(Op.FULLY_CONNECTED))
    return kept + max((_scratch_bytes(part, operator) for part in parts for operator in part.operators), default=0)


def _width(graph: Graph, operator: Any) -> int:
    """Return the bytes of one value that an integer operator reads; 0 if it computes in float."""
    return {Type.INT8: 1, Type.INT16: 2}.get(graph.tensors[int(operator.inputs[0])].type, 0)


def _lstm_bytes(graph: Graph, operator: Any) -> int:
    units = graph.shape(int(operator.inputs[fused_lstm.H]))[-1]
    return 8 * 4 * _width(graph, operator) * units + LSTM_PARAMETERS + LSTM_ALIGNMENT


def _kept_sums(graph: Graph, operator: Any) -> int:
    """Return the bytes of `arm_fully_connected_s8_get_buffer_size` with Helium, which are kept for each product."""
    is_int8 = _width(graph, operator) == 1
    return 4 * graph.shape(int(operator.outputs[0]))[-1] + 16 if is_int8 else 0


def _convolution_bytes(width: int, kernel: tuple[int, ...], channels: int) -> int:
    columns = math.prod(kernel[1:])
    return max(4 * 16 * -(-columns * width // 16), 4 * -(-columns // 4) * 4)


def _depthwise_bytes(width: int, kernel: tuple[int, ...], channels: int) -> int:
    area = math.prod(kernel[1:3])
    return max(4 * 124 * area, 2 * kernel[3] * area)


#: `arm_convolve_s8_get_buffer_size` and its like: the bytes of the shared buffer, by the bytes of a value, the shape of
#: the second input (of a convolution its kernel), and the channels of the output. A product with weights keeps a
#: multiplier and a shift for each channel.
_SCRATCH: dict[int, Callable[[int, tuple[int, ...], int], int]] = {
    Op.AVERAGE_POOL_2D: lambda width, kernel, channels: 4 * channels,
    Op.BATCH_MATMUL: lambda width, kernel, channels: 4 * channels,
    Op.CONV_2D: _convolution_bytes,
    Op.DEPTHWISE_CONV_2D: _depthwise_bytes,
    Op.FULLY_CONNECTED: lambda width, kernel, channels: 8 * channels,
}


def _scratch_bytes(graph: Graph, operator: Any) -> int:
    """Return the bytes of the shared buffer that an operator asks for."""
    width, formula = _width(graph, operator), _SCRATCH.get(graph.code(operator))
    if not width or formula is None:
        return 0
    kernel = graph.shape(int(operator.inputs[1])) if len(operator.inputs) > 1 else ()
    return formula(width, kernel, graph.shape(int(operator.outputs[0]))[-1])
