"""What the microcontroller runtime has no kernel for, written in ops that both runtimes have.

The converter chooses ops for phones. Of those, the microcontroller runtime lacks some (TILE, REDUCE_ANY, GELU, ...),
and others take less there (STRIDED_SLICE four axes, UNPACK no bool, CONCATENATION ten inputs, CAST no 64-bit integers,
a strided convolution no positions that it does not read).
Each has its equal here, so that one file runs on both, whichever layer it comes from.
"""

from __future__ import annotations

from typing import Any

from keras_lstm_custom.export.file.graph import Graph
from keras_lstm_custom.export.file.rewriter import Rewriter
from keras_lstm_custom.export.file.rewrites_of_functions import FUNCTIONS
from keras_lstm_custom.export.file.rewrites_of_shapes import SHAPES

REWRITES = {**SHAPES, **FUNCTIONS}


def portable(graph: Graph) -> None:
    """Put ops that both runtimes have in place of those that the one for microcontrollers lacks."""
    operators: list[Any] = []
    for operator in graph.operators:
        rewrite = REWRITES.get(graph.code(operator))
        operators += (rewrite(Rewriter(graph, operator)) if rewrite else None) or [operator]
    graph.operators[:] = operators
    _drop_unread(graph)


def _drop_unread(graph: Graph) -> None:
    """Take away what nothing reads any more: it, too, must have a kernel."""
    kept: list[Any] = []
    read = set(graph.outputs)
    for operator in reversed(graph.operators):
        outputs = {int(index) for index in operator.outputs}
        if outputs & read or any(graph.tensors[index].isVariable for index in outputs):
            kept.append(operator)
            read |= {int(index) for index in operator.inputs}
    graph.operators[:] = kept[::-1]
