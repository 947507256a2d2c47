"""What the tests of `trace` share: sizes, models, and the NumPy oracle in the order of time."""

import keras
import numpy as np
from keras import layers, ops

from keras_lstm_custom import LSTM, VanillaRNN
from tests.oracles import numpy_cells

BATCH, TIMESTEPS, FEATURES, UNITS = 3, 6, 2, 4
ORACLES = {"lstm": numpy_cells.lstm, "vanilla_rnn": numpy_cells.vanilla_rnn}
OURS = {"lstm": LSTM, "vanilla_rnn": VanillaRNN}
KERAS = {"lstm": layers.LSTM, "vanilla_rnn": layers.SimpleRNN}
TOLERANCE = {"rtol": 2e-5, "atol": 2e-6}  # float32 against float64 over a few steps


def randomised(model, rng):
    """Give every weight a random value, so that no bias is zero and no gate like another."""
    model.set_weights([rng.normal(scale=0.7, size=w.shape) for w in model.get_weights()])
    return model


def oracle(layer, x, states=(), mask=None, go_backwards=False):
    """Return the oracle's steps in the order of time."""
    order = slice(None, None, -1 if go_backwards else 1)
    weights = [ops.convert_to_numpy(w) for w in layer.weights if "seed" not in w.path]
    kind = "lstm" if isinstance(layer, (LSTM, layers.LSTM)) else "vanilla_rnn"
    steps = ORACLES[kind](x[:, order], *weights, *states, mask=None if mask is None else mask[:, order])
    return {symbol: values[:, order] for symbol, values in steps.items()}


def assert_agrees(traced, expected):
    for symbol in traced.symbols:
        np.testing.assert_allclose(getattr(traced, symbol), expected[symbol], err_msg=symbol, **TOLERANCE)


class Subclassed(keras.Model):
    def __init__(self, layer):
        super().__init__()
        self.memory = layer
        self.head = layers.Dense(1)

    def call(self, x):
        return self.head(self.memory(x))


def small(*inner):
    return keras.Sequential([keras.Input((TIMESTEPS, FEATURES)), *inner])
