"""The records of a TFLite file: the schema's classes, its types in NumPy, and buffers that are written aligned.

The classes come with `ai_edge_litert`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_lstm_custom.errors import ExportError
from keras_lstm_custom.installation import installing

try:
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema
except ModuleNotFoundError as error:
    raise ExportError(
        "A package that TFLite files are written and run with is not installed.",
        expected="ai-edge-litert and flatbuffers",
        received=str(error),
        remedy=installing("export"),
    ) from error

FILE_IDENTIFIER = b"TFL3"
ALIGNMENT = 16  #: bytes; what the schema asks of a buffer's data (`force_align`)

Type = schema.TensorType
Op = schema.BuiltinOperator

NUMPY_TYPES: dict[int, np.dtype] = {
    Type.FLOAT32: np.dtype(np.float32),
    Type.FLOAT16: np.dtype(np.float16),
    Type.INT8: np.dtype(np.int8),
    Type.INT16: np.dtype(np.int16),
    Type.INT32: np.dtype(np.int32),
    Type.INT64: np.dtype(np.int64),
    Type.BOOL: np.dtype(np.bool_),
    Type.UINT8: np.dtype(np.uint8),
}
TENSOR_TYPES = {dtype: code for code, dtype in NUMPY_TYPES.items()}
OP_NAMES = {code: name for name, code in vars(Op).items() if isinstance(code, int)}


class AlignedBuffer(schema.BufferT):
    """A buffer that writes its data aligned; the generated class packs it at any address."""

    def Pack(self, builder):
        data = None
        if self.data is not None:
            raw = np.asarray(self.data, np.uint8).tobytes()
            builder.StartVector(1, len(raw), ALIGNMENT)
            builder.head -= len(raw)
            builder.Bytes[builder.head : builder.head + len(raw)] = raw
            data = builder.EndVector()
        schema.BufferStart(builder)
        if data is not None:
            schema.BufferAddData(builder, data)
        return schema.BufferEnd(builder)


def quantization(scale, zero_point=0, axis: int = 0) -> Any:
    """Return the schema's record of `real = scale * (stored - zero_point)`, for one scale or one for each channel."""
    record = schema.QuantizationParametersT()
    record.scale = np.atleast_1d(np.asarray(scale, np.float32))
    record.zeroPoint = np.broadcast_to(np.asarray(zero_point, np.int64), record.scale.shape).copy()
    record.quantizedDimension = axis
    return record


def aligned(buffer: Any) -> AlignedBuffer:
    """Return a buffer as read as one that is written aligned."""
    copy = AlignedBuffer()
    copy.data = None if buffer.data is None or len(buffer.data) == 0 else buffer.data
    return copy


def packed(model: Any) -> bytes:
    """Return a file's bytes."""
    builder = flatbuffers.Builder(1 << 16)
    builder.Finish(model.Pack(builder), FILE_IDENTIFIER)
    return bytes(builder.Output())


def empty_model() -> Any:
    """Return a file without tensors and operators."""
    model = schema.ModelT()
    model.version = 3
    model.description = b"keras_lstm_custom"
    model.operatorCodes = []
    model.buffers = [AlignedBuffer()]
    model.signatureDefs = []
    model.metadata = []
    graph = schema.SubGraphT()
    graph.name = b"main"
    graph.tensors, graph.operators, graph.inputs, graph.outputs = [], [], [], []
    model.subgraphs = [graph]
    return model
