"""Whether a cell computes what its class says: the methods of the class that named the equation, and nothing else.

`equation` is inherited, and so says nothing of a subclass that changes the step, nor of a cell or class to which
another function was assigned. What runs, looks into or exports a cell by other means than its own step asks here.
"""

from __future__ import annotations

from typing import Any

import keras

from keras_lstm_custom.cells.as_ours import OURS
from keras_lstm_custom.cells.base import METHODS, EquationCell


def changed_methods(cell: EquationCell) -> list[str]:
    """Return the methods of a cell that are not those of its equation; where it names none, all."""
    registered = getattr(cell, "registered", dict.fromkeys(("call", "project_inputs", "step")))
    return [name for name, function in registered.items() if _function(cell, name) is not function]


def unusual_function(cell: Any) -> str | None:
    """Return the name of a function of the cell that is not the one of its equation (tanh, σ), or None."""
    return next((name for name, usual in USUAL.items() if getattr(cell, name, usual) is not usual), None)


def has_own_call(cell: Any) -> bool:
    """Return whether what the cell does stands in a `call` of its own, and not in `project_inputs` and `step`."""
    return isinstance(cell, EquationCell) and any(_function(cell, n) is not f for n, f in _CALLS.items())


def lost_by_rebuilding(part: Any) -> list[str]:
    """Return the methods of a layer or cell, Keras' own or ours, that its configuration says nothing of.

    Those are functions assigned to the object; and to one of our classes, which a conversion exchanges for Keras'.
    """
    assigned = [name for name in (*METHODS, "inner_loop", "run_loop") if name in vars(part)]
    return assigned or (changed_methods(part) if type(part) in OURS.values() else [])


#: The functions that a cell's equation is written with, of those it has.
USUAL = {"activation": keras.activations.tanh, "recurrent_activation": keras.activations.sigmoid}
_CALLS = {name: getattr(EquationCell, name) for name in ("__call__", "call")}


def _function(cell: Any, name: str) -> Any:
    """Return the plain function behind a method; special methods are looked up on the class, as Python does."""
    found = getattr(type(cell) if name.startswith("__") else cell, name, None)
    return getattr(found, "__func__", found)
