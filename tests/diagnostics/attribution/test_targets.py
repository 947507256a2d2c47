"""Which number of the output is explained."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_lstm_custom import attribute
from keras_lstm_custom.errors import ArgumentError
from tests.diagnostics.attribution.models import (
    FEATURES,
    STEPS,
    UNITS,
    assert_complete,
    predicted,
    randomised,
    slow_on_jax,
)


@slow_on_jax
def test_targets_name_one_value(rng, x):
    sequences = keras.Input((STEPS, FEATURES))
    h = layers.GRU(UNITS, return_sequences=True)(sequences)
    steps = layers.Dense(3, name="steps")(h)
    last = layers.Dense(2, name="last")(layers.LSTM(UNITS)(h))
    model = randomised(keras.Model(sequences, [steps, last]), rng)
    outputs = predicted(model, x)
    named = {
        ("steps", 2, 1): outputs[0][:, 2, 1],
        ("steps", -1, 0): outputs[0][:, -1, 0],
        ("last", 1): outputs[1][:, 1],
    }
    for target, expected in named.items():
        found = attribute(model, x, target=target)
        np.testing.assert_allclose(found.prediction, expected, rtol=1e-5)
        assert_complete(found)
    early = attribute(model, x, target=("steps", 2, 1))
    assert (early.values[:, 3:] == 0).all(), "a step cannot matter before it comes"
    classes = outputs[1].argmax(-1)
    found = attribute(model, x, target=("last", classes))
    np.testing.assert_allclose(found.prediction, outputs[1].max(-1), rtol=1e-5)


TARGETS = {
    "several outputs": (None, "several outputs"),
    "no such name": ("first", "no output called 'first'"),
    "no class": ("last", "2 values for each row"),
    "class too large": (("last", 2), "no value 2: that axis has 2"),
    "too few numbers": (("steps", 1), "2 numbers say which"),
    "no number": (("last", 0.5), "0.5 is not the number"),
    "class of a row too large": (("last", np.array([0, 1, 7])), "row 2 asks for number 7"),
    "classes of too few rows": (("last", np.array([0, 1])), r"shape \(3,\)"),
}


@slow_on_jax
@pytest.mark.parametrize(("target", "says"), TARGETS.values(), ids=TARGETS)
def test_targets_that_do_not_exist(target, says, x):
    sequences = keras.Input((STEPS, FEATURES))
    h = layers.GRU(UNITS, return_sequences=True)(sequences)
    model = keras.Model(sequences, [layers.Dense(3, name="steps")(h), layers.Dense(2, name="last")(h[:, -1])])
    with pytest.raises(ArgumentError, match=rf"(?s){says}.*'steps' with values \(batch, 5, 3\), 'last' with"):
        attribute(model, x, target=target)
