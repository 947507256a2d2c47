"""`onnx`: ONNX files of recurrent nodes, and what is like Dense around them."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_lstm_custom.array_files import check_memory
from keras_lstm_custom.errors import LoadError
from keras_lstm_custom.load.onnx_dense import dense
from keras_lstm_custom.load.onnx_nodes import FOLDED, HANDLERS
from keras_lstm_custom.load.onnx_values import B, D, F, Lengths, Node, T, Tensor, Value, refused_graph

RECURRENT = ("LSTM", "GRU", "RNN")
#: The axes of what a recurrent node reads (sequences, lengths, states) by the number of the input. Second: layout=1.
_READ = (
    {0: (T, B, F), 4: (B,), 5: (D, B, F), 6: (D, B, F)},
    {0: (B, T, F), 4: (B,), 5: (B, D, F), 6: (B, D, F)},
)


def onnx(path: str | os.PathLike) -> keras.Model:
    """Return the model of an ONNX file, with its weights.

    LSTM, GRU and RNN nodes (both directions, peepholes, `input_forget`, `linear_before_reset`, `layout`) become layers
    of this package; MatMul, Gemm, Add and activations around them layers of Keras. All inputs and outputs of the model
    have the batch first, and directions are joined along the features: a `UserWarning` names those that were otherwise
    in the file. Sequence lengths and initial states may be inputs; states of several layers or directions are joined
    along the features, too. States that are no inputs are zero.

    Nothing is executed but the moving of constants. Weights in a file beside it (`external data`) are read by onnx,
    from the same folder only.

    Args:
        path: the file.

    Returns:
        A functional `keras.Model`, its inputs `(batch, timesteps, features)` or `(batch, features)`.

    Raises:
        LoadError: the package onnx is missing, the file cannot be read, or a node has no counterpart; it is named.
    """
    path = Path(os.path.expanduser(path))
    graph, opset = _read(path)
    others = [
        node for node in graph.node if node.op_type not in (*HANDLERS, "Constant") or node.domain not in ("", "ai.onnx")
    ]
    if others:
        names = ", ".join(f"{node.op_type} ({node.name or node.output[0]})" for node in others[:20])
        raise refused_graph(path, f"nodes that have no counterpart: {names}", "Build the model in Keras.")
    try:
        return _Reader(path, graph, opset).model()
    except LoadError:
        raise
    except Exception as error:  # a graph that is no valid one ends anywhere
        received = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        raise refused_graph(path, received, "Check the file: onnx.checker.check_model(path).") from error


def _read(path: Path) -> tuple[Any, int]:
    try:
        import onnx
    except ImportError as error:
        raise LoadError(
            "The package onnx is not installed.", expected="onnx", received=str(error), remedy="pip install onnx"
        ) from error
    try:
        check_memory(path.stat().st_size)
        model = onnx.load(str(path))
        opset = next((each.version for each in model.opset_import if each.domain in ("", "ai.onnx")), 1)
        if not model.graph.node:
            raise ValueError("no nodes")
    except Exception as error:  # protobuf and onnx raise errors of many classes
        received = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        raise refused_graph(
            path, received, "Check the path; the file may be damaged, or its data be missing."
        ) from error
    return model.graph, opset


class _Reader:
    """Reads a graph node by node."""

    def __init__(self, path: Path, graph: Any, opset: int):
        from onnx import numpy_helper

        self.path, self.graph, self.opset = path, graph, opset
        self.values: dict[str, Value] = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
        self.size = path.stat().st_size + sum(value.nbytes for value in self.values.values())
        self.readers: dict[str, list[Any]] = {}
        for node in graph.node:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)
        self.outputs = [each.name for each in graph.output]
        self.inputs: list[Any] = []

    def model(self) -> keras.Model:
        """Return the model."""
        for value in self.graph.input:
            if value.name not in self.values:
                self.values[value.name] = self._input(value)
        done: set[str] = set()
        for node in self.graph.node:
            if node.output[0] not in done:
                self._run(node, done)
        results = [self.values[name] for name in self.outputs]
        for name, result in zip(self.outputs, results, strict=True):
            if not isinstance(result, Tensor):
                raise refused_graph(
                    self.path, f"the output {name!r}, which no layer computes", "Build the model in Keras."
                )
        self._tell_of_order(dict(zip(self.outputs, results, strict=True)))
        tensors = [result.tensor for result in results]
        return keras.Model(*(each[0] if len(each) == 1 else each for each in (self.inputs, tensors)))

    def _input(self, value: Any) -> Tensor | Lengths:
        dims = [
            d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else None
            for d in value.type.tensor_type.shape.dim
        ]
        axes = (B, F) if len(dims) == 2 else self._axes(value.name)
        name = re.sub(r"[^\w.-]", "_", value.name)
        if axes == (B,) and len(dims) == 1:
            self.inputs.append(keras.Input((), dtype="int32", name=name))
            return Lengths(self.inputs[-1])
        if len(dims) not in (2, 3) or dims[-1] is None or (D in axes and dims[axes.index(D)] is None):
            received = f"the input {value.name!r} of shape {tuple(dims)}"
            raise refused_graph(self.path, received, "An input has two or three axes, and a fixed number of features.")
        if axes[-1] != F:
            raise refused_graph(
                self.path, f"the input {value.name!r} with the axes {axes}", "Features are the last axis."
            )
        count = dims[axes.index(D)] if D in axes else 1
        shape = [count * dims[-1] if axis == F else dims[axes.index(axis)] for axis in (T, F) if axis in axes]
        self.inputs.append(keras.Input(tuple(shape), name=name))
        return Tensor(self.inputs[-1], axes, int(count or 1))

    def _axes(self, name: str) -> tuple[str, ...]:
        """Return the axes of an input, by the first recurrent node that reads it, as it is or transposed."""
        pending: list[tuple[str, tuple[int, ...]]] = [(name, (0, 1, 2))]
        seen: set[str] = set()
        while pending:
            name, places = pending.pop()
            for node in self.readers.get(name, ()):
                if node.op_type in RECURRENT and name in node.input:
                    order = _READ[bool(_attributes(node).get("layout", 0))].get(list(node.input).index(name), (B, T, F))
                    return tuple(order[places.index(n)] for n in range(len(order)))
                permuted = places
                if node.op_type == "Transpose":
                    order = _attributes(node).get("perm", (2, 1, 0))
                    permuted = tuple(places[n] for n in order)
                if node.op_type not in (*RECURRENT, "Shape") and node.output[0] not in seen:
                    seen.add(node.output[0])
                    pending.append((node.output[0], permuted))
        return (B, T, F)

    def _run(self, proto: Any, done: set[str]) -> None:
        attributes = _attributes(proto)
        if proto.op_type == "Constant":
            self.values[proto.output[0]] = np.asarray(next(iter(attributes.values())))
            return
        node = Node(
            proto.op_type,
            proto.name or proto.output[0],
            [self.values[name] if name else None for name in proto.input],
            attributes,
            [bool(name) and (name in self.readers or name in self.outputs) for name in proto.output],
            self.opset,
        )
        if node.op in FOLDED and all(isinstance(value, np.ndarray) for value in node.inputs):
            if sum(value.nbytes for value in node.inputs) > self.size:
                raise node.refused("constants that grow beyond the size of the file")
            self.values[proto.output[0]] = _folded(proto, self.values, self.opset)
            return
        add = self._bias_behind(proto, node)
        if add is not None:
            bias = next(self.values[name] for name in add.input if name != proto.output[0])
            self.values[add.output[0]] = dense(node, node.inputs[0], node.inputs[1], bias)
            done.add(add.output[0])
            return
        result = HANDLERS[node.op](node)
        results = result if isinstance(result, list) else [result]
        self.values.update(zip(proto.output, results, strict=False))

    def _bias_behind(self, proto: Any, node: Node) -> Any:
        """Return the Add that alone reads a product, if it adds a vector: together they are one Dense layer."""
        readers = self.readers.get(proto.output[0], [])
        is_dense = (
            proto.op_type == "MatMul" and isinstance(node.inputs[1], np.ndarray) and isinstance(node.inputs[0], Tensor)
        )
        if not is_dense or len(readers) != 1 or readers[0].op_type != "Add" or proto.output[0] in self.outputs:
            return None
        others = [self.values.get(name) for name in readers[0].input if name != proto.output[0]]
        fits = len(others) == 1 and isinstance(others[0], np.ndarray) and others[0].size == node.inputs[1].shape[-1]
        return readers[0] if fits else None

    def _tell_of_order(self, results: Mapping[str, Tensor]) -> None:
        values = {value.name: self.values[value.name] for value in self.graph.input} | dict(results)
        other = {name: v.axes for name, v in values.items() if isinstance(v, Tensor) and not v.batch_first}
        if other:
            names = {B: "batch", T: "timesteps", F: "features", "D": "directions"}
            told = "; ".join(f"{name!r} ({', '.join(names[a] for a in axes)})" for name, axes in other.items())
            warnings.warn(
                "The model has the batch first, and directions joined along the features. In the file it was otherwise "
                f"for {told}.",
                stacklevel=4,
            )


def _attributes(node: Any) -> dict[str, Any]:
    from onnx import helper, numpy_helper

    found = {}
    for attribute in node.attribute:
        value = helper.get_attribute_value(attribute)
        is_tensor = attribute.type == attribute.TENSOR
        found[attribute.name] = numpy_helper.to_array(value) if is_tensor else _text(value)
    return found


def _text(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value


def _folded(proto: Any, values: Mapping[str, Value], opset: int) -> np.ndarray:
    """Compute a node of constants."""
    from onnx.helper import make_graph, make_model, make_opsetid, make_tensor_value_info
    from onnx.reference import ReferenceEvaluator

    names = dict.fromkeys(name for name in proto.input if name)
    inputs = [make_tensor_value_info(name, 1, None) for name in names]
    graph = make_graph([proto], "constants", inputs, [make_tensor_value_info(proto.output[0], 1, None)])
    model = make_model(graph, opset_imports=[make_opsetid("", opset)])
    results: Any = ReferenceEvaluator(model).run(None, {name: values[name] for name in names})
    return np.asarray(results[0])
