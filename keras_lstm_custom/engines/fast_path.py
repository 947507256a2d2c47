"""What the fast engines share: which cells they know, and what Keras does with masks around the recurrence."""

from __future__ import annotations

import keras
from keras import ops

from keras_lstm_custom.engines.contract import Request, Result
from keras_lstm_custom.structures import Tensor

#: The activations each kind of cell must have: a fast engine has the derivatives of these only.
ACTIVATIONS = {
    "lstm": {"activation": keras.activations.tanh, "recurrent_activation": keras.activations.sigmoid},
    "vanilla_rnn": {"activation": keras.activations.tanh},
}


def refusal(request: Request) -> str | None:
    """Return why no fast engine can serve the request, or None."""
    cell = request.cell
    if cell.kind not in ACTIVATIONS:
        return f"knows the cells {', '.join(ACTIVATIONS)}, not {cell.kind!r}"
    for name, function in ACTIVATIONS[cell.kind].items():
        if getattr(cell, name) is not function:
            return f"has the gradient of {name}={function.__name__!r} only"
    if request.keep_steps:
        return "does not return what each step computed"
    if request.unroll:
        return "has a loop of its own, but unroll=True asks for a graph without one"
    return None


def cast_mask(request: Request) -> Tensor | None:
    """Return the mask `(batch, timesteps)` as booleans in the order in which the steps run, or None."""
    if request.mask is None:
        return None
    mask = ops.cast(request.mask, "bool")
    return ops.flip(mask, axis=1) if request.go_backwards else mask


def masks_of(dropout) -> list[Tensor]:
    """Return a dropout mask as a list: empty for none, one for all gates, or one for each gate."""
    if dropout is None:
        return []
    return list(dropout) if isinstance(dropout, (list, tuple)) else [dropout]


def result(request: Request, engine: str, outputs: Tensor, state: list[Tensor], mask: Tensor | None) -> Result:
    """Return what Keras returns, given `h` after every step.

    A masked step repeats the output before it, which is `h`, kept; but before the first step that
    is not masked there is no output yet, so it is zero, and with `zero_output_for_mask` it always is.

    Args:
        request: what was asked.
        engine: name of the engine that ran.
        outputs: `h` after every step, or after the last only: `(batch, timesteps or 1, units)`.
        state: the final state.
        mask: as `cast_mask` gives it.
    """
    if mask is not None:
        has_output = mask if request.zero_output_for_mask else ops.cumsum(ops.cast(mask, "int32"), axis=1) > 0
        has_output = has_output if outputs.shape[1] != 1 else has_output[:, -1:]
        outputs = ops.where(has_output[..., None], outputs, ops.zeros((), dtype=outputs.dtype))
    return Result(outputs[:, -1], outputs, state, engine)
