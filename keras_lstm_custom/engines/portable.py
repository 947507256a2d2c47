"""The portable engine: fused loops with their own gradient, in TensorFlow's own operations."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import keras

from keras_lstm_custom.engines import fast_path, masking, no_steps
from keras_lstm_custom.engines.contract import Engine, Request, Result, Support
from keras_lstm_custom.equations.projection import project
from keras_lstm_custom.structures import Tensor


def supports(request: Request) -> Support:
    """Serve every mask, direction, state, dropout and dtype of both cells, under TensorFlow."""
    if keras.backend.backend() != "tensorflow":
        return Support(False, f"needs the TensorFlow backend, and {keras.backend.backend()!r} is active")
    reason = fast_path.refusal(request)
    if reason:
        return Support(False, reason)
    return Support(True, f"custom gradient, {'compiled by XLA' if _compiled(request) else 'plain graph'}")


@no_steps.served
def run(request: Request) -> Result:
    """Project all inputs at once, then run the recurrence."""
    import tensorflow as tf

    cell = request.cell
    kernel, recurrent_kernel, bias = fast_path.weights_of(cell)
    mask = masking.in_running_order(request)
    x = tf.reverse(request.sequences, axis=[1]) if request.go_backwards else request.sequences
    z_x = project(tf.transpose(x, [1, 0, 2]), kernel, bias, request.dropout.inputs, _product)
    hs, state = _recurrence(cell.equation, _compiled(request) and not tf.executing_eagerly())(
        z_x,
        request.initial_state,
        recurrent_kernel,
        None if mask is None else tf.transpose(mask)[..., None],
        fast_path.masks_of(request.dropout.recurrent),
        keep=request.training,
    )
    outputs = tf.transpose(hs, [1, 0, 2]) if request.return_sequences else hs[-1][:, None]
    return Result(outputs, state, ENGINE.name)


def _product(x: Tensor, kernel: Tensor) -> Tensor:
    """Return x W over the last axis as one product of matrices, whose gradients have the shapes of x and W.

    With `tf.tensordot`, which Keras takes, the gradient of W has an open axis wherever x has.
    """
    import tensorflow as tf

    *outer, features = x.shape
    sizes = tf.unstack(tf.shape(x)[:-1])
    z = tf.matmul(tf.reshape(x, [tf.reduce_prod(sizes), features]), kernel)
    z = tf.reshape(z, [*sizes, kernel.shape[1]])
    z.set_shape([*outer, kernel.shape[1]])
    return z


def _compiled(request: Request) -> bool:
    """XLA compiles once for each number of steps, so the number must be static."""
    return request.sequences.shape[1] is not None


@cache
def _recurrence(equation: Callable, compiled: bool):
    from keras_lstm_custom.engines.tensorflow.recurrence import Recurrence

    return Recurrence(equation, compiled=compiled)


ENGINE = Engine(
    "portable",
    "fused loops with their own gradient, in TensorFlow's own operations",
    supports,
    run,
    graph="xla",
    derivatives="first",
)
