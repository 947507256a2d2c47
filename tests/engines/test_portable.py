"""The portable engine in TensorFlow's own ways: compilation, SavedModel, distribution. The rest is in `test_fast`."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import keras_lstm_custom as klc

pytestmark = pytest.mark.tensorflow

X = np.random.default_rng(3).normal(size=(6, 7, 3)).astype("float32")
Y = np.random.default_rng(4).normal(size=(6, 1)).astype("float32")


def models(seed=1, **options):
    """The same model on the portable and on the reference engine."""
    for engine in ("portable", "reference"):
        keras.utils.set_random_seed(seed)
        yield keras.Sequential(
            [
                keras.Input((7, 3)),
                keras.layers.Masking(),
                keras.layers.Bidirectional(klc.LSTM(4, return_sequences=True, engine=engine, seed=5, **options)),
                klc.VanillaRNN(3, engine=engine, seed=6),
                keras.layers.Dense(1),
            ]
        )


def test_fit_compiled_as_a_whole_learns_the_same_weights():
    x = X.copy()
    x[2, 4:] = 0
    trained = []
    for model in models():
        model.compile("sgd", "mse", jit_compile=True)
        model.fit(x, Y, epochs=2, batch_size=4, shuffle=False, verbose=0)  # a last batch of two rows
        trained.append(model.get_weights())
    for ours, reference in zip(*trained, strict=True):
        np.testing.assert_allclose(ours, reference, atol=1e-5)


def test_saved_model_without_the_package(tmp_path):
    """What is saved holds TensorFlow's own operations only."""
    import tensorflow as tf

    model, _ = models()
    model.export(str(tmp_path), verbose=False)
    loaded = tf.saved_model.load(str(tmp_path))
    np.testing.assert_allclose(loaded.serve(X), model.predict(X, verbose=0), atol=1e-6)


def test_distributed_training():
    import tensorflow as tf

    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    with strategy.scope():
        model, _ = models()
        model.compile("sgd", "mse")
    history = model.fit(X, Y, epochs=2, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
