"""The nodes of ONNX that have a layer of Keras, or that only move axes: https://onnx.ai/onnx/operators/."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_lstm_custom.activations import keras2_hard_sigmoid
from keras_lstm_custom.load.onnx_dense import arithmetic, gemm, matmul
from keras_lstm_custom.load.onnx_recurrent import recurrent
from keras_lstm_custom.load.onnx_values import B, D, F, Node, T, Tensor, Uniform, Unknown, Value

ACTIVATIONS = {
    **{name: name.lower() for name in ("Relu", "Sigmoid", "Tanh", "Softplus", "Softsign", "Selu", "Mish")},
    **{"HardSwish": "hard_swish"},
}


def _by_layer(make: Callable[[Node], keras.Layer]) -> Callable[[Node], Value]:
    def run(node: Node) -> Value:
        x = node.input(0)
        return x._replace(tensor=make(node)(x.tensor)) if isinstance(x, Tensor) else Unknown()

    return run


def _softmax(node: Node) -> Value:
    x = node.input(0)
    axis = node.attributes.get("axis", -1 if node.opset >= 13 else 1)
    if not isinstance(x, Tensor) or x.axes[axis] != F or D in x.axes or axis not in (-1, len(x.axes) - 1):
        raise node.refused(f"along axis {axis}")
    return x._replace(tensor=keras.layers.Activation({"Softmax": "softmax"}.get(node.op, "log_softmax"))(x.tensor))


def _hard_sigmoid(node: Node) -> keras.Layer:
    values = (node.attributes.get("alpha", 0.2), node.attributes.get("beta", 0.5))
    if np.allclose(values, (0.2, 0.5), atol=1e-6):
        return keras.layers.Activation(keras2_hard_sigmoid)
    if np.allclose(values, (1 / 6, 0.5), atol=1e-4):
        return keras.layers.Activation("hard_sigmoid")
    raise node.refused(f"alpha, beta = {values}")


def _same(node: Node) -> Value:
    return node.input(0)


def _transpose(node: Node) -> Value:
    x = node.input(0)
    if not isinstance(x, Tensor):
        return _no_tensor(x)
    order = node.attributes.get("perm") or range(len(x.axes))[::-1]
    return x._replace(axes=tuple(x.axes[n] for n in order))


def _squeeze(node: Node) -> Value:
    x = node.input(0)
    if not isinstance(x, Tensor):
        return _no_tensor(x)
    where = node.listed("axes", 1)
    where = [n for n, axis in enumerate(x.axes) if x.size(axis) == 1 and axis != B] if where is None else where
    for n in sorted((n % len(x.axes) for n in where), reverse=True):
        axis = x.axes[n]
        if axis not in (D, T) or x.size(axis) != 1:
            raise node.refused(f"of the axis {axis}")
        x = Tensor(x.tensor if axis == D else x.tensor[:, 0], (*x.axes[:n], *x.axes[n + 1 :]))
    return x


def _reshape(node: Node) -> Value:
    x, shape = node.input(0), node.input(1)
    if not isinstance(x, Tensor):
        return _no_tensor(x)
    if len(x.axes[0]) == 2:  # back from what was joined for a product
        return x._replace(axes=(*x.axes[0], *x.axes[1:]))
    target = [int(n) for n in shape] if isinstance(shape, np.ndarray) else None
    features = x.size(F) * x.directions
    if x.axes[-2:] == (D, F) and (target is None or (len(target) == len(x.axes) - 1 and target[-1] in (-1, features))):
        return Tensor(x.tensor, (*x.axes[:-2], F))
    if target is not None and D not in x.axes and len(target) == 2 and x.axes[-1] == F:
        if len(x.axes) == 2 and target[-1] in (-1, features):
            return x
        if len(x.axes) == 3 and target[-1] == features:
            return x._replace(axes=(x.axes[0] + x.axes[1], F))
        if x.axes == (B, T, F) and x.size(T) and target[-1] in (-1, x.size(T) * features):
            return Tensor(keras.layers.Flatten()(x.tensor), (B, F))
    raise node.refused(f"of axes {x.axes} to {target or 'a computed shape'}")


def _flatten(node: Node) -> Value:
    x = node.input(0)
    if isinstance(x, Tensor) and node.attributes.get("axis", 1) == 1 and x.batch_first:
        return x if x.axes == (B, F) else Tensor(keras.layers.Flatten()(x.tensor), (B, F))
    raise node.refused(f"of axes {getattr(x, 'axes', None)}")


def _gather(node: Node) -> Value:
    x, index = node.input(0), node.input(1)
    if not isinstance(x, Tensor):
        return _no_tensor(x)
    axis = x.axes[node.attributes.get("axis", 0)]
    if not isinstance(index, np.ndarray) or index.size != 1 or axis not in (T, D):
        raise node.refused(f"of {index} along {axis}")
    at = node.attributes.get("axis", 0) % len(x.axes)
    picked = _part(x, axis, int(index.reshape(-1)[0]))
    return (
        picked
        if index.ndim
        else Tensor(
            picked.tensor[:, 0] if axis == T else picked.tensor,
            (*x.axes[:at], *x.axes[at + 1 :]),
            1 if axis == D else x.directions,
        )
    )


def _part(x: Tensor, axis: str, index: int) -> Tensor:
    """Return one step, or one direction, without taking its axis away."""
    if axis == T:
        return x._replace(tensor=x.tensor[:, index:] if index == -1 else x.tensor[:, index : index + 1])
    return _directions(x, range(x.directions)[index % x.directions :][:1])


def _directions(x: Tensor, which: range) -> Tensor:
    """Return some of the directions, which stand one after another."""
    width = x.size(F)
    part = x.tensor[..., which.start * width : which.stop * width] if len(which) < x.directions else x.tensor
    return x._replace(tensor=part, directions=len(which))


def _slice(node: Node) -> Value:
    x = node.input(0)
    if not isinstance(x, Tensor):
        return _no_tensor(x)
    starts, ends = node.listed("starts", 1), node.listed("ends", 2)
    axes = node.listed("axes", 3) or list(range(len(starts or ())))
    steps = node.listed("steps", 4) or [1] * len(axes)
    if starts is None or ends is None:
        raise node.refused("without starts and ends")
    for start, end, at, step in zip(starts, ends, axes, steps, strict=True):
        axis = x.axes[at]
        if (start, step) == (0, 1) and end >= 2**31 - 1:
            continue
        far = None if abs(end) >= 2**31 - 1 else end
        if axis == T:
            x = x._replace(tensor=x.tensor[:, start:far:step])
        elif axis == F and D not in x.axes:
            x = x._replace(tensor=x.tensor[..., start:far:step])
        elif axis == D and step == 1 and range(x.directions)[start:far]:
            x = _directions(x, range(x.directions)[start:far])
        else:
            raise node.refused(f"[{start}:{end}:{step}] along {axis}")
    return x


def _concat(node: Node) -> Value:
    tensors = [value for value in node.inputs if isinstance(value, Tensor)]
    if not tensors:
        alike = all(isinstance(value, Uniform) for value in node.inputs) and len(set(node.inputs)) == 1
        return node.inputs[0] if alike else Unknown()
    first, axis = tensors[0], tensors[0].axes[node.attributes["axis"]]
    same = all(x.axes == first.axes for x in tensors) and len(tensors) == len(node.inputs)
    if not same or axis == B or (axis in (F, T) and D in first.axes):
        raise node.refused(f"of values with the axes {[getattr(v, 'axes', 'constant') for v in node.inputs]}")
    joined = keras.layers.Concatenate(axis=1 if axis == T else -1)([x.tensor for x in tensors])
    return Tensor(joined, first.axes, sum(x.directions for x in tensors) if axis == D else first.directions)


def _unknown(node: Node) -> Value:
    if any(isinstance(value, Tensor) for value in node.inputs) and node.op != "Shape":
        raise node.refused("computed from a layer's output")
    return _no_tensor(node.input(0)) if node.op == "Unsqueeze" else Unknown()


def _no_tensor(value: Value) -> Value:
    """Return what moving the axes of something else than a tensor gives: all of one value stays that."""
    return value if isinstance(value, Uniform) else Unknown()


def _filled(node: Node) -> Value:
    value = node.attributes.get("value")
    return Uniform(0.0 if value is None else float(np.asarray(value).reshape(-1)[0]))


def _expand(node: Node) -> Value:
    x = node.input(0)
    if isinstance(x, np.ndarray) and x.size and (x == x.reshape(-1)[0]).all():
        return Uniform(float(x.reshape(-1)[0]))
    return x if isinstance(x, Uniform) else _unknown(node)


HANDLERS: dict[str, Callable[[Node], Any]] = {
    **dict.fromkeys(("LSTM", "GRU", "RNN"), recurrent),
    **dict.fromkeys(("Add", "Sub", "Mul", "Div"), arithmetic),
    **dict.fromkeys(("Identity", "Cast", "Dropout"), _same),
    **dict.fromkeys(("Shape", "Unsqueeze", "Where", "Equal", "Range", "ReduceProd"), _unknown),
    **dict.fromkeys(("Softmax", "LogSoftmax"), _softmax),
    **dict.fromkeys(("Expand", "Tile"), _expand),
    **dict.fromkeys(ACTIVATIONS, _by_layer(lambda node: keras.layers.Activation(ACTIVATIONS[node.op]))),
    "HardSigmoid": _by_layer(_hard_sigmoid),
    "LeakyRelu": _by_layer(lambda node: keras.layers.LeakyReLU(node.attributes.get("alpha", 0.01))),
    "Elu": _by_layer(lambda node: keras.layers.ELU(node.attributes.get("alpha", 1.0))),
    "ConstantOfShape": _filled,
    "MatMul": matmul,
    "Gemm": gemm,
    "Transpose": _transpose,
    "Squeeze": _squeeze,
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Gather": _gather,
    "Slice": _slice,
    "Concat": _concat,
}
#: Nodes that move or cut constants: they are computed as the graph is read, and make nothing larger.
FOLDED = {"Transpose", "Squeeze", "Unsqueeze", "Reshape", "Cast", "Concat", "Slice", "Gather", "Identity"}
