"""What nothing in a TFLite file refers to any more, taken away; the rest is numbered anew, in the same order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from keras_lstm_custom.export.file.flatbuffer import aligned


def prune(model: Any) -> None:
    """Take unused tensors, buffers and op codes out of a file, and let its buffers be written aligned."""
    for subgraph in model.subgraphs:
        _prune_tensors(model, subgraph)
    _prune_buffers(model)
    _prune_opcodes(model)


def renumbered(indices: Iterable[int], new: Mapping[int, int]) -> np.ndarray:
    """Return tensor indices as they are numbered now."""
    return np.asarray([new[int(index)] for index in indices], np.int32)


def _prune_tensors(model: Any, subgraph: Any) -> None:
    used = {int(i) for o in subgraph.operators for group in _operands(o) for i in group if i >= 0}
    kept = sorted(used | {int(i) for group in (subgraph.inputs, subgraph.outputs) for i in group})
    new = {-1: -1} | {old: position for position, old in enumerate(kept)}
    for operator in subgraph.operators:
        operator.inputs = renumbered(operator.inputs, new)
        operator.outputs = renumbered(operator.outputs, new)
        if operator.intermediates is not None:
            operator.intermediates = renumbered(operator.intermediates, new)
    subgraph.inputs = [new[int(index)] for index in subgraph.inputs]
    subgraph.outputs = [new[int(index)] for index in subgraph.outputs]
    for signature in model.signatureDefs or []:
        if model.subgraphs[signature.subgraphIndex] is subgraph:
            for entry in [*signature.inputs, *signature.outputs]:
                entry.tensorIndex = new[entry.tensorIndex]
    subgraph.tensors[:] = [subgraph.tensors[index] for index in kept]


def _prune_buffers(model: Any) -> None:
    owners = [*(tensor for graph in model.subgraphs for tensor in graph.tensors), *(model.metadata or [])]
    kept = sorted({0} | {owner.buffer for owner in owners})
    new = {old: position for position, old in enumerate(kept)}
    for owner in owners:
        owner.buffer = new[owner.buffer]
    model.buffers = [aligned(model.buffers[index]) for index in kept]


def _prune_opcodes(model: Any) -> None:
    operators = [operator for graph in model.subgraphs for operator in graph.operators]
    kept = sorted({operator.opcodeIndex for operator in operators})
    new = {old: position for position, old in enumerate(kept)}
    for operator in operators:
        operator.opcodeIndex = new[operator.opcodeIndex]
    model.operatorCodes = [model.operatorCodes[index] for index in kept]


def _operands(operator: Any) -> list[Sequence[int]]:
    return [group for group in (operator.inputs, operator.outputs, operator.intermediates) if group is not None]
