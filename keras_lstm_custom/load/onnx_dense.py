"""The nodes of ONNX that multiply and add: Dense layers, and arithmetic with constants."""

from __future__ import annotations

import keras
import numpy as np

from keras_lstm_custom.load.onnx_values import D, F, Node, Tensor, Unknown, Value


def dense(node: Node, x: Tensor, kernel: np.ndarray, bias: np.ndarray | None) -> Tensor:
    """Return the output of a Dense layer with these weights."""
    if kernel.ndim != 2 or x.axes[-1] != F or D in x.axes or x.size(F) != kernel.shape[0]:
        raise node.refused(f"a product of axes {x.axes}, {x.size(F)} features, with a matrix {kernel.shape}")
    layer = keras.layers.Dense(kernel.shape[1], use_bias=bias is not None)
    y = layer(x.tensor)
    layer.set_weights([kernel] if bias is None else [kernel, bias.reshape(-1)])
    return x._replace(tensor=y)


def matmul(node: Node) -> Value:
    """Return a product with a constant matrix."""
    x, kernel = node.inputs
    if isinstance(x, Tensor) and isinstance(kernel, np.ndarray):
        return dense(node, x, kernel, None)
    raise node.refused("a product of two computed values")


def gemm(node: Node) -> Value:
    """Return a product with a constant matrix, and a constant added."""
    x, kernel, bias = node.input(0), node.constant(1), node.constant(2)
    a = node.attributes
    if not isinstance(x, Tensor) or kernel is None or a.get("transA", 0):
        raise node.refused("a product of two computed values")
    kernel = (kernel.T if a.get("transB", 0) else kernel) * np.float32(a.get("alpha", 1.0))
    if bias is not None:
        bias = np.broadcast_to(bias * np.float32(a.get("beta", 1.0)), (1, kernel.shape[1]))
    return dense(node, x, kernel, bias)


def arithmetic(node: Node) -> Value:
    """Return Add, Sub, Mul or Div, of two tensors or with a constant."""
    a, b = node.inputs
    tensors = [value for value in (a, b) if isinstance(value, Tensor)]
    if not tensors:
        return Unknown()
    if len(tensors) == 2:
        layers = {"Add": keras.layers.Add, "Sub": keras.layers.Subtract, "Mul": keras.layers.Multiply}
        if node.op not in layers or a.axes != b.axes or a.directions != b.directions:
            raise node.refused(f"of two values with the axes {a.axes} and {b.axes}")
        return a._replace(tensor=layers[node.op]()([a.tensor, b.tensor]))
    (x,), other = tensors, b if isinstance(a, Tensor) else a
    if not isinstance(other, np.ndarray) or other.size not in (1, x.size(F)) or D in x.axes or x.axes[-1] != F:
        raise node.refused("with a value that is no number, and no vector with one for each feature")
    value = other.reshape(-1).astype(np.float64)
    scale, offset = np.ones_like(value), np.zeros_like(value)
    if node.op == "Add":
        offset = value
    elif node.op == "Mul":
        scale = value
    elif node.op == "Sub":
        scale, offset = (scale, -value) if x is a else (-scale, value)
    elif x is a:
        scale = 1 / value
    else:
        raise node.refused("a constant divided by a computed value")
    numbers = [v.tolist() if v.size > 1 else float(v[0]) for v in (scale, offset)]
    return x._replace(tensor=keras.layers.Rescaling(*numbers)(x.tensor))
