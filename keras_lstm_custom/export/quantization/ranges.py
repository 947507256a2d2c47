"""What values each tensor of a float file takes on real input, and the cell states of every single step."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from keras_lstm_custom.export.file import fused_lstm
from keras_lstm_custom.export.file.flatbuffer import Type
from keras_lstm_custom.export.file.graph import Graph
from keras_lstm_custom.export.quantization.room import with_room


class Ranges(NamedTuple):
    """What to expect, by tensor index of the float file."""

    low: dict[int, float]  #: of what was seen, with `with_room`
    high: dict[int, float]
    cell: dict[int, float]  #: largest |c| of any step, by the index of an LSTM's cell state
    mean: dict[int, np.ndarray]  #: over all but the last axis


def calibrate(content: bytes, samples: Iterable[Sequence[np.ndarray]]) -> Ranges:
    """Run a float file on real input and find the range of each float tensor.

    The state starts afresh for each sample. The runtime shows the cell state after the last step
    only, so the steps in between are computed here, from the inputs and outputs of the LSTM.

    Args:
        content: the float file.
        samples: for each sample one array for each input of the file, of the input's shape. For a
            file that keeps its state an array may hold several blocks of timesteps, which follow
            one another: `(1, k * timesteps, features)`.
    """
    graph = Graph(content)
    interpreter = _interpreter(content)
    inputs = interpreter.get_input_details()
    cells = [_CellReader(graph, operator) for operator in fused_lstm.lstm_ops(graph)]
    computed = [
        index
        for index, tensor in enumerate(graph.tensors)
        if tensor.type == Type.FLOAT32 and not tensor.isVariable and graph.value(index) is None
    ]
    seen: dict[int, tuple[float, float]] = defaultdict(lambda: (math.inf, -math.inf))
    total: dict[int, Any] = defaultdict(float)
    count = 0
    for sample in samples:
        interpreter.reset_all_variables()
        for block in _blocks(sample, inputs):
            for detail, array in zip(inputs, block, strict=True):
                interpreter.set_tensor(detail["index"], np.ascontiguousarray(array, detail["dtype"]))
            for cell in cells:
                cell.before(interpreter)
            interpreter.invoke()
            for index in computed:
                values = interpreter.get_tensor(index)
                low, high = seen[index]
                seen[index] = min(low, float(values.min())), max(high, float(values.max()))
                total[index] += values.reshape(-1, values.shape[-1] if values.ndim else 1).mean(
                    axis=0, dtype=np.float64
                )
            count += 1
            for cell in cells:
                cell.after(interpreter)
    mean = {index: values / count for index, values in total.items()}
    room = {index: with_room(*seen[index], count * math.prod(graph.shape(index))) for index in seen}
    lows, highs = ({index: ends[k] for index, ends in room.items()} for k in (0, 1))
    return Ranges(lows, highs, {cell.c: cell.largest for cell in cells}, mean)


def _interpreter(content: bytes) -> Any:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(
        model_content=content,
        num_threads=1,
        experimental_preserve_all_tensors=True,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    interpreter.allocate_tensors()
    return interpreter


def _blocks(sample: Sequence[np.ndarray], inputs: Sequence[dict]) -> list[list[np.ndarray]]:
    """Cut sequences that are longer than the file's into blocks of its length."""
    counts = {
        array.shape[1] // int(detail["shape"][1]) if array.ndim > 1 and array.shape[1] else 1
        for array, detail in zip(sample, inputs, strict=True)
    }
    count = max(counts)
    return [list(parts) for parts in zip(*(np.split(array, count, axis=1) for array in sample), strict=True)]


class _CellReader:
    """Computes |c| of every step of one LSTM from what the runtime shows of it."""

    def __init__(self, graph: Graph, operator: Any):
        inputs = [int(index) for index in operator.inputs]
        self.x, self.c, self.y = inputs[fused_lstm.X], inputs[fused_lstm.C], int(operator.outputs[0])
        self.kernel, self.recurrent_kernel, self.bias = (
            np.concatenate([graph.array(index) for index in inputs[place]]).T
            for place in (fused_lstm.KERNELS, fused_lstm.RECURRENT_KERNELS, fused_lstm.BIASES)
        )
        written = {int(o.outputs[0]): int(o.inputs[0]) for o in graph.operators}
        self.states = [inputs[fused_lstm.H], self.c]
        self.starts = [written.get(state) for state in self.states]  #: what is written into them first, if anything
        self.largest = 0.0
        self.kept: list[np.ndarray] = []

    def before(self, interpreter: Any) -> None:
        self.kept = [interpreter.get_tensor(state) for state in self.states]

    def after(self, interpreter: Any) -> None:
        h, c = (
            kept if start is None else interpreter.get_tensor(start)
            for kept, start in zip(self.kept, self.starts, strict=True)
        )
        x, y = interpreter.get_tensor(self.x)[0], interpreter.get_tensor(self.y)[0]
        h_before = np.concatenate([h, y[:-1]])
        z = x @ self.kernel + h_before @ self.recurrent_kernel + self.bias
        z_i, z_f, z_g, _ = np.split(z, 4, axis=-1)
        i, f, g = _sigmoid(z_i), _sigmoid(z_f), np.tanh(z_g)
        self.largest = max(self.largest, float(np.abs(c).max()))
        for t in range(len(x)):
            c = f[t] * c + i[t] * g[t]
            self.largest = max(self.largest, float(np.abs(c).max()))


def _sigmoid(z: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(0.5 * z))
