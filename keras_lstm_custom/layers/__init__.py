"""The public layers, and the conversion of models between them and Keras' own."""

from keras_lstm_custom.layers.convert import from_keras, to_keras
from keras_lstm_custom.layers.forecasting import OrderedQuantiles, QuantileLoss
from keras_lstm_custom.layers.gru import GRU
from keras_lstm_custom.layers.lstm import LSTM
from keras_lstm_custom.layers.mask_of import MaskOf
from keras_lstm_custom.layers.recurrent import Recurrent
from keras_lstm_custom.layers.slstm import SLSTM
from keras_lstm_custom.layers.vanilla_rnn import VanillaRNN

__all__ = [
    "GRU",
    "LSTM",
    "SLSTM",
    "MaskOf",
    "OrderedQuantiles",
    "QuantileLoss",
    "Recurrent",
    "VanillaRNN",
    "from_keras",
    "to_keras",
]
