"""What the fast engines share: which cells they know, and how they take dropout masks."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_lstm_custom.cells.equations_of import changed_methods
from keras_lstm_custom.engines.contract import Request
from keras_lstm_custom.structures import Tensor

#: The activations each kind of cell must have: a fast engine has the derivatives of these only.
ACTIVATIONS = {
    "lstm": {"activation": keras.activations.tanh, "recurrent_activation": keras.activations.sigmoid},
    "vanilla_rnn": {"activation": keras.activations.tanh},
    "gru": {"activation": keras.activations.tanh, "recurrent_activation": keras.activations.sigmoid},
}


#: Those that engines with loops of their own know.
LOOP_KINDS = ("lstm", "vanilla_rnn")

#: How the names of the backends are written.
BACKENDS = {"tensorflow": "TensorFlow", "jax": "JAX", "torch": "torch"}


def refusal(request: Request, *backends: str, kinds: tuple[str, ...] = LOOP_KINDS) -> str | None:
    """Return why no fast engine that knows these cells, or none for these backends, can serve the request, or None."""
    active = keras.backend.backend()
    if backends and active not in backends:
        return f"needs the {' or '.join(BACKENDS[b] for b in backends)} backend, and {active!r} is active"
    return equations_refusal(request.cell, kinds) or loop_refusal(request)


def equations_refusal(
    cell: Any, kinds: tuple[str, ...] = LOOP_KINDS, features: frozenset[str] = frozenset()
) -> str | None:
    """Return why no engine with equations of its own for these kinds, and features, computes what the cell does."""
    if cell.kind not in kinds:
        return f"knows the cells {', '.join(kinds)}, not {cell.kind!r}"
    changed = changed_methods(cell)
    if changed:
        return f"has the equations of {cell.kind!r} only, and {type(cell).__name__} has its own {' and '.join(changed)}"
    unknown = cell.features - features
    if unknown:
        return f"has the equations of {cell.kind!r} without {', '.join(sorted(unknown))}"
    for name, function in ACTIVATIONS[cell.kind].items():
        if getattr(cell, name) is not function:
            return f"has the gradient of {name}={function.__name__!r} only"
    return None


def loop_refusal(request: Request) -> str | None:
    """Return why no engine with a loop of its own can serve the request, or None."""
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


def initial_state_of(request: Request) -> list[Tensor]:
    """Return the initial state; a copy if the layer is stateful: torch overwrites it before the gradient is taken."""
    return [ops.copy(s) for s in request.initial_state] if request.stateful else request.initial_state


def whole_layer_refusal(request: Request) -> str | None:
    """Return why a library that runs the whole layer, from its inputs on, cannot serve the request, or None."""
    if request.dropout.recurrent is not None:
        return "knows no recurrent dropout"
    if len(masks_of(request.dropout.inputs)) > 1:
        return "has one input dropout mask for all gates, not one for each (implementation=1 or recurrent_dropout)"
    return None


def weights_of(cell: Any) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return kernel, recurrent kernel and bias (or None) in the dtype that the cell computes in."""

    def tensor(weight: Any) -> Tensor:
        if as_they_are and isinstance(weight, keras.Variable):  # a subclass may compute its weights
            return weight.value
        return ops.cast(weight, cell.compute_dtype)

    as_they_are = cell.variable_dtype == cell.compute_dtype  # a cast that changes nothing costs time all the same
    return tensor(cell.kernel), tensor(cell.recurrent_kernel), None if cell.bias is None else tensor(cell.bias)
