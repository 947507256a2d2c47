"""What the tests of `attribute` share: sizes, models, and that the parts make the whole."""

import keras
import numpy as np
import pytest
from keras import layers, ops, tree

BATCH, STEPS, FEATURES, UNITS = 3, 5, 2, 4
#: JAX compiles each call of `attribute` for several seconds; what is left passes there, too.
slow_on_jax = pytest.mark.skipif(
    keras.backend.backend() == "jax", reason="compiles for minutes; runs under TensorFlow and torch"
)


def randomised(model, rng, scale=0.6):
    """Give every weight a random value, so that no bias is zero and no gate like another."""
    model.set_weights([rng.normal(scale=scale, size=w.shape) for w in model.get_weights()])
    return model


def sequential(*parts, shape=(STEPS, FEATURES), **options):
    return keras.Sequential([keras.Input(shape, **options), *parts])


def predicted(model, x):
    """Return what `model.predict` gives, without compiling it first."""
    outputs = model(tree.map_structure(ops.convert_to_tensor, x), training=False)
    return tree.map_structure(ops.convert_to_numpy, outputs)


def assert_complete(found, tolerance=1e-3):
    np.testing.assert_allclose(found.total, found.prediction - found.reference, atol=1e-5, rtol=tolerance)
    np.testing.assert_allclose(found.gap, found.total - found.delta)


def token_model(rng):
    embedding = layers.Embedding(9, 3, mask_zero=True)
    inner = keras.Sequential([keras.Input((None,)), embedding, layers.LSTM(UNITS)], name="encoder")
    tokens = keras.Input((STEPS,), dtype="int32")
    return randomised(keras.Model(tokens, layers.Dense(1)(inner(tokens))), rng), embedding
