"""The native engine: the LSTM in C++, vectorised for the processor, with its own gradient, under TensorFlow."""

from __future__ import annotations

import keras

from keras_lstm_custom.engines import fast_path
from keras_lstm_custom.engines.contract import Engine, Request, Result, Support


def supports(request: Request) -> Support:
    """Serve every mask, direction, state and dropout of a float32 LSTM on the CPU, under TensorFlow."""
    reason = _refusal(request)
    if reason:
        return Support(False, reason)
    from keras_lstm_custom.engines.native.library import load

    operations, reason = load()
    return Support(operations is not None, reason)


def run(request: Request) -> Result:
    """Run the whole layer as one operation."""
    import tensorflow as tf

    from keras_lstm_custom.engines.native.operation import lstm

    cell = request.cell
    mask = None if request.mask is None else tf.cast(request.mask, tf.bool)
    outputs, state = lstm(
        request.sequences,
        request.initial_state,
        tf.convert_to_tensor(cell.kernel),
        tf.convert_to_tensor(cell.recurrent_kernel),
        None if cell.bias is None else tf.convert_to_tensor(cell.bias),
        mask=mask,
        x_dropout=fast_path.masks_of(request.dropout.inputs),
        dropout=fast_path.masks_of(request.dropout.recurrent),
        reverse=request.go_backwards,
        sequences=request.return_sequences,
        keep=request.training,
    )
    return Result(outputs, state, ENGINE.name)


def _refusal(request: Request) -> str | None:
    if keras.backend.backend() != "tensorflow":
        return f"needs the TensorFlow backend, and {keras.backend.backend()!r} is active"
    reason = fast_path.refusal(request)
    if reason:
        return reason
    if request.cell.kind != "lstm":
        return f"knows the LSTM, not {request.cell.kind!r}"
    dtypes = {request.cell.compute_dtype, request.cell.variable_dtype}
    if dtypes != {"float32"}:
        return f"computes in float32, not in {' and '.join(sorted(dtypes - {'float32'}))}"
    return _place()


def _place() -> str | None:
    import tensorflow as tf

    from keras_lstm_custom.engines.native.xla_context import inside_xla

    if tf.config.list_logical_devices("GPU"):
        return "runs on the CPU, and TensorFlow has a GPU"
    if inside_xla():
        return "is an operation of its own, which XLA does not know (jit_compile=True)"
    return None


ENGINE = Engine("native", "the LSTM in C++, vectorised for the processor, with its own gradient", supports, run)
