"""The reference engine: Keras' generic loop over the equations. Serves every request; the others must agree with it."""

from __future__ import annotations

from keras import ops

from keras_lstm_custom.engines import masking
from keras_lstm_custom.engines.contract import Engine, Request, Result, Support
from keras_lstm_custom.keras_hooks import loop_over_time


def supports(request: Request) -> Support:
    """Say yes: there is nothing it cannot serve."""
    return Support(True, "serves every cell, mask, direction, dtype and Keras backend")


def run(request: Request) -> Result:
    """Project all inputs at once, then loop over the steps."""
    cell = request.cell
    z_x = _project(request)

    def step(z_t, states):
        new = cell.step(z_t, cell.state_type(*states), request.dropout.recurrent)
        # The loop carries one output tensor, so the fields of the step travel side by side.
        return ops.concatenate(new, axis=-1) if request.keep_steps else new.h, list(new.state)

    keeps_all = request.return_sequences or request.keep_steps
    _, outputs, state = loop_over_time(
        step,
        z_x,
        request.initial_state,
        request.mask,
        go_backwards=request.go_backwards,
        unroll=request.unroll,
        return_sequences=keeps_all,
        stateful=request.stateful,
    )
    if not keeps_all:
        return Result(state[0][:, None], state, ENGINE.name)
    mask = masking.in_running_order(request)
    h = outputs[..., : cell.units]
    if mask is not None:  # before the first step that is read, what the loop gives is the backend's own matter
        h = ops.where(masking.anything_read(mask)[..., None], h, request.initial_state[0][:, None])
    steps = _steps(cell, outputs, mask) if request.keep_steps else None
    return Result(h if request.return_sequences else state[0][:, None], state, ENGINE.name, steps)


def _steps(cell, outputs, mask):
    if mask is not None:  # what a masked step would have computed means nothing
        outputs = ops.where(mask[..., None], outputs, ops.zeros((), dtype=outputs.dtype))
    return cell.step_type(*ops.split(outputs, len(cell.step_type._fields), axis=-1))


def _project(request: Request):
    """Project the inputs of all steps in one product; a dropout mask is the same at every step."""
    mask = request.dropout.inputs
    if isinstance(mask, (list, tuple)):
        mask = [ops.expand_dims(m, axis=1) for m in mask]
    elif mask is not None:
        mask = ops.expand_dims(mask, axis=1)
    return request.cell.project_inputs(request.sequences, mask)


ENGINE = Engine("reference", "Keras' generic loop over the equations", supports, run)
