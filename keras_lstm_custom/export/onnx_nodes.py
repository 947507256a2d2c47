"""LSTM with peepholes or coupled gates, and GRU, as one ONNX node each.

The converter knows the loop of a plain `keras.layers.LSTM` alone. Here the loop of such a layer leaves a mark in the
TensorFlow graph, a `PyFunc` that is never run, and a handler of the converter puts the ONNX node in its place.

In the node's packing (ONNX operators LSTM and GRU, version 14): W `(1, gates * units, features)`, R
`(1, gates * units, units)`, B `(1, 2 * gates * units)`, P `(1, 3 * units)`; LSTM i o f g, its peepholes i o f; GRU
z r n. The attribute `clip` bounds what the gates' functions take, and is not the cell clip. Coupled gates are written
as the plain LSTM that they equal, without `input_forget`: runtimes do not agree about it. onnxruntime computes it, the
evaluator of the package onnx (1.22) ignores it, other converters refuse a file that has it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_lstm_custom.cells.as_ours import as_ours
from keras_lstm_custom.cells.equations_of import changed_methods, unusual_function
from keras_lstm_custom.equations import gru_step, lstm_step
from keras_lstm_custom.export.model.as_lstm import constant
from keras_lstm_custom.keras_hooks import replace_loop, runs_its_cell
from keras_lstm_custom.models.walk import recurrent_layers


class Node(NamedTuple):
    """One ONNX LSTM or GRU."""

    op: str
    name: str  #: the layer's
    weights: dict[str, np.ndarray]  #: W, R, B and perhaps P
    attributes: dict[str, int]
    states: int


_nodes: ContextVar[dict[str, Node]] = ContextVar("nodes")  #: of one conversion, by the token of the mark


@contextmanager
def marked(copy: keras.Model) -> Iterator[None]:
    """While this is open, `copy` can be converted: its layers that the converter does not know leave marks.

    A layer that reads a mask does not.

    Args:
        copy: a model that is changed.
    """
    _register()
    for layer in recurrent_layers(copy).values():
        node = _node(layer.name, layer.cell) if runs_its_cell(layer) else None
        if node is not None:
            replace_loop(layer, partial(_leave, layer, node))
    token = _nodes.set({})
    try:
        yield
    finally:
        _nodes.reset(token)


def _node(name: str, cell: Any) -> Node | None:
    ours = as_ours(cell)
    row = _ROWS.get(ours.equation) if ours is not None and ours.equation else None
    if (
        ours is None
        or row is None
        or not row.features >= ours.features
        or changed_methods(ours)
        or unusual_function(ours)
    ):
        return None
    return row.write(name, ours)


def _gru(name: str, cell: Any) -> Node:
    kernel, recurrent_kernel = constant(cell.kernel), constant(cell.recurrent_kernel)
    bias = np.zeros((2, kernel.shape[1]), np.float32)
    if cell.bias is not None:
        bias[: 2 if cell.reset_after else 1] = constant(cell.bias)
    weights = {"W": kernel.T, "R": recurrent_kernel.T, "B": bias.ravel()}
    return Node("GRU", name, weights, {"linear_before_reset": int(cell.reset_after), "hidden_size": cell.units}, 1)


def _lstm(name: str, cell: Any) -> Node | None:
    if not cell.features:  # the converter knows it, and makes one node of both directions
        return None
    form = cell.lstm_form(constant, 1.0).with_input_gate()

    def packed(parts: Any, order: str) -> np.ndarray:
        return np.concatenate([parts[gate] for gate in order], axis=-1)

    bias = packed(form.biases, "iofg")
    weights = {
        "W": packed(form.kernels, "iofg").T,
        "R": packed(form.recurrent_kernels, "iofg").T,
        "B": np.concatenate([bias, np.zeros_like(bias)]),
    }
    if form.peepholes:
        weights["P"] = packed(form.peepholes, "iof")
    return Node("LSTM", name, weights, {"hidden_size": form.units}, 2)


class Row(NamedTuple):
    """A cell that has a node."""

    write: Callable[[str, Any], Node | None]  #: by name and cell
    features: frozenset[str]  #: of the cell's `features` those that the node has


#: By the function of `equations` that the cell names.
_ROWS = {
    lstm_step: Row(_lstm, frozenset({"peepholes", "coupled"})),
    gru_step: Row(_gru, frozenset({"reset_after=False"})),
}


def _leave(
    layer: Any, node: Node, sequences: Any, initial_state: Any, mask: Any, training: bool
) -> tuple[Any, Any, list[Any]]:
    """Leave the mark of one layer; return `(last output, outputs, states)`, as `keras.layers.RNN.inner_loop`."""
    import tensorflow as tf

    if mask is not None or tf.executing_eagerly():
        return type(layer).inner_loop(layer, sequences, initial_state, mask, training)
    x = keras.ops.flip(sequences, axis=1) if layer.go_backwards else sequences
    given = [x, *keras.tree.flatten(initial_state)]
    outputs, *states = tf.numpy_function(lambda *_: None, given, [tf.float32] * (1 + node.states), stateful=False)
    _nodes.get()[outputs.op.get_attr("token").decode()] = node
    units = node.attributes["hidden_size"]
    # An op that tells the shape; what is only set on a tensor is lost on the way to the converter.
    outputs = tf.ensure_shape(outputs, (*sequences.shape[:2], units))
    states = [tf.ensure_shape(state, (sequences.shape[0], units)) for state in states]
    return states[0], outputs if layer.return_sequences else states[0][:, None], states


def _register() -> None:
    """Tell the converter how a mark is written."""
    from tf2onnx.handler import tf_op

    class Marks:
        @classmethod
        def version_1(cls, ctx: Any, node: Any, **kwargs: Any) -> None:
            _write(ctx, node, _nodes.get()[node.get_attr_str("token")])

    tf_op(["PyFunc", "PyFuncStateless"])(Marks)


def _write(ctx: Any, mark: Any, node: Node) -> None:
    from onnx import TensorProto
    from tf2onnx.graph_builder import GraphBuilder

    build = GraphBuilder(ctx)
    x, *states = mark.input
    outputs = list(mark.output)
    ctx.remove_node(mark.name)
    by_time = ctx.make_node("Transpose", [x], attr={"perm": [1, 0, 2]}).output[0]
    constants = {
        key: ctx.make_const(f"{node.name}/{key}_{mark.name}", np.ascontiguousarray(array[None], np.float32)).output[0]
        for key, array in node.weights.items()
    }
    starts = [build.make_unsqueeze({"data": state, "axes": [0]}) for state in states]
    inputs = [by_time, constants["W"], constants["R"], constants["B"], "", *starts]
    inputs += [constants["P"]] if "P" in constants else []
    made = ctx.make_node(node.op, inputs, attr=node.attributes, output_count=1 + node.states, op_name_scope=node.name)
    flat = build.make_squeeze({"data": made.output[0], "axes": [1]})
    float32 = [TensorProto.FLOAT]
    ctx.make_node("Transpose", [flat], attr={"perm": [1, 0, 2]}, outputs=[outputs[0]], dtypes=float32)
    for source, target in zip(made.output[1:], outputs[1:], strict=True):
        build.make_squeeze({"data": source, "axes": [0], "outputs": [target]}, dtypes=float32)
