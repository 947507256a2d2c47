"""Smaller weights for a file that still computes in float: float16, or int8 with ranges found at run time.

For LiteRT only: the microcontroller runtime refuses the one and gives NaN for the other.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_lstm_custom.export.file import fused_lstm
from keras_lstm_custom.export.file.flatbuffer import Op, Type, quantization, schema
from keras_lstm_custom.export.file.graph import Graph
from keras_lstm_custom.export.quantization.rules import CHANNEL_AXIS
from keras_lstm_custom.export.quantization.schemes import weights

#: Constants with fewer elements stay as they are: what they save is less than what describes them.
WORTHWHILE = 64


def float16(graph: Graph) -> None:
    """Store the larger float constants of a file in float16, each read through a DEQUANTIZE."""
    for part in graph.parts:
        _read_from_float16(part)


def _read_from_float16(graph: Graph) -> None:
    read: dict[int, int] = {}
    reading: list[Any] = []
    for operator in graph.operators:
        for position, index in enumerate(map(int, operator.inputs)):
            value = _worthwhile(graph, index)
            if value is None:
                continue
            if index not in read:
                stored = graph.constant(graph.name(index), np.clip(value, *_FLOAT16).astype(np.float16))
                read[index] = graph.tensor(f"{graph.name(index)}/float32", value.shape, np.float32)
                reading.append(graph.operator(Op.DEQUANTIZE, [stored], [read[index]], schema.DequantizeOptionsT(), 3))
            operator.inputs[position] = read[index]
    graph.operators[:] = reading + graph.operators


def dynamic(graph: Graph) -> None:
    """Store the weights of a file's LSTMs, convolutions and dense layers in int8; values between stay float."""
    for part in graph.parts:
        _store_in_int8(part)


def _store_in_int8(graph: Graph) -> None:
    for operator in graph.operators:
        code = graph.code(operator)
        if code == Op.UNIDIRECTIONAL_SEQUENCE_LSTM:
            kernels, version = [k for k in _OF_LSTM if operator.inputs[k] >= 0], 2
        elif code in CHANNEL_AXIS:
            kernels, version = [1], _HYBRID_VERSIONS[code]
        else:
            continue
        values = [_worthwhile(graph, int(operator.inputs[k])) for k in kernels]
        if not any(value is not None for value in values):
            continue
        for k in kernels:
            index = int(operator.inputs[k])
            axis = CHANNEL_AXIS.get(code)
            stored, scale = weights(graph.array(index), axis)
            operator.inputs[k] = graph.constant(graph.name(index), stored, quantization(scale, 0, axis or 0))
        operator.opcodeIndex = graph.opcode(code, version)


_FLOAT16 = (float(np.finfo(np.float16).min), float(np.finfo(np.float16).max))
#: What a fused LSTM may have in int8 beside float values; biases and layer normalisation stay.
_OF_LSTM = [
    *range(fused_lstm.KERNELS.start, fused_lstm.RECURRENT_KERNELS.stop),
    *range(fused_lstm.PEEPHOLES.start, fused_lstm.PEEPHOLES.stop),
    fused_lstm.PROJECTION,
]
#: The versions of these ops that know int8 weights beside float values.
_HYBRID_VERSIONS = {Op.FULLY_CONNECTED: 9, Op.CONV_2D: 5, Op.DEPTHWISE_CONV_2D: 6}


def _worthwhile(graph: Graph, index: int) -> np.ndarray | None:
    if index < 0 or graph.tensors[index].type != Type.FLOAT32:
        return None
    value = graph.value(index)
    return value if value is not None and value.size >= WORTHWHILE else None
