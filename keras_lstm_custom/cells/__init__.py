"""Recurrent cells: the weights of one step, and one call to its equations."""

from keras_lstm_custom.cells.gru_cell import GRUCell
from keras_lstm_custom.cells.lstm_cell import LSTMCell
from keras_lstm_custom.cells.recurrent_cell import RecurrentCell
from keras_lstm_custom.cells.slstm_cell import SLSTMCell
from keras_lstm_custom.cells.vanilla_rnn_cell import VanillaRNNCell

__all__ = ["GRUCell", "LSTMCell", "RecurrentCell", "SLSTMCell", "VanillaRNNCell"]
