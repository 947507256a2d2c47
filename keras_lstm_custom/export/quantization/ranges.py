"""What values each tensor of a float file takes on real input, and the cell states of every single step."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np

from keras_lstm_custom.export.file import fused_lstm, loop
from keras_lstm_custom.export.file.flatbuffer import Type
from keras_lstm_custom.export.file.graph import Graph

#: Up to how many standard deviations the range of a normal variable must reach: there, clipping and the
#: rounding of eight bits together err least (1 % of the standard deviation; 4 to 5 are nearly as good).
REACH = 4.5


class Ranges(NamedTuple):
    """What to expect, by tensor index of the float file."""

    low: dict[int, float]  #: of what was seen, with `with_room`
    high: dict[int, float]
    cell: dict[int, float]  #: largest |c| of any step, by the index of an LSTM's cell state
    mean: dict[int, np.ndarray]  #: over all but the last axis
    loops: dict[int, Ranges] = {}  #: of the body of each loop, by its number in the file


def calibrate(content: bytes, samples: Iterable[Sequence[np.ndarray]]) -> Ranges:
    """Run a float file on real input and find the range of each float tensor.

    The state starts afresh for each sample. The runtime shows the cell state after the last step
    only, so the steps in between are computed here, from the inputs and outputs of the LSTM; and the body of a loop
    is run here step by step.

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
    loops = [_LoopReader(content, operator) for operator in loop.loops(graph)]
    seen = _Seen(graph)
    for sample in samples:
        interpreter.reset_all_variables()
        for block in _blocks(sample, inputs):
            for detail, array in zip(inputs, block, strict=True):
                interpreter.set_tensor(detail["index"], np.ascontiguousarray(array, detail["dtype"]))
            for cell in cells:
                cell.before(interpreter)
            interpreter.invoke()
            seen.look([interpreter])
            for reader in [*cells, *loops]:
                reader.after(interpreter)
    ranges = seen.ranges()._replace(cell={cell.c: cell.largest for cell in cells})
    return ranges._replace(loops={reader.number: reader.seen.ranges() for reader in loops})


class _Seen:
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
        return Ranges(lows, highs, {}, {index: values / self.count for index, values in self.total.items()})


def with_room(low: float, high: float, count: int) -> tuple[float, float]:
    """Return an interval that holds zero, what was seen, and room for what so few values have not shown.

    The largest of n normal values lies near the quantile 1 - 1/(2n): 3.0 standard deviations for 384 values, 1.9
    for 16. What comes later exceeds it, and in integers is clipped, which costs more than coarser steps do. So the
    interval is widened about its middle by the factor that would bring it to `REACH`; for 150,000 values
    that is 1. An end on zero's own side (of a ReLU) stays there.
    """
    factor = max(1.0, REACH / NormalDist().inv_cdf(1 - 0.5 / max(count, 2)))
    more = (factor - 1) * (high - low) / 2
    return (low - more if low < 0 else 0.0), (high + more if high > 0 else 0.0)


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


class _LoopReader:
    """Runs the body of one loop step by step on what the runtime has put into the loop."""

    def __init__(self, content: bytes, operator: Any):
        alone = Graph(content)
        self.inputs = [int(index) for index in operator.inputs]
        self.timesteps = loop.timesteps_of(alone, operator)
        self.number, body = loop.body_of(alone, operator)
        self.seen = _Seen(body)
        alone.model.subgraphs, alone.model.signatureDefs = [body.subgraph], []
        self.interpreter = _interpreter(alone.part(0).pack())
        self.places = [
            [detail["index"] for detail in details]
            for details in (self.interpreter.get_input_details(), self.interpreter.get_output_details())
        ]

    def after(self, interpreter: Any) -> None:
        self.seen.look(self._steps([interpreter.get_tensor(index) for index in self.inputs]))

    def _steps(self, values: list[np.ndarray]) -> Iterator[Any]:
        inputs, outputs = self.places
        for _ in range(self.timesteps):
            for index, value in zip(inputs, values, strict=True):
                self.interpreter.set_tensor(index, value)
            self.interpreter.invoke()
            values = [self.interpreter.get_tensor(index) for index in outputs]
            yield self.interpreter


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
