"""The fused LSTM op of TFLite in place of each mark of one that `recurrence` left.

`UNIDIRECTIONAL_SEQUENCE_LSTM` differs from the LSTM of Keras in three ways, each settled here:

- It clips the cell state; the converter would write 10. The clip is that of the cell, or so large that it never acts
  (not 0, which the CMSIS-NN kernel takes as a clip at zero).
- It keeps h and c in variable tensors between invocations. Unless the file is to be stateful, ops
  at its beginning write the initial state into them, so that every invocation starts afresh.
- It has no output for the last cell state. The variable tensor holds it after the op has run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from keras_lstm_custom.errors import ExportError
from keras_lstm_custom.export.file.flatbuffer import Op, schema
from keras_lstm_custom.export.file.graph import Graph
from keras_lstm_custom.export.model.as_lstm import FusedLSTM

NO_CLIP = 1e6

#: Where the op has its inputs; -1 stands at those that a cell does not have.
INPUT_COUNT = 24
X = 0
KERNELS = slice(1, 5)  #: of the gates i, f, g, o, each (units, features)
RECURRENT_KERNELS = slice(5, 9)  #: each (units, width of h)
PEEPHOLES = slice(9, 12)  #: of i, f, o, each (units,)
BIASES = slice(12, 16)
PROJECTION = 16  #: (width of h, units); its bias would be 17
H = 18
C = 19
GAMMAS = slice(20, 24)  #: of the layer normalisation, each (units,)
#: What one runtime alone computes.
VARIANTS = (*range(*PEEPHOLES.indices(INPUT_COUNT)), PROJECTION, *range(*GAMMAS.indices(INPUT_COUNT)))


def fused(graph: Graph, mark: Any, lstm: FusedLSTM, *, stateful: bool, resets: list[Any]) -> list[Any]:
    """Return the operators that stand in place of a mark.

    Args:
        graph: a float file as the converter wrote it; tensors are added.
        mark: the operator.
        lstm: the weights.
        stateful: whether the state is kept between invocations.
        resets: what must run first in the file is put here.
    """
    x, h_start, c_start = (int(index) for index in mark.inputs)
    y, c_last = (int(index) for index in mark.outputs)
    sizes = {"h": lstm.width, "c": lstm.units}
    states = [graph.tensor(f"{lstm.name}/{n}", (1, size), np.float32, variable=True) for n, size in sizes.items()]

    before: list[Any] = []
    for start, state in zip((h_start, c_start), states, strict=True):
        value = graph.value(start)
        if value is None:
            before.append(copy_of(graph, start, state))
        elif not stateful:
            resets.append(copy_of(graph, graph.constant(f"{graph.name(state)}_start", value), state))
        elif value.any():
            raise _no_start(lstm.name)
    inputs = [-1] * INPUT_COUNT
    inputs[X], inputs[H], inputs[C] = x, *states
    for place, parts, what, gates in (
        (KERNELS, lstm.kernels, "kernel", "ifgo"),
        (RECURRENT_KERNELS, lstm.recurrent_kernels, "recurrent_kernel", "ifgo"),
        (PEEPHOLES, lstm.peepholes, "peephole", "ifo"),
        (BIASES, lstm.biases, "bias", "ifgo"),
        (GAMMAS, lstm.gammas, "gamma", "ifgo"),
    ):
        inputs[place] = _constants(graph, f"{lstm.name}/{what}", parts, gates)
    if lstm.projection is not None:
        inputs[PROJECTION] = graph.constant(f"{lstm.name}/projection_kernel", _transposed(lstm.projection))
    graph.tensors[y].name = f"{lstm.name}/y".encode()
    lstm_op = graph.operator(Op.UNIDIRECTIONAL_SEQUENCE_LSTM, inputs, [y], _options(lstm))
    return [*before, lstm_op, *_last_cell_state(graph, lstm.name, y, states[1], c_last)]


def lstm_ops(graph: Graph) -> list[Any]:
    """Return the fused LSTM operators, in the order in which they run."""
    return list(graph.of(Op.UNIDIRECTIONAL_SEQUENCE_LSTM))


def is_variant(operator: Any) -> bool:
    """Say whether a fused operator has what one runtime alone computes."""
    return int(operator.inputs[KERNELS.start]) < 0 or any(int(operator.inputs[place]) >= 0 for place in VARIANTS)


def state_tensors(graph: Graph) -> list[tuple[int, int]]:
    """Return the indices of h and c of each fused LSTM."""
    return [(int(operator.inputs[H]), int(operator.inputs[C])) for operator in lstm_ops(graph)]


def gate_places() -> Iterator[tuple[int, int, int]]:
    """Yield for each gate where the op has its kernel, recurrent kernel and bias."""
    places = range(INPUT_COUNT)
    return zip(places[KERNELS], places[RECURRENT_KERNELS], places[BIASES], strict=True)


def copy_of(graph: Graph, source: int, target: int) -> Any:
    """Return the operator that copies a tensor: the maximum of it and itself, which every runtime and type has."""
    return graph.operator(Op.MAXIMUM, [source, source], [target], schema.MaximumMinimumOptionsT())


def _options(lstm: FusedLSTM) -> Any:
    record = schema.UnidirectionalSequenceLSTMOptionsT()
    record.fusedActivationFunction = schema.ActivationFunctionType.TANH
    record.cellClip = NO_CLIP if lstm.cell_clip is None else lstm.cell_clip
    record.projClip = 0.0 if lstm.projection_clip is None else lstm.projection_clip
    return record


def _constants(graph: Graph, name: str, parts: Mapping[str, np.ndarray], gates: str) -> list[int]:
    return [graph.constant(f"{name}_{g}", _transposed(parts[g])) if g in parts else -1 for g in gates]


def _transposed(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array.T, np.float32)


def _last_cell_state(graph: Graph, name: str, y: int, c: int, c_last: int) -> list[Any]:
    """Let readers of the last cell state have it.

    A graph output is the variable tensor itself. For operators it is copied, by an addition of
    zero times the outputs: the runtimes see no other reason to wait for the LSTM before reading c.
    """
    graph.outputs = [c if index == c_last else index for index in graph.outputs]
    for signature in graph.model.signatureDefs:
        for entry in signature.outputs:
            entry.tensorIndex = c if entry.tensorIndex == c_last else entry.tensorIndex
    if not any(c_last in operator.inputs for operator in graph.operators):
        return []
    # One number of the last output is enough, whatever its width.
    last, nothing = (graph.tensor(f"{name}/{part}", (1, 1, 1), np.float32) for part in ("y_last", "nothing"))
    slicing = [
        graph.constant(f"{name}/{n}", np.asarray(v, np.int32))
        for n, v in (("begin", [0, graph.shape(y)[1] - 1, 0]), ("size", [1, 1, 1]))
    ]
    zero = graph.constant("zero", np.zeros((1, 1, 1), np.float32))
    flat = graph.tensor(f"{name}/nothing_flat", (1, 1), np.float32)
    target = graph.constant(f"{name}/nothing_shape", np.asarray([1, 1], np.int32))
    return [
        graph.operator(Op.SLICE, [y, *slicing], [last], schema.SliceOptionsT()),
        graph.operator(Op.MUL, [last, zero], [nothing], schema.MulOptionsT()),
        graph.operator(Op.RESHAPE, [nothing, target], [flat], schema.ReshapeOptionsT()),
        graph.operator(Op.ADD, [c, flat], [c_last], schema.AddOptionsT()),
    ]


def _no_start(name: str) -> ExportError:
    return ExportError(
        f"The layer {name!r} starts from a constant state, and a file that keeps its state starts from zero.",
        expected="a layer without a constant initial state, with stateful=True",
        received="a constant initial state",
        remedy="Make the initial state an input of the model, or export with stateful=False.",
    )
