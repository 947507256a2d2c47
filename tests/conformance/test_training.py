"""`model.fit`: with and without compilation, with a ragged last batch, in every kind of model."""

import keras
import numpy as np
import pytest

from keras_lstm_custom import LSTM, VanillaRNN
from tests.descriptors import BATCH, FEATURES, LAYERS, NOT_ON_JAX, TIMESTEPS, TWINS, UNITS

ROWS = pytest.mark.parametrize("row", LAYERS, ids=lambda row: row.name)
WITH_TWIN = pytest.mark.parametrize("row", TWINS, ids=lambda row: row.name)


def sequential(layer):
    return keras.Sequential([keras.Input((TIMESTEPS, FEATURES)), layer, keras.layers.Dense(1)])


def fit(model, rng, rows=8, epochs=2, **options):
    """Train in batches of four; each size of batches is a graph of its own, which takes seconds to build."""
    model.compile(keras.optimizers.Adam(0.01), "mse", **options)
    x, y = rng.normal(size=(rows, TIMESTEPS, FEATURES)).astype("float32"), rng.normal(size=(rows, 1)).astype("float32")
    return model.fit(x, y, batch_size=4, epochs=epochs, shuffle=False, verbose=0).history["loss"]


@pytest.mark.tensorflow
@pytest.mark.parametrize("jit_compile", [False, True])  # Keras' "auto" is one of these
@WITH_TWIN
def test_fit_gives_the_losses_of_keras_layers(row, jit_compile):
    """Eleven rows in batches of four: the last batch is smaller."""
    losses = []
    for build, jit in ((row.build, jit_compile), (row.keras_twin, False)):
        keras.utils.set_random_seed(3)
        model = sequential(build(return_sequences=True))
        losses.append(fit(model, np.random.default_rng(5), rows=11, jit_compile=jit))
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)


@ROWS
def test_fit_on_every_backend(row, rng):
    losses = fit(sequential(row.build(dropout=0.1, recurrent_dropout=0.1)), rng, epochs=8)
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]


@ROWS
def test_masks_from_an_embedding_and_padding(row):
    """Padding tokens at the end change nothing, in predict as in a call."""
    model = keras.Sequential([keras.Input((None,)), keras.layers.Embedding(9, 3, mask_zero=True), row.build()])
    tokens = np.array([[3, 1, 4], [1, 5, 0]])
    padded = np.concatenate([tokens, np.zeros((2, 2), int)], axis=1)
    np.testing.assert_allclose(model.predict(padded, verbose=0), model.predict(tokens, verbose=0), atol=1e-6)


@ROWS
def test_in_a_subclassed_model(row, rng):
    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.recurrent = row.build(return_state=True)
            self.head = keras.layers.Dense(1)

        def call(self, x, training=False):
            output, *_ = self.recurrent(x, training=training)
            return self.head(output)

    assert np.isfinite(fit(Model(), rng)).all()


def test_stack_with_states_handed_over(rng):
    """An encoder's final state starts a decoder; gradients go through both."""
    source, target = keras.Input((None, FEATURES)), keras.Input((TIMESTEPS, FEATURES))
    _, *states = LSTM(UNITS, return_state=True)(source)
    decoded = LSTM(UNITS, return_sequences=True)(target, initial_state=states)
    pooled = VanillaRNN(3)(decoded, initial_state=keras.layers.Dense(3)(states[0]))
    model = keras.Model([source, target], pooled)
    model.compile("sgd", "mse", jit_compile=False)
    x = [rng.normal(size=(BATCH, 6, FEATURES)), rng.normal(size=(BATCH, TIMESTEPS, FEATURES))]
    before = model.get_weights()
    model.fit(x, rng.normal(size=(BATCH, 3)), verbose=0)
    assert all((a != b).any() for a, b in zip(before, model.get_weights(), strict=True))


@NOT_ON_JAX
@WITH_TWIN
def test_stateful_fit_carries_the_state_from_batch_to_batch(row, rng):
    layers = [row.build(stateful=True), row.keras_twin(stateful=True)]
    layers[1].build((BATCH, TIMESTEPS, FEATURES))
    x, y = rng.normal(size=(2 * BATCH, TIMESTEPS, FEATURES)), rng.normal(size=(2 * BATCH, UNITS))
    states = []
    for layer in layers:
        model = keras.Sequential([keras.Input(batch_shape=(BATCH, TIMESTEPS, FEATURES)), layer])
        layer.set_weights(layers[1].get_weights()) if layer is layers[0] else None
        model.compile("sgd", "mse", jit_compile=False)
        weights = layers[1].get_weights()
        model.fit(x, y, batch_size=BATCH, epochs=2, shuffle=False, verbose=0)
        states.append([np.asarray(keras.ops.convert_to_numpy(s)) for s in layer.states])
        layers[1].set_weights(weights) if layer is layers[0] else None
    for a, b in zip(*states, strict=True):
        assert np.abs(a).max() > 0
        np.testing.assert_allclose(a, b, atol=1e-5)
