"""cuDNN's LSTM under TensorFlow and JAX, by their public functions. (torch calls cuDNN itself: `torch_nn`.)"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import keras
from keras import ops

from keras_lstm_custom.engines import compaction, fast_path, gpu_place, no_steps
from keras_lstm_custom.engines.contract import Engine, Request, Result, Support
from keras_lstm_custom.equations import lstm_step
from keras_lstm_custom.equations.weight_layout import to_cudnn


class Binding(NamedTuple):
    """How one backend calls cuDNN."""

    dtypes: tuple[str, ...]  #: what a cell may compute in
    computes: dict[str, str]  #: what cuDNN computes in for it, where that is another: the results are rounded to it
    lstm: Callable  #: (x, h, c, packed weights, units) -> outputs `(batch, timesteps, units)`, h, c


def _tensorflow_lstm(x, h, c, weights, units):
    import tensorflow as tf

    batch, timesteps = tf.unstack(tf.shape(x)[:2])
    outputs, h, c, *_ = tf.raw_ops.CudnnRNNV3(
        input=x,
        input_h=h[:, None],  # batch-major: the axis of the layers comes second
        input_c=c[:, None],
        params=weights,
        sequence_lengths=tf.fill([batch], timesteps),
        rnn_mode="lstm",  # a name of TensorFlow's
        is_training=True,  # without it there is no gradient, and inference, too, may be differentiated
        time_major=False,
    )
    return outputs, h[:, 0], c[:, 0]


def _jax_lstm(x, h, c, weights, units):
    from jax import numpy as jnp
    from jax.experimental import rnn

    lengths = jnp.full(x.shape[:1], x.shape[1], jnp.int32)
    layout = {"input_size": x.shape[2], "hidden_size": units, "num_layers": 1, "dropout": 0.0, "bidirectional": False}
    if _below_tf32():  # which JAX's call does not have; TF32 is better than what was asked for
        layout["precision"] = "high"
    outputs, h, c = rnn.lstm(x, h[None], c[None], weights, lengths, **layout)
    return outputs, h[0], c[0]


def _below_tf32() -> bool:
    import jax

    asked = jax.config.jax_default_matmul_precision  # type: ignore[attr-defined]
    try:
        return asked is not None and jax.lax.Precision(asked) == jax.lax.Precision.DEFAULT
    except ValueError:  # the name of an algorithm
        return False


BINDINGS = {
    "tensorflow": Binding(("float32", "float16"), {}, _tensorflow_lstm),
    # JAX's call of cuDNN knows float32 only.
    "jax": Binding(("float32", "bfloat16", "float16"), {"bfloat16": "float32", "float16": "float32"}, _jax_lstm),
}


def supports(request: Request) -> Support:
    """Serve every mask, direction and state of the LSTM without recurrent dropout, on a GPU."""
    reason = (
        fast_path.refusal(request, *BINDINGS, known=(lstm_step,))
        or fast_path.whole_layer_refusal(request)
        or _refusal(request)
    )
    if reason:
        return Support(False, reason)
    computes = BINDINGS[keras.backend.backend()].computes.get(request.cell.compute_dtype)
    return Support(True, "one call of cuDNN" + (f", computed in {computes}" if computes else ""))


@no_steps.served
def run(request: Request) -> Result:
    """Run the whole layer by one call."""
    cell, x = request.cell, request.sequences
    binding = BINDINGS[keras.backend.backend()]
    dtype = binding.computes.get(cell.compute_dtype, cell.compute_dtype)
    for m in fast_path.masks_of(request.dropout.inputs):  # none, or one
        x = x * m[:, None]
    kernel, recurrent_kernel, bias = fast_path.weights_of(cell)
    # Reversed inputs, so that outputs come in the order they were computed, as the contract has it.
    order = compaction.of(request)
    if order is not None:
        x, kernel = compaction.inputs(order, x, tell_idle_steps=True), compaction.kernel(kernel)
    elif request.go_backwards:
        x = ops.flip(x, axis=1)
    weights = to_cudnn(kernel, recurrent_kernel, bias)
    tensors = binding.lstm(*(ops.cast(v, dtype) for v in (x, *request.initial_state, weights)), cell.units)
    outputs, h, c = (ops.cast(v, cell.compute_dtype) for v in tensors)
    if order is not None:
        outputs = compaction.outputs(order, outputs, request.initial_state[0], request.return_sequences)
        return Result(outputs, [outputs[:, -1], c], ENGINE.name)
    return Result(outputs if request.return_sequences else h[:, None], [h, c], ENGINE.name)


def _refusal(request: Request) -> str | None:
    binding = BINDINGS[keras.backend.backend()]
    cell = request.cell
    if cell.compute_dtype not in binding.dtypes:
        return f"computes in {' or '.join(binding.dtypes)}, not in {cell.compute_dtype}"
    if request.use_cudnn is False:
        return "use_cudnn=False forbids it"
    return gpu_place.refusal(request)


ENGINE = Engine("cudnn", "cuDNN's LSTM, under TensorFlow and JAX", supports, run, derivatives="first")
