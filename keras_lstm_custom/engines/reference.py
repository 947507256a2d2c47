"""The reference engine: Keras' generic loop over the equations. Serves every request; the others must agree with it."""

from __future__ import annotations

import inspect
import itertools
from dataclasses import replace

from keras import ops, tree

from keras_lstm_custom.cells.equations_of import has_own_call
from keras_lstm_custom.engines import masking, no_steps
from keras_lstm_custom.engines.contract import Engine, Request, Result, Support
from keras_lstm_custom.equations.projection import DropoutMask
from keras_lstm_custom.errors import EngineError
from keras_lstm_custom.keras_hooks import loop_over_time


def supports(request: Request) -> Support:
    """Say yes: there is nothing it cannot serve."""
    return Support(True, "serves every cell, mask, direction, dtype and Keras backend")


@no_steps.served
def run(request: Request) -> Result:
    """Loop over the steps, the product with x inside: for all steps at once it would go through memory."""
    cell, sequences, dropout = request.cell, request.sequences, request.dropout.inputs
    if has_own_call(cell):
        return _run_call(request)
    # But TensorFlow fuses a product in float16 with the bias that follows, if they are two-dimensional, into an
    # operation that takes thirty times as long.
    at_once = cell.compute_dtype == "float16"
    if at_once:
        sequences = cell.project_inputs(sequences, _over_time(dropout))

    ends: list[int] = []  # where in the output tensor the fields of a step end

    def step(x_t, states):
        z_x = x_t if at_once else cell.project_inputs(x_t, dropout)
        new = cell.checked_step(z_x, cell.state_type(*states), request.dropout.recurrent)
        ends[:] = itertools.accumulate(value.shape[-1] for value in new)
        # The loop carries one output tensor, so the fields of the step travel side by side.
        return ops.concatenate(new, axis=-1) if request.keep_steps else new[0], list(cell.state_of(new))

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
    steps = None
    if request.keep_steps:
        steps = cell.step_type(*(ops.split(outputs, ends[:-1], axis=-1) if len(ends) > 1 else [outputs]))
    if not request.return_sequences:
        return Result(state[0][:, None], state, ENGINE.name, steps)
    mask = masking.in_running_order(request)
    if mask is None:
        return Result(outputs if steps is None else steps[0], state, ENGINE.name, steps)
    if request.keep_steps:  # the h that is kept is not among them
        return run(replace(request, keep_steps=False))._replace(steps=steps)
    # Before the first step that is read, what the loop gives is the backend's own matter.
    h = ops.where(masking.anything_read(mask)[..., None], outputs, request.initial_state[0][:, None])
    return Result(h, state, ENGINE.name)


def _run_call(request: Request) -> Result:
    """Loop over the cell's own `call`, whose output need not be h."""
    cell = request.cell
    if request.keep_steps:
        raise EngineError(
            f"What a step of {type(cell).__name__} computes cannot be returned: it stands in a `call` of its own.",
            expected="a cell that computes in `project_inputs` and `step`",
            received=f"{type(cell).__name__}, which overrides `call`",
            remedy="Override `step` instead, or look at the outputs only.",
        )
    options = {"training": request.training} if "training" in inspect.signature(cell.call).parameters else {}

    def step(x_t, states):
        output, new = cell(x_t, list(states), **options)
        return output, tree.flatten(new)

    last_output, outputs, state = loop_over_time(
        step,
        request.sequences,
        request.initial_state,
        request.mask,
        go_backwards=request.go_backwards,
        unroll=request.unroll,
        return_sequences=request.return_sequences,
        stateful=request.stateful,
    )
    return Result(outputs if request.return_sequences else last_output[:, None], state, ENGINE.name)


def _over_time(masks: DropoutMask) -> DropoutMask:
    """Return dropout masks that broadcast against `(batch, timesteps, features)`."""
    if isinstance(masks, (list, tuple)):
        return [_over_time(mask) for mask in masks]
    return None if masks is None else ops.expand_dims(masks, axis=1)


ENGINE = Engine("reference", "Keras' generic loop over the equations", supports, run)
