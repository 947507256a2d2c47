"""Small models that are trained, and what a copy must keep of them."""

import warnings

import keras
import numpy as np
from keras import layers, ops

from keras_lstm_custom import LSTM, from_keras

BATCH, TIMESTEPS, FEATURES = 8, 5, 3
FACTOR = 0.25


def network(*before, **options):
    shape = (TIMESTEPS, FEATURES)
    return keras.Sequential([keras.Input(shape), *before, layers.LSTM(4, name="memory", **options), layers.Dense(2)])


def trained(model, x, y, optimizer="sgd", loss="mse", **options):
    """Return the model after an epoch, eagerly: a few steps are quicker so than traced."""
    model.compile(optimizer, loss, **{"run_eagerly": True, **options})
    model.fit(x, y, batch_size=4, shuffle=False, verbose=0)
    return model


def output(model, x):
    return ops.convert_to_numpy(model(x, training=False))


def values(model):
    return {f"{k}/{w.name}": ops.convert_to_numpy(w) for k, la in enumerate(model.layers) for w in la.weights}


def assert_trains_on(model, x, y, tolerance=1e-4):
    """The copy does the same next steps, and its source does not see them."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        copy = from_keras(model)
    assert type(copy.get_layer("memory")) is LSTM
    before = values(model)
    copy.fit(x, y, batch_size=4, shuffle=False, verbose=0, epochs=2)
    for name, value in values(model).items():
        np.testing.assert_array_equal(value, before[name], err_msg=f"training the copy changed {name}")
    model.fit(x, y, batch_size=4, shuffle=False, verbose=0, epochs=2)
    after = values(copy)
    assert any(np.abs(value - before[name]).max() > 10 * tolerance for name, value in values(model).items())
    for name, value in values(model).items():
        np.testing.assert_allclose(after[name], value, atol=tolerance, rtol=tolerance, err_msg=name)
    return copy


def half_tanh(x):
    return 0.5 * ops.tanh(x)


class OwnSGD(keras.optimizers.SGD):
    pass


def own_loss(truth, prediction):
    return ops.mean((truth - prediction) ** 2) + 1.0
