"""What a runtime does not show: the cell states and gates inside a fused LSTM, and the steps inside a loop."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from keras_lstm_custom.equations.lstm_options import EPSILON
from keras_lstm_custom.export.file import fused_lstm, loop
from keras_lstm_custom.export.file.graph import Graph
from keras_lstm_custom.export.quantization.seen import Inside, Seen


def interpreter_of(content: bytes) -> Any:
    """Return an interpreter that keeps the values of all tensors, and runs the ops as they stand in the file."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(
        model_content=content,
        num_threads=1,
        experimental_preserve_all_tensors=True,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    interpreter.allocate_tensors()
    return interpreter


class LoopReader:
    """Runs the body of one loop step by step on what the runtime has put into the loop."""

    def __init__(self, graph: Graph, operator: Any):
        self.inputs = [int(index) for index in operator.inputs]
        self.timesteps = loop.timesteps_of(graph, operator)
        self.number, body = loop.body_of(graph, operator)
        self.seen = Seen(body)
        self.interpreter = interpreter_of(graph.alone(self.number).pack())
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


class CellReader:
    """Computes every step of one fused LSTM from what the runtime shows of it."""

    def __init__(self, graph: Graph, operator: Any):
        inputs = [int(index) for index in operator.inputs]

        def by_gate(place: slice, gates: str = "ifgo") -> dict[str, np.ndarray]:
            return {g: graph.array(i).T for g, i in zip(gates, inputs[place], strict=True) if i >= 0}

        self.x, self.c, self.y = inputs[fused_lstm.X], inputs[fused_lstm.C], int(operator.outputs[0])
        self.kernels, self.recurrent_kernels, self.biases, self.gammas = map(
            by_gate, (fused_lstm.KERNELS, fused_lstm.RECURRENT_KERNELS, fused_lstm.BIASES, fused_lstm.GAMMAS)
        )
        self.peepholes = by_gate(fused_lstm.PEEPHOLES, "ifo")
        self.clip = operator.builtinOptions.cellClip
        written = {int(o.outputs[0]): int(o.inputs[0]) for o in graph.operators}
        self.states = [inputs[fused_lstm.H], self.c]
        self.starts = [written.get(state) for state in self.states]  #: what is written into them first, if anything
        self.inside = Inside(0.0, dict.fromkeys(self.kernels, 0.0), (0.0, 0.0))
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
        z = {g: x @ kernel + h_before @ self.recurrent_kernels[g] for g, kernel in self.kernels.items()}
        largest, (low, high) = max(self.inside.cell, float(np.abs(c).max())), self.inside.hidden
        for t in range(len(x)):
            f = _sigmoid(self._gate("f", z, t, c))
            i = _sigmoid(self._gate("i", z, t, c)) if "i" in z else 1 - f
            c = np.clip(f * c + i * np.tanh(self._gate("g", z, t, c)), -self.clip, self.clip)
            hidden = _sigmoid(self._gate("o", z, t, c)) * np.tanh(c)
            largest = max(largest, float(np.abs(c).max()))
            low, high = min(low, float(hidden.min())), max(high, float(hidden.max()))
        self.inside = self.inside._replace(cell=largest, hidden=(low, high))

    def _gate(self, gate: str, z: dict[str, np.ndarray], t: int, c: np.ndarray) -> np.ndarray:
        """Return what a gate applies its function to at one step."""
        value = z[gate][t] + self.peepholes[gate] * c if gate in self.peepholes else z[gate][t]
        if gate in self.gammas:
            self.inside.gates[gate] = max(self.inside.gates[gate], float(np.abs(value).max()))
            value = value - value.mean()
            value = value / math.sqrt(np.mean(value**2) + EPSILON["gate"]) * self.gammas[gate]
        return value + self.biases[gate]


def _sigmoid(z: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(0.5 * z))
