"""Whether a cell computes what its kind says: the equations that were registered for it, and nothing else.

`kind` is inherited, and so says nothing of a subclass that changes the step, nor of a cell or class to which another
function was assigned. What runs, looks into or exports a cell by other means than the cell's own step asks here.
"""

from __future__ import annotations

from typing import Any

from keras_lstm_custom.cells.base import EquationCell
from keras_lstm_custom.cells.lstm_cell import LSTMCell
from keras_lstm_custom.cells.vanilla_rnn_cell import VanillaRNNCell

#: What decides what a cell computes, as it was when this module was loaded: what is assigned later is not it.
_REGISTERED = {
    cell_class.kind: {name: getattr(cell_class, name) for name in ("__call__", "call", "project_inputs", "step")}
    for cell_class in (LSTMCell, VanillaRNNCell)
}
KINDS = tuple(_REGISTERED)


def changed_methods(cell: Any) -> list[str]:
    """Return the methods of a cell that are not those of the equations of its kind; of an unknown kind all."""
    registered = _REGISTERED.get(getattr(cell, "kind", None), dict.fromkeys(("call", "project_inputs", "step")))
    return [name for name, function in registered.items() if _function(cell, name) is not function]


def has_own_call(cell: Any) -> bool:
    """Return whether what the cell does stands in a `call` of its own, and not in `project_inputs` and `step`."""
    return _function(cell, "call") is not _CALL or _function(cell, "__call__") is not _DUNDER_CALL


_CALL, _DUNDER_CALL = EquationCell.call, EquationCell.__call__


def _function(cell: Any, name: str) -> Any:
    """Return the plain function behind a method; special methods are looked up on the class, as Python does."""
    found = getattr(type(cell) if name.startswith("__") else cell, name, None)
    return getattr(found, "__func__", found)
