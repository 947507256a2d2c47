"""The fused LSTM op of TFLite in place of each mark that `recurrence` left.

`UNIDIRECTIONAL_SEQUENCE_LSTM` differs from the LSTM of Keras in three ways, each settled here:

- It clips the cell state; the converter would write 10. The clip is written so large that it never acts
  (not 0, which the CMSIS-NN kernel takes as a clip at zero).
- It keeps h and c in variable tensors between invocations. Unless the file is to be stateful, ops
  at its beginning write the initial state into them, so that every invocation starts afresh.
- It has no output for the last cell state. The variable tensor holds it after the op has run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from keras_lstm_custom.errors import ExportError
from keras_lstm_custom.export.file.flatbuffer import Op, schema
from keras_lstm_custom.export.file.graph import Graph
from keras_lstm_custom.export.model.recurrence import MARK, LSTMWeights

NO_CLIP = 1e6

#: Where the op has its inputs; -1 stands at the others (peepholes, projection, layer norm).
INPUT_COUNT = 24
X = 0
KERNELS = slice(1, 5)  #: of the gates i, f, g, o, each (units, features)
RECURRENT_KERNELS = slice(5, 9)  #: each (units, units)
BIASES = slice(12, 16)
H = 18
C = 19


def fuse(graph: Graph, lstms: Sequence[LSTMWeights], *, stateful: bool = False) -> None:
    """Put the fused op in place of every mark in `graph`.

    Args:
        graph: a float file as the converter wrote it; it is changed.
        lstms: the weights, by the number in a mark's name.
        stateful: whether the state is kept between invocations.
    """
    resets: list[Any] = []
    operators: list[Any] = []
    for operator in graph.operators:
        name = graph.custom_name(operator)
        if name.startswith(MARK):
            operators += _fused(graph, operator, lstms[int(name.removeprefix(MARK))], stateful, resets)
        else:
            operators.append(operator)
    graph.operators[:] = resets + operators


def lstm_ops(graph: Graph) -> list[Any]:
    """Return the fused LSTM operators, in the order in which they run."""
    return list(graph.of(Op.UNIDIRECTIONAL_SEQUENCE_LSTM))


def state_tensors(graph: Graph) -> list[tuple[int, int]]:
    """Return the indices of h and c of each fused LSTM."""
    return [(int(operator.inputs[H]), int(operator.inputs[C])) for operator in lstm_ops(graph)]


def options() -> Any:
    """Return the op's options, without a clip."""
    record = schema.UnidirectionalSequenceLSTMOptionsT()
    record.fusedActivationFunction = schema.ActivationFunctionType.TANH
    record.cellClip = NO_CLIP
    return record


def _fused(graph: Graph, mark: Any, lstm: LSTMWeights, stateful: bool, resets: list) -> list[Any]:
    """Return the operators that stand in place of a mark; what must run first goes to `resets`."""
    x, h_start, c_start = (int(index) for index in mark.inputs)
    y, c_last = (int(index) for index in mark.outputs)
    gates = [np.ascontiguousarray(kernel.T) for kernel in np.split(lstm.kernel, 4, axis=1)]
    recurrent = [np.ascontiguousarray(kernel.T) for kernel in np.split(lstm.recurrent_kernel, 4, axis=1)]
    biases = np.split(lstm.bias, 4)
    states = [graph.tensor(f"{lstm.name}/{n}", (1, lstm.units), np.float32, variable=True) for n in "hc"]

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
    for place, arrays, what in (
        (KERNELS, gates, "kernel"),
        (RECURRENT_KERNELS, recurrent, "recurrent_kernel"),
        (BIASES, biases, "bias"),
    ):
        inputs[place] = [graph.constant(f"{lstm.name}/{what}_{g}", a) for g, a in zip("ifgo", arrays, strict=True)]
    graph.tensors[y].name = f"{lstm.name}/y".encode()
    lstm_op = graph.operator(Op.UNIDIRECTIONAL_SEQUENCE_LSTM, inputs, [y], options())
    return [*before, lstm_op, *_last_cell_state(graph, lstm.name, y, states[1], c_last)]


def gate_places() -> Iterator[tuple[int, int, int]]:
    """Yield for each gate where the op has its kernel, recurrent kernel and bias."""
    places = range(INPUT_COUNT)
    return zip(places[KERNELS], places[RECURRENT_KERNELS], places[BIASES], strict=True)


def copy_of(graph: Graph, source: int, target: int) -> Any:
    """Return the operator that copies a tensor: the maximum of it and itself, which every runtime and type has."""
    return graph.operator(Op.MAXIMUM, [source, source], [target], schema.MaximumMinimumOptionsT())


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
    units = graph.shape(c)[1]
    last, nothing = (graph.tensor(f"{name}/{part}", (1, 1, units), np.float32) for part in ("y_last", "nothing"))
    slicing = [
        graph.constant(f"{name}/{n}", np.asarray(v, np.int32))
        for n, v in (("begin", [0, graph.shape(y)[1] - 1, 0]), ("size", [1, 1, units]))
    ]
    zero = graph.constant("zero", np.zeros((1, 1, 1), np.float32))
    flat = graph.tensor(f"{name}/nothing_flat", (1, units), np.float32)
    target = graph.constant(f"{name}/c_shape", np.asarray([1, units], np.int32))
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
