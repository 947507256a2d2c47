"""The portable engine: fused loops with their own gradient, in TensorFlow's own operations."""

from __future__ import annotations

from functools import cache

import keras

from keras_lstm_custom.engines import fast_path, masking
from keras_lstm_custom.engines.contract import Engine, Request, Result, Support


def supports(request: Request) -> Support:
    """Serve every mask, direction, state, dropout and dtype of both cells, under TensorFlow."""
    if keras.backend.backend() != "tensorflow":
        return Support(False, f"needs the TensorFlow backend, and {keras.backend.backend()!r} is active")
    reason = fast_path.refusal(request)
    if reason:
        return Support(False, reason)
    return Support(True, f"custom gradient, {'compiled by XLA' if _compiled(request) else 'plain graph'}")


def run(request: Request) -> Result:
    """Project all inputs at once, then run the recurrence."""
    import tensorflow as tf

    cell = request.cell
    mask = masking.in_running_order(request)
    x = tf.reverse(request.sequences, axis=[1]) if request.go_backwards else request.sequences
    z_x = cell.project_inputs(tf.transpose(x, [1, 0, 2]), request.dropout.inputs)
    hs, state = _recurrence(cell.kind, _compiled(request) and not tf.executing_eagerly())(
        z_x,
        request.initial_state,
        tf.cast(cell.recurrent_kernel, cell.compute_dtype),
        None if mask is None else tf.transpose(mask)[..., None],
        fast_path.masks_of(request.dropout.recurrent),
        keep=request.training,
    )
    outputs = tf.transpose(hs, [1, 0, 2]) if request.return_sequences else hs[-1][:, None]
    return Result(outputs, state, ENGINE.name)


def _compiled(request: Request) -> bool:
    """XLA compiles once for each number of steps, so the number must be static."""
    return request.sequences.shape[1] is not None


@cache
def _recurrence(kind: str, compiled: bool):
    from keras_lstm_custom.engines.tensorflow_recurrence import Recurrence

    return Recurrence(kind, compiled=compiled)


ENGINE = Engine(
    "portable",
    "fused loops with their own gradient, in TensorFlow's own operations",
    supports,
    run,
    graph="xla",
    derivatives="first",
)
