"""The native engine: LSTM, GRU and vanilla RNN in C++, vectorised for the processor, with gradients of their own."""

from __future__ import annotations

import keras

from keras_lstm_custom.engines import fast_path
from keras_lstm_custom.engines.contract import Engine, Request, Result, Support
from keras_lstm_custom.engines.native import rows


def supports(request: Request) -> Support:
    """Serve every mask, direction, state and dropout up to float32 on the CPU, under TensorFlow."""
    reason = _refusal(request)
    if reason:
        return Support(False, reason)
    from keras_lstm_custom.engines.native.library import load

    operations, reason = load()
    if operations is not None and request.cell.compute_dtype != "float32":
        reason += ", in float32 inside"
    return Support(operations is not None, reason)


def run(request: Request) -> Result:
    """Run the whole layer as one operation. What comes in half precision is widened, and the results are rounded."""
    import tensorflow as tf

    from keras_lstm_custom.engines.native.operation import recurrence

    def floats(tensors):
        return [None if t is None else tf.cast(tf.convert_to_tensor(t), tf.float32) for t in tensors]

    cell = request.cell
    handed = rows.ROWS[cell.equation].hand_over(cell)
    *weights, extra = floats([handed.kernel, handed.recurrent_kernel, handed.bias, handed.extra])
    x, *state = floats([request.sequences, *request.initial_state])
    features = handed.kernel.shape[0]
    outputs, state = recurrence(
        handed._replace(kernel=weights[0], recurrent_kernel=weights[1], bias=weights[2], extra=extra),
        x if x.shape[-1] == features else x[..., :features],
        state,
        noise=None if x.shape[-1] == features else x[..., features:],
        mask=None if request.mask is None else tf.cast(request.mask, tf.bool),
        x_dropout=floats(fast_path.masks_of(request.dropout.inputs)),
        dropout=floats(fast_path.masks_of(request.dropout.recurrent)),
        reverse=request.go_backwards,
        sequences=request.return_sequences,
        keep=request.training,
    )
    outputs, *state = (tf.cast(t, cell.compute_dtype) for t in (outputs, *state))
    return Result(outputs, state, ENGINE.name)


def _refusal(request: Request) -> str | None:
    if keras.backend.backend() != "tensorflow":
        return f"needs the TensorFlow backend, and {keras.backend.backend()!r} is active"
    reason = rows.refusal(request.cell) or fast_path.loop_refusal(request)
    if reason:
        return reason
    if "float64" in (request.cell.compute_dtype, request.cell.variable_dtype):
        return "computes in float32, not in float64"
    return _place()


def _place() -> str | None:
    import tensorflow as tf

    from keras_lstm_custom.engines.native.xla_context import inside_xla

    if tf.config.list_logical_devices("GPU"):
        return "runs on the CPU, and TensorFlow has a GPU"
    if inside_xla():
        return "is an operation of its own, which XLA does not know (jit_compile=True)"
    return None


ENGINE = Engine(
    "native",
    "C++, vectorised for the processor, with a gradient of its own",
    supports,
    run,
    graph="own",
    derivatives="first",
)
