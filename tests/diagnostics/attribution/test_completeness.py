"""The parts add up to the change of the output, on whatever way; where they do not, it is told."""

import warnings

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_lstm_custom import LSTM, VanillaRNN, attribute
from tests.diagnostics.attribution.models import (
    FEATURES,
    STEPS,
    UNITS,
    assert_complete,
    predicted,
    randomised,
    sequential,
    slow_on_jax,
)


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.memory, self.head = layers.GRU(UNITS), layers.Dense(1)

    def call(self, x):
        return self.head(self.memory(x))


def nested():
    inner = keras.Sequential([keras.Input((None, FEATURES)), layers.Masking(), layers.LSTM(5, return_sequences=True)])
    sequences = keras.Input((STEPS, FEATURES))
    both = layers.Bidirectional(layers.SimpleRNN(3))(inner(sequences))
    return keras.Model(sequences, layers.Dense(1, activation="sigmoid")(both))


MODELS = {
    "gru, every step": lambda: sequential(layers.GRU(UNITS, return_sequences=True), layers.Flatten(), layers.Dense(1)),
    "stack of cells": lambda: sequential(
        layers.RNN([layers.LSTMCell(3), layers.GRUCell(UNITS)], go_backwards=True), layers.Dense(1)
    ),
    "layers of Keras only": lambda: sequential(
        layers.Conv1D(4, 2, activation="gelu"), layers.LayerNormalization(), layers.GRU(UNITS), layers.Dense(1)
    ),
    "ours": lambda: sequential(LSTM(3, return_sequences=True), layers.Bidirectional(VanillaRNN(2)), layers.Dense(1)),
    "nested": nested,
    "subclassed": Subclassed,
}


@slow_on_jax
@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("baseline", [None, "mean"])
def test_sums_are_the_change_of_the_output(make, baseline, rng, x):
    model = make()
    model(x)
    randomised(model, rng)
    found = attribute(model, x, baseline=baseline)
    assert_complete(found)
    assert found.values.shape == x.shape
    np.testing.assert_allclose(found.prediction, predicted(model, x)[:, 0], rtol=1e-5, atol=1e-6)
    if baseline is None and make is not nested:  # without a mask, the baseline is what the model says
        np.testing.assert_allclose(found.reference, predicted(model, 0 * x)[:, 0], rtol=1e-5, atol=1e-6)
    assert np.abs(found.values).max() > 1e-3


@slow_on_jax
def test_the_way_is_cut_where_the_output_changes_abruptly(rng, x):
    smooth = randomised(sequential(layers.LSTM(UNITS), layers.Dense(1)), rng)
    end, start = predicted(smooth, x)[0, 0], predicted(smooth, 0 * x)[0, 0]
    switch = layers.Lambda(lambda z: ops.sigmoid(200 * (z - (start + end) / 2) / (end - start)))
    gate = sequential(smooth, switch)
    found = attribute(gate, x)
    assert_complete(found)
    assert found.points.max() > 16 >= found.points.min()
    with pytest.warns(UserWarning, match=r"\d of 3 rows do not add up .* after 16 points: in row \d the sum is .*gap"):
        few = attribute(gate, x, max_points=16)
    assert (few.points == 16).all()
    assert np.abs(few.gap).max() > 1e-3 * np.abs(few.delta).max()


@slow_on_jax
def test_a_slope_that_jumps_takes_some_more_points_and_no_warning(rng, x):
    """However short, the piece of the way around it is off by the same share of its length."""
    smooth = randomised(sequential(layers.LSTM(UNITS), layers.Dense(1)), rng)
    end, start = predicted(smooth, x)[0, 0], predicted(smooth, 0 * x)[0, 0]
    bent = sequential(smooth, layers.Lambda(lambda z: ops.relu((z - 0.7 * start - 0.3 * end) / (end - start))))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        found = attribute(bent, x[:1])
    assert_complete(found)
    assert 16 < found.points.max() < 800


@slow_on_jax
def test_what_has_no_gradient_is_told(rng, x):
    model = randomised(sequential(layers.Lambda(ops.round), layers.LSTM(UNITS), layers.Dense(1)), rng)
    with pytest.warns(UserWarning, match=r"3 of 3 rows .*no gradient"):
        attribute(model, x, max_points=64)
