"""A TFLite file as an editor needs it: constants as arrays, new tensors and operators, named inputs and outputs.

`Graph.pack` writes the file without what nothing refers to any more. Condition and body of a loop are graphs of the
same file: `Graph.part`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from keras_lstm_custom.export.file.flatbuffer import (
    NUMPY_TYPES,
    TENSOR_TYPES,
    AlignedBuffer,
    empty_model,
    packed,
    schema,
)
from keras_lstm_custom.export.file.pruning import prune, renumbered


class Graph:
    """A graph of a TFLite file, the main one unless another is asked for, open to editing.

    Tensors are known by their index in `tensors`, as in the file.
    """

    def __init__(self, content: bytes | None = None):
        self._open(empty_model() if content is None else schema.ModelT.InitFromPackedBuf(bytes(content), 0), 0)
        for operator in (operator for part in self.parts for operator in part.operators):
            # As read they are views of the file's bytes.
            operator.inputs, operator.outputs = np.array(operator.inputs), np.array(operator.outputs)

    def _open(self, model: Any, number: int) -> None:
        self.model = model
        self.subgraph = model.subgraphs[number]
        self.tensors: list[Any] = self.subgraph.tensors
        self.operators: list[Any] = self.subgraph.operators
        self._constants: dict[tuple, int] = {}

    def part(self, number: int) -> Graph:
        """Return a graph of the same file by its number; 0 is the main one."""
        part = object.__new__(Graph)
        part._open(self.model, number)
        return part

    @property
    def parts(self) -> list[Graph]:
        """Every graph of the file, the main one first."""
        return [self.part(number) for number in range(len(self.model.subgraphs))]

    def alone(self, number: int) -> Graph:
        """Return a graph of the file as a file of its own, which may be packed without changing this one."""
        model, subgraph = copy.copy(self.model), copy.copy(self.model.subgraphs[number])
        subgraph.tensors = [copy.copy(tensor) for tensor in subgraph.tensors]
        subgraph.operators = [copy.copy(operator) for operator in subgraph.operators]
        model.subgraphs, model.signatureDefs, model.metadata = [subgraph], [], []
        alone = object.__new__(Graph)
        alone._open(model, 0)
        return alone

    def add_part(self, name: str) -> tuple[int, Graph]:
        """Add an empty graph to the file; return its number and itself."""
        subgraph = schema.SubGraphT()
        subgraph.name = name.encode()
        subgraph.tensors, subgraph.operators, subgraph.inputs, subgraph.outputs = [], [], [], []
        self.model.subgraphs.append(subgraph)
        number = len(self.model.subgraphs) - 1
        return number, self.part(number)

    def graft(self, source: Graph, given: Mapping[int, int] | None = None, prefix: str = "") -> dict[int, int]:
        """Add the operators of another graph, and what they read and write.

        Args:
            source: the main graph of a file or a part of one; not changed.
            given: tensors of this graph that stand for tensors of the source.
            prefix: of the names of the new tensors.

        Returns:
            The tensor here for each tensor of the source.
        """
        new = {-1: -1, **(given or {})}
        for index, tensor in enumerate(source.tensors):
            if index in new:
                continue
            value, name = source.value(index), prefix + source.name(index)
            if value is not None:
                scaled = tensor.quantization if _has_scale(tensor.quantization) else None
                new[index] = self.constant(name, value, scaled)
            else:
                new[index] = self.tensor(name, source.shape(index), np.float32, tensor.quantization, tensor.isVariable)
                self.tensors[new[index]].type = tensor.type
        for operator in source.operators:
            code = source.model.operatorCodes[operator.opcodeIndex]
            copied = copy.copy(operator)
            copied.opcodeIndex = self.opcode(code.builtinCode, code.version)
            copied.inputs, copied.outputs = renumbered(operator.inputs, new), renumbered(operator.outputs, new)
            self.operators.append(copied)
        return new

    @property
    def inputs(self) -> list[int]:
        """Indices of the graph's inputs."""
        return [int(index) for index in self.subgraph.inputs]

    @inputs.setter
    def inputs(self, indices: Iterable[int]) -> None:
        self.subgraph.inputs = [int(index) for index in indices]

    @property
    def outputs(self) -> list[int]:
        """Indices of the graph's outputs."""
        return [int(index) for index in self.subgraph.outputs]

    @outputs.setter
    def outputs(self, indices: Iterable[int]) -> None:
        self.subgraph.outputs = [int(index) for index in indices]

    def code(self, operator: Any) -> int:
        """Return which op an operator is, as a member of `Op`."""
        return self.model.operatorCodes[operator.opcodeIndex].builtinCode

    def custom_name(self, operator: Any) -> str:
        """Return the name of a custom op, empty for a builtin."""
        return (self.model.operatorCodes[operator.opcodeIndex].customCode or b"").decode()

    def of(self, code: int) -> Iterator[Any]:
        """Yield the operators that are this op, in the order in which they run."""
        return (operator for operator in self.operators if self.code(operator) == code)

    def made_by(self) -> dict[int, Any]:
        """Return for each tensor that is computed the operator that writes it."""
        return {int(output): operator for operator in self.operators for output in operator.outputs}

    def shape(self, index: int) -> tuple[int, ...]:
        """Return the shape of a tensor."""
        shape = self.tensors[index].shape
        return () if shape is None else tuple(int(size) for size in shape)

    def name(self, index: int) -> str:
        """Return the name of a tensor."""
        return (self.tensors[index].name or b"").decode()

    def value(self, index: int) -> np.ndarray | None:
        """Return the stored values of a constant; None for a tensor that is computed."""
        tensor = self.tensors[index]
        data = self.model.buffers[tensor.buffer].data
        if data is None or len(data) == 0:
            return None
        return np.asarray(data, np.uint8).view(NUMPY_TYPES[tensor.type]).reshape(self.shape(index))

    def array(self, index: int) -> np.ndarray:
        """Return the stored values of a tensor that is known to be a constant."""
        value = self.value(index)
        assert value is not None, f"{self.name(index)} is computed"
        return value

    def tensor(self, name: str, shape: Sequence[int], dtype: Any, quantized: Any = None, variable: bool = False) -> int:
        """Add a tensor that is computed, or a variable that is kept between invocations; return its index."""
        tensor = schema.TensorT()
        tensor.name = name.encode()
        tensor.shape = [int(size) for size in shape]
        tensor.type = TENSOR_TYPES[np.dtype(dtype)]
        tensor.quantization = quantized
        tensor.isVariable = variable
        tensor.buffer = 0
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def constant(self, name: str, array: np.ndarray, quantized: Any = None) -> int:
        """Add a constant, or find the one with the same content; return its index."""
        array = np.ascontiguousarray(array)
        raw = array.tobytes()
        scales = None if quantized is None else (quantized.scale.tobytes(), quantized.zeroPoint.tobytes())
        key = (array.dtype, array.shape, raw, scales)
        if key not in self._constants:
            index = self.tensor(name, array.shape, array.dtype, quantized)
            buffer = AlignedBuffer()
            buffer.data = np.frombuffer(raw, np.uint8)
            self.model.buffers.append(buffer)
            self.tensors[index].buffer = len(self.model.buffers) - 1
            self._constants[key] = index
        return self._constants[key]

    def operator(
        self, code: int, inputs: Sequence[int], outputs: Sequence[int], options: Any = None, version: int = 1
    ) -> Any:
        """Return a new operator; the caller puts it in its place in `operators`.

        Args:
            code: a member of `Op`.
            inputs: tensor indices; -1 for an optional input that is left out.
            outputs: tensor indices.
            options: an options object of the schema, such as `schema.AddOptionsT()`.
            version: the op's version.
        """
        operator = schema.OperatorT()
        operator.opcodeIndex = self.opcode(code, version)
        operator.inputs = np.asarray(inputs, np.int32)
        operator.outputs = np.asarray(outputs, np.int32)
        if options is not None:
            operator.builtinOptions = options
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
        return operator

    def opcode(self, code: int, version: int = 1) -> int:
        """Return the index of an op in the file's table of ops, adding it if need be."""
        codes = self.model.operatorCodes
        for index, known in enumerate(codes):
            if known.builtinCode == code and known.version == version and not known.customCode:
                return index
        record = schema.OperatorCodeT()
        record.builtinCode = code
        record.deprecatedBuiltinCode = min(code, 127)
        record.version = version
        codes.append(record)
        return len(codes) - 1

    def pack(self) -> bytes:
        """Return the file, without tensors, buffers and op codes that nothing refers to; the others are renumbered."""
        prune(self.model)
        self._constants.clear()
        return packed(self.model)


class Written(NamedTuple):
    """A file as bytes, for a runtime, and as the graph that they were packed from, with the same numbers of tensors."""

    graph: Graph
    content: bytes
    notes: Sequence[str] = ()  #: what the user should know of it


def written(graph: Graph, notes: Sequence[str] = ()) -> Written:
    """Pack a graph."""
    return Written(graph, graph.pack(), notes)


def set_signature(graph: Graph, inputs: dict[str, int], outputs: dict[str, int]) -> None:
    """Give the file one signature, `serving_default`; inputs and outputs get these names and this order."""
    signature = schema.SignatureDefT()
    signature.signatureKey = b"serving_default"
    signature.subgraphIndex = 0
    signature.inputs = [_named(name, index) for name, index in inputs.items()]
    signature.outputs = [_named(name, index) for name, index in outputs.items()]
    for name, index in [*outputs.items(), *inputs.items()]:
        graph.tensors[index].name = name.encode()
    graph.inputs = list(inputs.values())
    graph.outputs = list(outputs.values())
    graph.model.signatureDefs = [signature]


def signature_of(graph: Graph) -> tuple[dict[str, int], dict[str, int]]:
    """Return names and tensor indices of the inputs and of the outputs, in the order of `set_signature`."""
    (signature,) = graph.model.signatureDefs
    # One tensor may be two outputs (a last output that is a state as well), so names lead to tensors, not back.
    inputs = {entry.name.decode(): entry.tensorIndex for entry in signature.inputs}
    outputs = {entry.name.decode(): entry.tensorIndex for entry in signature.outputs}
    return inputs, outputs


def _named(name: str, index: int) -> Any:
    entry = schema.TensorMapT()
    entry.name = name.encode()
    entry.tensorIndex = index
    return entry


def _has_scale(record: Any) -> bool:
    return record is not None and record.scale is not None and len(record.scale) > 0
