"""The ranges of the tensors of a float file, from the values that were seen."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from keras_lstm_custom.export.file.flatbuffer import Type
from keras_lstm_custom.export.file.graph import Graph
from keras_lstm_custom.export.quantization.room import with_room


class Inside(NamedTuple):
    """What a fused LSTM computes and shows to nobody."""

    cell: float  #: largest |c| of any step
    gates: dict[str, float]  #: largest |z| of a gate, before its layer normalisation
    hidden: tuple[float, float]  #: range of o ⊙ tanh(c), which a projection reads


class Ranges(NamedTuple):
    """What to expect, by tensor index of the float file."""

    low: dict[int, float]  #: of what was seen, with `with_room`
    high: dict[int, float]
    mean: dict[int, np.ndarray]  #: over all but the last axis
    inside: dict[int, Inside] = {}  #: of each fused LSTM, by the index of its cell state
    loops: dict[int, Ranges] = {}  #: of the body of each loop, by its number in the file

    @property
    def cell(self) -> dict[int, float]:
        """Return the largest |c| of each fused LSTM, by the index of its cell state."""
        return {index: inside.cell for index, inside in self.inside.items()}


class Seen:
    """What values the computed float tensors of a graph have taken."""

    def __init__(self, graph: Graph):
        read = {int(i) for o in graph.operators for i in o.inputs} | {*graph.inputs, *graph.outputs}
        self.shapes = {  # the runtime keeps no values for what nobody reads
            index: graph.shape(index)
            for index, tensor in enumerate(graph.tensors)
            if tensor.type == Type.FLOAT32 and index in read and not tensor.isVariable and graph.value(index) is None
        }
        self.ends = dict.fromkeys(self.shapes, (math.inf, -math.inf))
        self.total: dict[int, Any] = dict.fromkeys(self.shapes, 0.0)
        self.count = 0

    def look(self, steps: Iterable[Any]) -> None:
        """Take what an interpreter holds after each of some invocations."""
        held: dict[int, list[np.ndarray]] = defaultdict(list)
        for interpreter in steps:
            self.count += 1
            for index in self.shapes:
                held[index].append(interpreter.get_tensor(index))
        for index, arrays in held.items():
            values, (low, high) = np.stack(arrays), self.ends[index]
            self.ends[index] = min(low, float(values.min())), max(high, float(values.max()))
            rows = values.reshape(len(arrays), -1, self.shapes[index][-1] if self.shapes[index] else 1)
            self.total[index] = self.total[index] + rows.mean(axis=1, dtype=np.float64).sum(axis=0)

    def ranges(self) -> Ranges:
        room = {k: with_room(*ends, self.count * math.prod(self.shapes[k])) for k, ends in self.ends.items()}
        lows, highs = ({index: ends[k] for index, ends in room.items()} for k in (0, 1))
        return Ranges(lows, highs, {index: values / self.count for index, values in self.total.items()})
