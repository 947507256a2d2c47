"""A cell of Keras under our equations, where it is."""

from __future__ import annotations

from typing import Any

from keras_lstm_custom.cells.base import EquationCell
from keras_lstm_custom.cells.gru_cell import GRUCell
from keras_lstm_custom.cells.lstm_cell import LSTMCell
from keras_lstm_custom.cells.vanilla_rnn_cell import VanillaRNNCell

#: Our cell for each of Keras'. A subclass of Keras' cell computes who knows what, and is none of them.
OURS: dict[type, type[EquationCell]] = {cell.keras_class: cell for cell in (GRUCell, LSTMCell, VanillaRNNCell)}


def as_ours(cell: Any) -> EquationCell | None:
    """Return `cell` if it is one of ours; of one of Keras' that has a counterpart the same cell under our class.

    That is no copy: it has the very attributes, weights included, and adds to them the methods of our class alone. None
    for any other cell.
    """
    if isinstance(cell, EquationCell):
        return cell
    if type(cell) not in OURS:
        return None
    ours = object.__new__(OURS[type(cell)])
    object.__setattr__(ours, "__dict__", vars(cell))
    return ours
