"""The equations, and nothing else: pure functions over `keras.ops`."""

from keras_lstm_custom.equations.gru import gru_step
from keras_lstm_custom.equations.lstm import lstm_step
from keras_lstm_custom.equations.projection import project
from keras_lstm_custom.equations.vanilla_rnn import rnn_step

__all__ = ["gru_step", "lstm_step", "project", "rnn_step"]
