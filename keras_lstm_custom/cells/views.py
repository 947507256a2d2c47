"""A cell as our equations see it, whoever it belongs to."""

from __future__ import annotations

from types import FunctionType, MethodType
from typing import Any

from keras_lstm_custom.cells.base import EquationCell
from keras_lstm_custom.cells.lstm_cell import LSTMCell
from keras_lstm_custom.cells.vanilla_rnn_cell import VanillaRNNCell

#: Our cell for each of Keras'. A subclass of Keras' cell computes who knows what, and is none of them.
EQUATIONS: dict[type, type[EquationCell]] = {cell.keras_class: cell for cell in (LSTMCell, VanillaRNNCell)}


class CellView:
    """A cell of Keras with the equations of ours: its weights and options as they are now, our `step`."""

    def __init__(self, cell: Any, equations: type[EquationCell]):
        self._cell, self._equations = cell, equations

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        own = vars(self._equations).get(name, vars(EquationCell).get(name))
        if isinstance(own, FunctionType):
            return MethodType(own, self)
        return getattr(self._cell, name) if own is None else own


def equations_of(cell: Any) -> Any:
    """Return `cell` if it is one of ours, a view of it if it is one of Keras' that has a counterpart, or None."""
    if isinstance(cell, EquationCell):
        return cell
    equations = EQUATIONS.get(type(cell))
    return None if equations is None else CellView(cell, equations)
