"""Dropout: Keras' masks, one for each call, the same at every step."""

import keras
import numpy as np
import pytest
from keras import ops

from tests.descriptors import BATCH, FEATURES, LAYERS, TIMESTEPS, TWINS, UNITS, randomise

ROWS = pytest.mark.parametrize("row", LAYERS, ids=lambda row: row.name)
WITH_TWIN = pytest.mark.parametrize("row", TWINS, ids=lambda row: row.name)
SHAPE = (BATCH, TIMESTEPS, FEATURES)


@pytest.mark.parametrize(
    "options",
    [
        {"dropout": 0.5},
        {"dropout": 0.5, "implementation": 1},
        {"recurrent_dropout": 0.5},
        {"dropout": 0.3, "recurrent_dropout": 0.3},
    ],
    ids=str,
)
@WITH_TWIN
def test_draws_the_masks_that_keras_draws(row, rng, options):
    if not set(options) <= set(row.options):
        pytest.skip("SimpleRNN has no `implementation`")
    layers = [build(seed=4, return_sequences=True, **options) for build in (row.build, row.keras_twin)]
    for layer in layers:
        layer.build(SHAPE)
    randomise(layers[0], rng)
    layers[1].set_weights(layers[0].get_weights())
    x = rng.normal(size=SHAPE).astype("float32")
    drawn = []
    for _ in range(2):
        mine, theirs = (ops.convert_to_numpy(layer(x, training=True)) for layer in layers)
        np.testing.assert_allclose(mine, theirs, atol=2e-6)
        drawn.append(mine)
    assert np.abs(drawn[0] - drawn[1]).max() > 1e-3, "every call draws masks of its own"


@ROWS
def test_outside_training_nothing_is_dropped(row, rng):
    layer, plain = row.build(dropout=0.5, recurrent_dropout=0.5), row.build()
    x = rng.normal(size=SHAPE).astype("float32")
    plain.build(SHAPE)
    layer.build(SHAPE)
    layer.set_weights(plain.get_weights())
    for options in ({}, {"training": False}):
        np.testing.assert_array_equal(*(ops.convert_to_numpy(each(x, **options)) for each in (layer, plain)))


def test_the_mask_is_the_same_at_every_step():
    """With a recurrent kernel of zeros and the same input at every step, every output is the same."""
    layer = LAYERS[1].build(dropout=0.5, return_sequences=True, recurrent_initializer="zeros", seed=1)
    y = ops.convert_to_numpy(layer(np.ones((7, TIMESTEPS, FEATURES), "float32"), training=True))
    np.testing.assert_array_equal(y, np.repeat(y[:, :1], TIMESTEPS, axis=1))
    assert len(np.unique(y[:, 0], axis=0)) > 1, "rows have masks of their own"


@ROWS
def test_dropout_survives_a_call_that_failed(row, rng):
    """A mask drawn for a call that raised is not used by the next call."""
    layer = row.build(dropout=0.5, seed=2)
    with pytest.raises(ValueError):  # noqa: PT011 (any of the layer's)
        layer(np.zeros((5, TIMESTEPS, FEATURES), "float32"), mask=np.ones((1, 1), bool), training=True)
    assert layer(rng.normal(size=SHAPE), training=True).shape == (BATCH, UNITS)


@WITH_TWIN
def test_cells_in_keras_rnn_draw_the_masks_of_keras_cells(row, rng):
    mine, theirs = (
        keras.layers.RNN([cls(UNITS, dropout=0.4, recurrent_dropout=0.4, seed=5), cls(3, dropout=0.4, seed=6)])
        for cls in (row.public_class.cell_class, row.public_class.cell_class.keras_class)
    )
    for layer in (mine, theirs):
        layer.build(SHAPE)
    mine.set_weights(theirs.get_weights())
    x = rng.normal(size=SHAPE).astype("float32")
    np.testing.assert_allclose(*(ops.convert_to_numpy(layer(x, training=True)) for layer in (mine, theirs)), atol=2e-6)
