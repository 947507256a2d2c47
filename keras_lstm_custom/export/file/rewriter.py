"""The operators that take the place of another, as they are written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from keras_lstm_custom.export.file.flatbuffer import NUMPY_TYPES, TENSOR_TYPES, Op, schema
from keras_lstm_custom.export.file.graph import Graph


class Rewriter:
    """The operator that is rewritten, and the operators that take its place."""

    def __init__(self, graph: Graph, operator: Any):
        self.graph = graph
        self.operator = operator
        self.options = operator.builtinOptions
        self.inputs = [int(index) for index in operator.inputs]
        self.output = int(operator.outputs[0])
        self.made: list[Any] = []
        self.between = "/portable_"  #: part of the names of the tensors between the new operators

    def shape(self, index: int) -> tuple[int, ...]:
        """Return the shape of a tensor."""
        return self.graph.shape(index)

    def dtype(self, index: int) -> np.dtype | None:
        """Return the type of a tensor; None if NumPy has none such."""
        return NUMPY_TYPES.get(self.graph.tensors[index].type)

    def constant(self, values: Any, dtype: Any = np.float32) -> int:
        """Add a constant; return its index."""
        array = np.asarray(values, dtype)
        return self.graph.constant(f"{self.graph.name(self.output)}/portable_constant", array)

    def op(self, code: int, inputs: Sequence[int], target: Any = None, options: Any = None, version: int = 1) -> int:
        """Add an operator that writes a tensor: one that is there (`target`), or a new one of a shape and type."""
        if not isinstance(target, int):
            shape, dtype = target or self._joint(inputs)
            target = self.graph.tensor(
                f"{self.graph.name(self.output)}{self.between}{len(self.graph.tensors)}", shape, dtype
            )
        if options is None and code in _OPTIONS:
            options = _OPTIONS[code]()
        self.made.append(self.graph.operator(code, inputs, [target], options, version))
        return target

    def _joint(self, inputs: Sequence[int]) -> tuple[tuple[int, ...], Any]:
        return np.broadcast_shapes(*map(self.shape, inputs)), self.dtype(inputs[0])

    def reshaped(self, index: int, shape: Sequence[int], target: int | None = None) -> int:
        """Add an operator that gives a tensor another shape."""
        wanted = target if target is not None else (tuple(shape), self.dtype(index))
        return self.op(Op.RESHAPE, [index, self.constant(shape, np.int32)], wanted)

    def cast(self, source: int, dtype: Any, target: int | None = None) -> int:
        """Add an operator that turns a tensor into another type."""
        options = schema.CastOptionsT()
        options.inDataType, options.outDataType = self.graph.tensors[source].type, TENSOR_TYPES[np.dtype(dtype)]
        return self.op(Op.CAST, [source], (self.shape(source), dtype) if target is None else target, options)


#: The options of those ops that must have some.
_OPTIONS = {
    Op.ADD: schema.AddOptionsT,
    Op.BROADCAST_TO: schema.BroadcastToOptionsT,
    Op.CAST: schema.CastOptionsT,
    Op.DIV: schema.DivOptionsT,
    Op.EQUAL: schema.EqualOptionsT,
    Op.EXP: schema.ExpOptionsT,
    Op.GREATER: schema.GreaterOptionsT,
    Op.GREATER_EQUAL: schema.GreaterEqualOptionsT,
    Op.LESS: schema.LessOptionsT,
    Op.MAXIMUM: schema.MaximumMinimumOptionsT,
    Op.MINIMUM: schema.MaximumMinimumOptionsT,
    Op.MUL: schema.MulOptionsT,
    Op.NEG: schema.NegOptionsT,
    Op.RESHAPE: schema.ReshapeOptionsT,
    Op.SELECT_V2: schema.SelectV2OptionsT,
    Op.SLICE: schema.SliceOptionsT,
    Op.SUB: schema.SubOptionsT,
}

Rewritten = list[Any] | None  #: the operators in its place; None: it stays
Rewrite = Callable[[Rewriter], Rewritten]
