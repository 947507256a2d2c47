"""cuDNN's LSTM under TensorFlow and JAX, by their public functions. (torch calls cuDNN itself: `torch_nn`.)"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import keras
from keras import ops

from keras_lstm_custom.engines import fast_path
from keras_lstm_custom.engines.contract import Engine, Request, Result, Support
from keras_lstm_custom.equations.weight_layout import to_cudnn

NOT_NVIDIA = "needs an NVIDIA GPU: MIOpen has the gates in another order"


class Binding(NamedTuple):
    """How one backend calls cuDNN."""

    dtypes: tuple[str, ...]
    place: Callable[[], str | None]  #: why cuDNN cannot run here, or None
    lstm: Callable  #: (x, h, c, packed weights, units) -> outputs `(batch, timesteps, units)`, h, c


def _tensorflow_place():
    import tensorflow as tf

    from keras_lstm_custom.engines.native.xla_context import inside_xla

    if not tf.config.list_logical_devices("GPU"):
        return "needs a GPU, and TensorFlow has none"
    if tf.sysconfig.get_build_info().get("is_rocm_build"):
        return NOT_NVIDIA
    if inside_xla():
        return "is an operation of its own, which XLA does not know (jit_compile=True)"
    return None


def _tensorflow_lstm(x, h, c, weights, units):
    import tensorflow as tf

    batch, timesteps = tf.unstack(tf.shape(x)[:2])
    outputs, h, c, *_ = tf.raw_ops.CudnnRNNV3(
        input=x,
        input_h=h[:, None],  # batch-major: the axis of the layers comes second
        input_c=c[:, None],
        params=weights,
        sequence_lengths=tf.fill([batch], timesteps),
        rnn_mode="lstm",
        is_training=True,  # without it there is no gradient, and inference, too, may be differentiated
        time_major=False,
    )
    return outputs, h[:, 0], c[:, 0]


def _jax_place():
    import jax

    if jax.default_backend() != "gpu":
        return f"needs a GPU, and JAX runs on {jax.default_backend()!r}"
    if "rocm" in jax.devices()[0].client.platform_version.lower():
        return NOT_NVIDIA
    return None


def _jax_lstm(x, h, c, weights, units):
    from jax import numpy as jnp
    from jax.experimental import rnn

    lengths = jnp.full(x.shape[:1], x.shape[1], jnp.int32)
    layout = {"input_size": x.shape[2], "hidden_size": units, "num_layers": 1, "dropout": 0.0, "bidirectional": False}
    outputs, h, c = rnn.lstm(x, h[None], c[None], weights, lengths, **layout)
    return outputs, h[0], c[0]


BINDINGS = {
    "tensorflow": Binding(("float32", "float16"), _tensorflow_place, _tensorflow_lstm),
    "jax": Binding(("float32",), _jax_place, _jax_lstm),
}


def supports(request: Request) -> Support:
    """Serve every direction and state of the LSTM without a mask and recurrent dropout, on a GPU."""
    reason = fast_path.refusal(request, *BINDINGS) or fast_path.whole_layer_refusal(request) or _refusal(request)
    return Support(False, reason) if reason else Support(True, "one call of cuDNN")


def run(request: Request) -> Result:
    """Run the whole layer by one call."""
    cell = request.cell
    # Reversed inputs, so that outputs come in the order they were computed, as the contract has it.
    x = ops.flip(request.sequences, axis=1) if request.go_backwards else request.sequences
    for m in fast_path.masks_of(request.dropout.inputs):  # none, or one
        x = x * m[:, None]
    lstm = BINDINGS[keras.backend.backend()].lstm
    outputs, h, c = lstm(x, *request.initial_state, to_cudnn(*fast_path.weights_of(cell)), cell.units)
    return Result(outputs if request.return_sequences else h[:, None], [h, c], ENGINE.name)


def _refusal(request: Request) -> str | None:
    binding = BINDINGS[keras.backend.backend()]
    cell = request.cell
    if cell.kind != "lstm":
        return f"knows the LSTM, not {cell.kind!r}"
    if cell.compute_dtype not in binding.dtypes:
        return f"computes in {' or '.join(binding.dtypes)}, not in {cell.compute_dtype}"
    if request.use_cudnn is False:
        return "use_cudnn=False forbids it"
    return binding.place()


ENGINE = Engine("cudnn", "cuDNN's LSTM, under TensorFlow and JAX", supports, run, derivatives="first")
