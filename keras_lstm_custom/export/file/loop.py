"""A loop over time in place of each mark of one that `recurrence` left: WHILE around the cell's own step.

The loop carries a position (0, t, 0), the sequences that it reads, the sequence that it writes, and the states. A step
slices its rows out of the sequences and writes its output into the other by DYNAMIC_UPDATE_SLICE, so that every shape
is known, which the microcontroller runtime needs; the loops of TensorFlow's converter lack that, and are silently
wrong there. The file grows with the number of steps by one row of zeros each, an unrolled one by the whole cell.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from keras_lstm_custom.export.file.flatbuffer import NUMPY_TYPES, Op, schema
from keras_lstm_custom.export.file.graph import Graph
from keras_lstm_custom.export.model.recurrence import Loop

#: What the names of the graphs of a loop begin with.
CONDITION, BODY = "keras_lstm_custom.while/", "keras_lstm_custom.step/"


class Variables(NamedTuple):
    """What a loop of ours carries, as numbers of the inputs of its WHILE; the first is the position."""

    read: tuple[int, ...]  #: sequences that are passed on as they are
    written: tuple[int, ...]  #: the sequence that the outputs are written into, if all are asked for
    states: tuple[int, ...]


def looped(graph: Graph, mark: Any, loop: Loop, step: Graph) -> list[Any]:
    """Return the operators that stand in place of a mark.

    Args:
        graph: a float file as the converter wrote it; tensors and graphs are added.
        mark: the operator.
        loop: what it stands for.
        step: the file of one step, which takes and returns what `loop.step` does.
    """
    inputs, outputs = ([int(index) for index in group] for group in (mark.inputs, mark.outputs))
    for index in outputs:
        graph.tensors[index].name = f"{loop.name}/{graph.name(index)}".encode()
    sequences, carried = inputs[: loop.sequences], inputs[loop.sequences :]
    timesteps = graph.shape(sequences[0])[1]
    position = graph.constant("position", np.zeros(3, np.int32))
    started = [position, *sequences]
    results = [graph.tensor(f"{loop.name}/{graph.name(i)}_read", graph.shape(i), _dtype(graph, i)) for i in started]
    if loop.gives_all:
        y = outputs.pop()
        started.append(graph.constant(f"{loop.name}/zeros", np.zeros(graph.shape(y), _dtype(graph, y))))
        results.append(y)
    started, results = [*started, *carried], [*results, *outputs]
    number, body = graph.add_part(BODY + loop.name)
    _write_body(body, [_like(graph, index, body) for index in started], loop, step, timesteps)
    return [while_op(graph, started, results, number, timesteps)]


def while_op(graph: Graph, inputs: Sequence[int], outputs: Sequence[int], body: int, timesteps: int) -> Any:
    """Return a WHILE that runs a body for a number of steps; its condition is added to the file."""
    options = schema.WhileOptionsT()
    options.bodySubgraphIndex = body
    name = graph.part(body).subgraph.name.decode().removeprefix(BODY)
    options.condSubgraphIndex, condition = graph.add_part(CONDITION + name)
    condition.inputs = [_like(graph, index, condition) for index in inputs]
    t = condition.tensor("t", (1,), np.int32)
    goes_on = condition.tensor("goes_on", (1,), np.bool_)
    ends = [condition.constant(n, np.asarray(v, np.int32)) for n, v in (("axis", [1]), ("timesteps", [timesteps]))]
    condition.operators += [
        condition.operator(Op.SLICE, [condition.inputs[0], ends[0], ends[0]], [t], schema.SliceOptionsT()),
        condition.operator(Op.LESS, [t, ends[1]], [goes_on], schema.LessOptionsT()),
    ]
    condition.outputs = [goes_on]
    return graph.operator(Op.WHILE, inputs, outputs, options)


def loops(graph: Graph) -> list[Any]:
    """Return the WHILE operators of a graph, in the order in which they run."""
    return list(graph.of(Op.WHILE))


def told(graph: Graph) -> list[str]:
    """Return a note on the layers of a file that are loops."""
    names = [body_of(graph, operator)[1].subgraph.name.decode().removeprefix(BODY) for operator in loops(graph)]
    listed = ", ".join(map(repr, dict.fromkeys(names)))
    return [f"A loop over the steps (WHILE), since the fused LSTM op does not compute it: {listed}."] if names else []


def is_ours(graph: Graph) -> bool:
    """Say whether all loops of a file are of this module."""
    return all((part.subgraph.name or b"").decode().startswith((CONDITION, BODY)) for part in graph.parts[1:])


def body_of(graph: Graph, operator: Any) -> tuple[int, Graph]:
    """Return the number of a loop's body, and the body."""
    number = operator.builtinOptions.bodySubgraphIndex
    return number, graph.part(number)


def timesteps_of(graph: Graph, operator: Any) -> int:
    """Return how many steps a loop makes."""
    condition = graph.part(operator.builtinOptions.condSubgraphIndex)
    (less,) = condition.of(Op.LESS)
    return int(condition.array(int(less.inputs[1]))[0])


def variables(body: Graph) -> Variables:
    """Return what a loop of this module carries."""
    written_by = {int(o.outputs[0]): body.code(o) for o in body.operators}
    places = range(1, len(body.inputs))
    read = tuple(k for k in places if body.outputs[k] == body.inputs[k])
    written = tuple(k for k in places if written_by.get(body.outputs[k]) == Op.DYNAMIC_UPDATE_SLICE)
    return Variables(read, written, tuple(k for k in places if k not in (*read, *written)))


def of_step(body: Graph) -> frozenset[int]:
    """Return what the cell's step computes in a body: all but the rows on their way out of and into sequences."""
    kinds = variables(body)
    read, written = ({body.inputs[k] for k in group} for group in (kinds.read, kinds.written))
    moved = set(read)
    for operator in body.operators:
        if body.code(operator) in (Op.SLICE, Op.RESHAPE) and int(operator.inputs[0]) in moved:
            moved.add(int(operator.outputs[0]))
        if body.code(operator) == Op.DYNAMIC_UPDATE_SLICE and int(operator.inputs[0]) in written:
            moved |= {int(operator.inputs[1]), int(operator.outputs[0])}
    return frozenset(int(i) for o in body.operators for i in o.outputs if int(i) not in moved)


def _write_body(body: Graph, inputs: list[int], loop: Loop, step: Graph, timesteps: int) -> None:
    position, *others = inputs
    sequences, others = others[: loop.sequences], others[loop.sequences :]
    forwards = np.array([0, 1, 0], np.int32)
    after = body.tensor("position/next", (3,), np.int32)
    begin = position
    if loop.backwards:
        last = body.constant("position/last", (timesteps - 1) * forwards)
        begin = body.tensor("position/read", (3,), np.int32)
        body.operators.append(body.operator(Op.SUB, [last, position], [begin], schema.SubOptionsT()))
    rows = [_row(body, sequence, begin) for sequence in sequences]
    written, carried = (others[:1], others[1:]) if loop.gives_all else ([], others)
    new = body.graft(step, dict(zip(step.inputs, [*rows, *carried], strict=True)), prefix=f"{loop.name}/")
    results = [new[index] for index in step.outputs]
    outputs: list[int] = []
    if loop.gives_all:
        row, shape = results.pop(), body.shape(written[0])
        update = _reshaped(body, row, (1, 1, shape[2]), f"{loop.name}/row")
        outputs = [body.tensor(f"{loop.name}/written", shape, _dtype(body, written[0]))]
        op = body.operator(
            Op.DYNAMIC_UPDATE_SLICE, [written[0], update, position], outputs, schema.DynamicUpdateSliceOptionsT()
        )
        body.operators.append(op)
    one = body.constant("position/one", forwards)
    body.operators.append(body.operator(Op.ADD, [position, one], [after], schema.AddOptionsT()))
    body.inputs = inputs
    body.outputs = [after, *sequences, *outputs, *results]


def _row(body: Graph, sequence: int, begin: int) -> int:
    """Return the tensor of one step of a sequence, without the axis of time."""
    _, _, width = body.shape(sequence)
    size = body.constant("size", np.asarray([1, 1, width], np.int32))
    name = f"{body.name(sequence)}/row"
    row = body.tensor(name, (1, 1, width), _dtype(body, sequence))
    body.operators.append(body.operator(Op.SLICE, [sequence, begin, size], [row], schema.SliceOptionsT()))
    return _reshaped(body, row, (1, width), f"{name}_flat")


def _reshaped(body: Graph, index: int, shape: Sequence[int], name: str) -> int:
    target = body.tensor(name, shape, _dtype(body, index))
    constant = body.constant(f"{name}/shape", np.asarray(shape, np.int32))
    body.operators.append(body.operator(Op.RESHAPE, [index, constant], [target], schema.ReshapeOptionsT()))
    return target


def _like(graph: Graph, index: int, other: Graph) -> int:
    """Add to another graph a tensor of the same shape and type."""
    return other.tensor(graph.name(index), graph.shape(index), _dtype(graph, index), graph.tensors[index].quantization)


def _dtype(graph: Graph, index: int) -> Any:
    return NUMPY_TYPES[graph.tensors[index].type]
