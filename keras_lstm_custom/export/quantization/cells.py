"""What the cells of a float file compute outside of fused ops: it is stored in int16, whatever the scheme.

The fused op holds its gates and c in 16 bits. In 8, each op of a cell adds an error that the next step takes up, and so
does the rounding of its states.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras_lstm_custom.export.file.flatbuffer import Op, Type
from keras_lstm_custom.export.file.graph import Graph
from keras_lstm_custom.export.quantization.rules import RULES, Rule

#: Ops that cells are made of, besides products.
_IN_A_CELL = (Op.ADD, Op.LOGISTIC, Op.MUL, Op.RESHAPE, Op.SELECT_V2, Op.SPLIT, Op.SUB, Op.TANH)
#: Ops whose outputs have a type of their own, whatever is computed from them.
_OWN_TYPES = (Op.GATHER, Op.UNIDIRECTIONAL_SEQUENCE_LSTM)


def stepped_cells(graph: Graph, states: Sequence[tuple[int, int]]) -> frozenset[int]:
    """Return what cells of basic ops compute: all that leads from the products with weights to the new states.

    Args:
        graph: the float file.
        states: for each, the tensor that goes in and the one that comes out.
    """
    made_by = graph.made_by()
    weighted = [o for o in graph.operators if RULES.get(graph.code(o)) is Rule.WEIGHTED]
    first, last = ({pair[k] for pair in states} for k in (0, 1))
    gated = {int(o.outputs[0]) for o in graph.of(Op.MUL) if not first.isdisjoint(map(int, o.inputs))}  # r ⊙ h
    recurrent_kernels = {int(o.inputs[1]) for o in weighted if int(o.inputs[0]) in first | gated}
    found, pending = set(last), list(last)
    while pending:
        operator = made_by[pending.pop()]
        if RULES.get(graph.code(operator)) is not Rule.WEIGHTED or int(operator.inputs[1]) in recurrent_kernels:
            before = {int(i) for i in operator.inputs} & made_by.keys() - found
            found |= before
            pending += before
    return frozenset(found)


def unrolled_cells(graph: Graph) -> frozenset[int]:
    """Return what the cells of unrolled layers compute: all between the products with one kernel, one after another."""
    made_by = graph.made_by()
    by_kernel: dict[int, list[Any]] = {}
    for operator in graph.operators:
        if RULES.get(graph.code(operator)) is Rule.WEIGHTED:
            by_kernel.setdefault(int(operator.inputs[1]), []).append(operator)
    found: set[int] = set()
    for products in by_kernel.values():
        later = _reached(graph, {int(product.outputs[0]) for product in products[:-1]})
        recurrent = [product for product in products if int(product.inputs[0]) in later]
        pending = [int(product.inputs[0]) for product in recurrent]
        while pending:
            operator = made_by.get(index := pending.pop())
            if operator is None or index in found or graph.code(operator) in _OWN_TYPES:
                continue
            found.add(index)
            if RULES.get(graph.code(operator)) is not Rule.WEIGHTED or operator in products:
                pending += [int(i) for i in operator.inputs if i >= 0]
        found |= {int(product.outputs[0]) for product in recurrent}
    for operator in graph.operators:  # what the last step computes, from which no product comes
        if graph.code(operator) in _IN_A_CELL and not found.isdisjoint(map(int, operator.inputs)):
            found |= {int(output) for output in operator.outputs} - set(graph.outputs)
    return frozenset(index for index in found if graph.tensors[index].type == Type.FLOAT32)


def _reached(graph: Graph, tensors: set[int]) -> set[int]:
    """Return these tensors and all that is computed from them."""
    found = set(tensors)
    for operator in graph.operators:
        if not found.isdisjoint(map(int, operator.inputs)):
            found |= {int(output) for output in operator.outputs}
    return found
