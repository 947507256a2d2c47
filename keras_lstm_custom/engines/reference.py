"""The reference engine: Keras' generic loop over the equations. Serves every request; the others must agree with it."""

from __future__ import annotations

from dataclasses import replace

from keras import ops

from keras_lstm_custom.engines import masking, no_steps
from keras_lstm_custom.engines.contract import Engine, Request, Result, Support
from keras_lstm_custom.equations.projection import DropoutMask
from keras_lstm_custom.keras_hooks import loop_over_time


def supports(request: Request) -> Support:
    """Say yes: there is nothing it cannot serve."""
    return Support(True, "serves every cell, mask, direction, dtype and Keras backend")


@no_steps.served
def run(request: Request) -> Result:
    """Loop over the steps, the product with x inside: for all steps at once it would go through memory."""
    cell, sequences, dropout = request.cell, request.sequences, request.dropout.inputs
    # But TensorFlow fuses a product in float16 with the bias that follows, if they are two-dimensional, into an
    # operation that takes thirty times as long.
    at_once = cell.compute_dtype == "float16"
    if at_once:
        sequences = cell.project_inputs(sequences, _over_time(dropout))

    def step(x_t, states):
        z_x = x_t if at_once else cell.project_inputs(x_t, dropout)
        new = cell.step(z_x, cell.state_type(*states), request.dropout.recurrent)
        # The loop carries one output tensor, so the fields of the step travel side by side.
        return ops.concatenate(new, axis=-1) if request.keep_steps else new.h, list(new.state)

    _, outputs, state = loop_over_time(
        step,
        sequences,
        request.initial_state,
        request.mask,
        go_backwards=request.go_backwards,
        unroll=request.unroll,
        return_sequences=request.return_sequences or request.keep_steps,
        stateful=request.stateful,
        zero_output_for_mask=request.keep_steps,  # else JAX's loop takes outputs to be as wide as h
    )
    steps = cell.step_type(*ops.split(outputs, len(cell.step_type._fields), axis=-1)) if request.keep_steps else None
    if not request.return_sequences:
        return Result(state[0][:, None], state, ENGINE.name, steps)
    mask = masking.in_running_order(request)
    if mask is None:
        return Result(outputs if steps is None else steps.h, state, ENGINE.name, steps)
    if request.keep_steps:  # the h that is kept is not among them
        return run(replace(request, keep_steps=False))._replace(steps=steps)
    # Before the first step that is read, what the loop gives is the backend's own matter.
    h = ops.where(masking.anything_read(mask)[..., None], outputs, request.initial_state[0][:, None])
    return Result(h, state, ENGINE.name)


def _over_time(masks: DropoutMask) -> DropoutMask:
    """Return dropout masks that broadcast against `(batch, timesteps, features)`."""
    if isinstance(masks, (list, tuple)):
        return [_over_time(mask) for mask in masks]
    return None if masks is None else ops.expand_dims(masks, axis=1)


ENGINE = Engine("reference", "Keras' generic loop over the equations", supports, run)
