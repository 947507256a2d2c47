"""How the tensors of a file and of the loops in it are stored, so that what goes into a loop fits what it carries.

A loop carries its states in int16, as the fused op carries c: in eight bits each step would add the rounding of the
state to the next. So is all that the cell computes. The sequences it reads and writes are stored as outside of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from keras_lstm_custom.export.file import loop
from keras_lstm_custom.export.file.flatbuffer import Type
from keras_lstm_custom.export.file.graph import Graph
from keras_lstm_custom.export.quantization.promote import Promoted
from keras_lstm_custom.export.quantization.scales import choose
from keras_lstm_custom.export.quantization.schemes import Params, Scheme
from keras_lstm_custom.export.quantization.seen import Ranges

#: From here on a number stands for infinity, as the start of a maximum does: the converter writes -3.4e38 for it.
INFINITE = 1e30


class Plans(NamedTuple):
    """How each computed float tensor of a graph is stored."""

    params: dict[int, Params]
    loops: dict[int, Plans | None]  #: of the body of each loop, by its number in the file; None: it computes in float


def plan_loops(
    graph: Graph, ranges: Ranges, scheme: Scheme, tied: Sequence[tuple[int, int]], promoted: Promoted
) -> Plans:
    """Return how the tensors of a file's main graph, and of its loops, are stored."""
    operators = {loop.body_of(graph, operator)[0]: operator for operator in loop.loops(graph)}
    bodies = {number: graph.part(number) for number in operators}
    integers = [
        number
        for number, operator in operators.items()
        if int(operator.outputs[0]) not in promoted.in_float and _can_be_stored(ranges.loops[number])
    ]
    # What a loop writes is stored as it writes it, and what it reads as what is read.
    given: dict[int, Params] = {}
    for number in integers:
        inner, outputs = _inside(bodies[number], ranges.loops[number], scheme), operators[number].outputs
        kinds = loop.variables(bodies[number])
        given |= {int(outputs[k]): inner[bodies[number].inputs[k]] for k in (*kinds.written, *kinds.states)}
    params = choose(graph, ranges, scheme, tied, promoted, given)
    plans: dict[int, Plans | None] = dict.fromkeys(operators)
    for number in integers:
        body, outside = bodies[number], [int(index) for index in operators[number].inputs]
        read = {body.inputs[k]: params[outside[k]] for k in loop.variables(body).read if outside[k] in params}
        plans[number] = Plans(_inside(body, ranges.loops[number], scheme, read), {})
    return Plans(params, plans)


def _inside(body: Graph, ranges: Ranges, scheme: Scheme, given: dict[int, Params] | None = None) -> dict[int, Params]:
    tied = [
        (one, other)
        for one, other in zip(body.inputs, body.outputs, strict=True)
        if body.tensors[one].type == Type.FLOAT32
    ]
    return choose(body, ranges, scheme, tied, Promoted(int16=loop.of_step(body)), given or {})


def _can_be_stored(ranges: Ranges) -> bool:
    return all(math.isfinite(end) and abs(end) < INFINITE for end in [*ranges.low.values(), *ranges.high.values()])
