"""What the fast engines share: which cells they know, and how they take dropout masks."""

from __future__ import annotations

import keras

from keras_lstm_custom.engines.contract import Request
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


def masks_of(dropout) -> list[Tensor]:
    """Return a dropout mask as a list: empty for none, one for all gates, or one for each gate."""
    if dropout is None:
        return []
    return list(dropout) if isinstance(dropout, (list, tuple)) else [dropout]
