"""What the fast engines share: which equations they know, and how they take dropout masks."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import keras
from keras import ops

from keras_lstm_custom.cells.equations_of import USUAL, changed_methods, unusual_function
from keras_lstm_custom.engines.contract import Request
from keras_lstm_custom.equations import lstm_step, rnn_step
from keras_lstm_custom.structures import Tensor

#: What an engine has written out, as `EquationCell.equation` names it.
Equations = Collection[Callable]
#: Those of which most engines have a loop written out.
WRITTEN_OUT: Equations = (lstm_step, rnn_step)

#: How the names of the backends are written.
BACKENDS = {"tensorflow": "TensorFlow", "jax": "JAX", "torch": "torch"}


def refusal(request: Request, *backends: str, known: Equations = WRITTEN_OUT) -> str | None:
    """Return why no fast engine that knows these equations, or none for these backends, can serve it, or None."""
    active = keras.backend.backend()
    if backends and active not in backends:
        return f"needs the {' or '.join(BACKENDS[b] for b in backends)} backend, and {active!r} is active"
    return equations_refusal(request.cell, known) or loop_refusal(request)


def equations_refusal(cell: Any, known: Equations = WRITTEN_OUT, features: frozenset[str] = frozenset()) -> str | None:
    """Return why no engine that has these equations written out, with these features, computes what the cell does."""
    if cell.equation not in known:
        names = ", ".join(equation.__name__ for equation in known)
        return f"has {names} written out, and {type(cell).__qualname__} computes another step"
    name = cell.equation.__name__
    changed = changed_methods(cell)
    if changed:
        return f"has {name} written out, and {type(cell).__name__} has its own {' and '.join(changed)}"
    unknown = cell.features - features
    if unknown:
        return f"has {name} written out, without {', '.join(sorted(unknown))}"
    unusual = unusual_function(cell)
    return f"has the gradient of {unusual}={USUAL[unusual].__name__!r} only" if unusual else None


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
