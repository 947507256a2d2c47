"""The reference engine: Keras' generic loop over the equations. Serves every request; the others must agree with it."""

from __future__ import annotations

from dataclasses import replace

from keras import ops

from keras_lstm_custom.engines import masking
from keras_lstm_custom.engines.contract import Engine, Request, Result, Support
from keras_lstm_custom.keras_hooks import loop_over_time


def supports(request: Request) -> Support:
    """Say yes: there is nothing it cannot serve."""
    return Support(True, "serves every cell, mask, direction, dtype and Keras backend")


def run(request: Request) -> Result:
    """Loop over the steps."""
    cell = request.cell

    def step(x_t, states):
        z_x = cell.project_inputs(x_t, request.dropout.inputs)  # for all steps at once it would go through memory
        new = cell.step(z_x, cell.state_type(*states), request.dropout.recurrent)
        # The loop carries one output tensor, so the fields of the step travel side by side.
        return ops.concatenate(new, axis=-1) if request.keep_steps else new.h, list(new.state)

    _, outputs, state = loop_over_time(
        step,
        request.sequences,
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


ENGINE = Engine("reference", "Keras' generic loop over the equations", supports, run)
