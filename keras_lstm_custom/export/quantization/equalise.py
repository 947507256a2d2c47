"""Parts of a concatenation brought nearer to each other, since in int8 they share one scale.

A skip connection often joins an input of a range of 4 with the hidden state of an LSTM that stays below
0.2: with one scale for both, little of the hidden state is left. Where only weights read the concatenation, a
narrow part can be multiplied by k and its columns of the weights divided by it; in float nothing changes. With
k = sqrt(widest / own range) the rounding errors of the values and of the weights become alike (Nagel et al. 2019,
"Data-Free Quantization Through Weight Equalization and Bias Correction", section 4.1).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from keras_lstm_custom.export.file import fused_lstm
from keras_lstm_custom.export.file.flatbuffer import Op, schema
from keras_lstm_custom.export.file.graph import Graph
from keras_lstm_custom.export.quantization.seen import Ranges

LEAST, MOST = 2.0, 16.0  #: a smaller factor is not worth an op; a larger one takes too much from the weights

#: Ops that pass channels on as they are, if they keep the last axis.
PASSING = {Op.REVERSE_V2, Op.STRIDED_SLICE, Op.RESHAPE, Op.SLICE}
#: Where weighted ops have weights with their input channels along the last axis.
WEIGHTS = {
    Op.FULLY_CONNECTED: [1],
    Op.UNIDIRECTIONAL_SEQUENCE_LSTM: list(range(fused_lstm.INPUT_COUNT))[fused_lstm.KERNELS],
}


def equalise(graph: Graph, ranges: Ranges) -> bool:
    """Equalise the concatenations of a float file; say whether there were any to equalise.

    Args:
        graph: a float file, which is changed.
        ranges: what `calibrate` found for it; the changed file needs its own.
    """
    before: dict[int, list[Any]] = {}  #: by the id of a concatenation: the multiplications of its parts
    for operator in list(graph.of(Op.CONCATENATION)):
        readers = list(_weights_behind(graph, int(operator.outputs[0]), 0))
        places = [reader for reader in readers if reader is not None]
        if len(places) < len(readers) or not _joins_channels(graph, operator):
            continue
        parts = [int(part) for part in operator.inputs]
        widths = [ranges.high[part] - ranges.low[part] if part in ranges.low else 0.0 for part in parts]
        start = 0
        for position, (part, width) in enumerate(zip(parts, widths, strict=True)):
            stop = start + graph.shape(part)[-1]
            factor = min(float(np.sqrt(max(widths) / width)), MOST) if width else 1.0
            if factor >= LEAST:
                for reader, place, offset in places:
                    kernel = graph.array(int(reader.inputs[place])).copy()
                    kernel[:, offset + start : offset + stop] /= factor
                    reader.inputs[place] = graph.constant(graph.name(int(reader.inputs[place])), kernel)
                before.setdefault(id(operator), []).append(_multiplied(graph, operator, position, factor))
            start = stop
    graph.operators[:] = [each for operator in graph.operators for each in [*before.get(id(operator), []), operator]]
    return bool(before)


def _joins_channels(graph: Graph, operator: Any) -> bool:
    return operator.builtinOptions.axis in (-1, len(graph.shape(int(operator.outputs[0]))) - 1)


def _weights_behind(graph: Graph, tensor: int, offset: int) -> Iterator[tuple[Any, int, int] | None]:
    """Yield the weights that read a tensor's channels: operator, place, first channel; None for any other reader."""
    if tensor in graph.outputs:
        yield None
    for reader in graph.operators:
        inputs = [int(index) for index in reader.inputs]
        if tensor not in inputs:
            continue
        code, output = graph.code(reader), int(reader.outputs[0])
        if code in WEIGHTS and inputs.count(tensor) == 1 and inputs[0] == tensor:
            places = [place for place in WEIGHTS[code] if inputs[place] >= 0]
            constant = all(graph.value(inputs[place]) is not None for place in places)
            yield from [(reader, place, offset) for place in places] if constant else [None]
        elif code in PASSING and graph.shape(output)[-1:] == graph.shape(tensor)[-1:]:
            yield from _weights_behind(graph, output, offset)
        elif code == Op.CONCATENATION and inputs.count(tensor) == 1 and _joins_channels(graph, reader):
            ahead = sum(graph.shape(index)[-1] for index in inputs[: inputs.index(tensor)])
            yield from _weights_behind(graph, output, offset + ahead)
        else:
            yield None


def _multiplied(graph: Graph, operator: Any, position: int, factor: float) -> Any:
    """Let a concatenation read one of its inputs times a factor; return the operator that multiplies."""
    part = int(operator.inputs[position])
    constant = graph.constant("factor", np.full((1,) * len(graph.shape(part)), factor, np.float32))
    product = graph.tensor(f"{graph.name(part)}/equalised_{len(graph.tensors)}", graph.shape(part), np.float32)
    operator.inputs[position] = product
    return graph.operator(Op.MUL, [part, constant], [product], schema.MulOptionsT())
