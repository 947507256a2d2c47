"""The scan engine for JAX: the LSTM by `jax.lax.scan`, with a gradient of its own."""

from __future__ import annotations

from keras_lstm_custom.engines import fast_path, masking, no_steps
from keras_lstm_custom.engines.contract import Engine, Request, Result, Support
from keras_lstm_custom.equations import lstm_step


def supports(request: Request) -> Support:
    """Serve every mask, direction, state, dropout and dtype of the LSTM, under JAX."""
    reason = fast_path.refusal(request, "jax", known=(lstm_step,))
    return Support(False, reason) if reason else Support(True, "custom gradient, compiled by XLA")


@no_steps.served
def run(request: Request) -> Result:
    """Run the recurrence over time-major inputs."""
    from jax import numpy as jnp

    from keras_lstm_custom.engines.jax.recurrence import Affine, recurrence

    cell = request.cell
    input_masks, recurrent_masks = (tuple(fast_path.masks_of(m)) for m in request.dropout)
    mask = masking.in_running_order(request)
    x = jnp.flip(request.sequences, axis=1) if request.go_backwards else request.sequences
    hs, state = recurrence(
        jnp.swapaxes(x, 0, 1),
        tuple(request.initial_state),
        Affine(*fast_path.weights_of(cell), input_masks, recurrent_masks),
        None if mask is None else mask.T[..., None],
    )
    outputs = jnp.swapaxes(hs, 0, 1) if request.return_sequences else state[0][:, None]
    return Result(outputs, list(state), ENGINE.name)


ENGINE = Engine("jax_scan", "the LSTM by jax.lax.scan, with a gradient of its own", supports, run)
