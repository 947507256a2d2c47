"""Baselines, methods and inputs that `attribute` refuses."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_lstm_custom import attribute
from keras_lstm_custom.errors import ArgumentError, InputError
from tests.diagnostics.attribution.models import FEATURES, STEPS, UNITS, sequential, slow_on_jax, token_model

BASELINES = {
    "features": (np.zeros(3), r"shape \(3,\)"),
    "steps": (np.zeros((STEPS + 1, FEATURES)), r"\(5, 2\) for one row.*shape \(6, 2\)"),
    "no rows": (np.zeros((0, STEPS, FEATURES)), r"shape \(0, 5, 2\)"),
    "word": ("median", "'zeros', 'mean'"),
    "nan": (np.full(FEATURES, np.nan), "10 of 10"),
}


@slow_on_jax
@pytest.mark.parametrize(("baseline", "says"), BASELINES.values(), ids=BASELINES)
def test_baselines_that_do_not_fit(baseline, says, x):
    with pytest.raises((InputError, ArgumentError), match=f"(?s){says}"):
        attribute(sequential(layers.LSTM(UNITS), layers.Dense(1)), x, baseline=baseline)


@slow_on_jax
def test_other_bad_input(rng, x, ids):
    plain = sequential(layers.LSTM(UNITS), layers.Dense(1))
    with pytest.raises(ArgumentError, match=r"(?s)'integrated_gradients', 'occlusion'.*'gradient'"):
        attribute(plain, x, method="gradient")
    with pytest.raises(InputError, match="not finite"):
        attribute(plain, np.where(x == x[0, 0, 0], np.nan, x))
    with pytest.raises(ArgumentError, match=r"(?s)keras\.Model.*GRU"):
        attribute(layers.GRU(2), x)
    with pytest.raises(ArgumentError, match="tolerance=2"):
        attribute(plain, x, tolerance=2)
    tokens = keras.Input((STEPS,), dtype="int32")
    one_hot = keras.Model(tokens, layers.Dense(1)(layers.LSTM(UNITS)(ops.one_hot(tokens, 9))))
    with pytest.raises(
        InputError, match=r"(?s)int32.*no Embedding reads it.*shape \(3, 5\); the model has no Embedding"
    ):
        attribute(one_hot, ids)
    model, _ = token_model(rng)
    with pytest.raises(InputError, match=r"(?s)token numbers.*from 0\.5"):
        attribute(model, ids, baseline=np.full(STEPS, 0.5))
