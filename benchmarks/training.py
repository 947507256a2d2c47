"""Whole models for `speed.py`, by `model.fit`: with the layers of Keras and, by `from_keras`, with ours."""

from __future__ import annotations

import layers

BATCH = 32
#: Name, and the shape of one sequence.
MODELS = {"LSTM(128) x 2": (100, 32), "Masking, Bidirectional(LSTM(32)) with dropout, LSTM(32)": (48, 8)}
CANDIDATES = ["keras", "auto"]


def tensorflow():
    """`model.fit` for one epoch with Keras' own settings."""
    import keras
    import numpy as np
    import tensorflow as tf

    import keras_lstm_custom as klc

    K = keras.layers

    def stacked():
        return [K.LSTM(128, return_sequences=True), K.LSTM(128)]

    def masked():
        both = K.Bidirectional(K.LSTM(32, return_sequences=True, dropout=0.2))
        return [K.Masking(), both, K.LSTM(32, dropout=0.2, recurrent_dropout=0.1)]

    def candidates(model, batches):
        recurrent = dict(zip(MODELS, (stacked, masked), strict=True))[model]
        random = np.random.default_rng(0)
        x = random.normal(size=(BATCH * batches, *MODELS[model])).astype("float32")
        for row, length in zip(x, random.integers(x.shape[1] // 2, x.shape[1], size=len(x)), strict=True):
            row[length:] = 0  # padding, for the model that masks it
        y = x[:, : x.shape[1] // 2].mean((1, 2))[:, None]
        made = {}
        for name in CANDIDATES:
            keras.utils.set_random_seed(0)
            network = keras.Sequential([keras.Input(x.shape[1:]), *recurrent(), K.Dense(1)])
            network = network if name == "keras" else klc.from_keras(network)
            network.compile("adam", "mse")

            def epoch(network=network):
                network.fit(x, y, batch_size=BATCH, epochs=1, verbose=0)

            epoch.note = lambda network=network: _engines(network)
            made[name] = epoch
        return made

    return candidates, layers.tensorflow_product(tf)


def _engines(network) -> list[str]:
    """Return which engines ran; none for Keras' layers."""
    found = []
    for layer in network.layers:
        for part in (layer, getattr(layer, "forward_layer", None), getattr(layer, "backward_layer", None)):
            found += [part.last_engine] if getattr(part, "last_engine", None) else []
    return found
