"""Files of weights move both ways between our layers and Keras', wherever in a model they are."""

import keras
import numpy as np
import pytest

import keras_lstm_custom as klc

OURS = {"LSTM": klc.LSTM, "RNN": klc.VanillaRNN, "cells": (klc.LSTMCell, klc.VanillaRNNCell)}
KERAS = {
    "LSTM": keras.layers.LSTM,
    "RNN": keras.layers.SimpleRNN,
    "cells": (keras.layers.LSTMCell, keras.layers.SimpleRNNCell),
}
#: What no test may pass by mistake: two kinds of layers, each twice, of the same sizes, and a mixture of both packages.
MIXED = {"LSTM": klc.LSTM, "RNN": keras.layers.SimpleRNN, "cells": (keras.layers.LSTMCell, klc.VanillaRNNCell)}
X = np.random.default_rng(2).normal(size=(3, 4, 2)).astype("float32")


def network(layers):
    inputs = keras.Input(X.shape[1:])
    x = layers["RNN"](5, return_sequences=True)(inputs)
    x = keras.layers.Bidirectional(layers["RNN"](5, return_sequences=True))(x)
    x = layers["RNN"](5, return_sequences=True)(x)
    x = keras.layers.RNN([cell(3) for cell in (*layers["cells"], *layers["cells"])], return_sequences=True)(x)
    x = layers["LSTM"](4, return_sequences=True)(x)
    return keras.Model(inputs, layers["LSTM"](4)(x))


@pytest.mark.parametrize("saved", [OURS, KERAS, MIXED], ids=["ours", "keras", "mixed"])
@pytest.mark.parametrize("loaded", [OURS, KERAS, MIXED], ids=["ours", "keras", "mixed"])
def test_weights_files(saved, loaded, tmp_path):
    source, target = network(saved), network(loaded)
    source.save_weights(tmp_path / "a.weights.h5")
    target.load_weights(tmp_path / "a.weights.h5")
    for a, b in zip(target.get_weights(), source.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    to_numpy = keras.ops.convert_to_numpy
    np.testing.assert_allclose(to_numpy(target(X)), to_numpy(source(X)), atol=2e-6)


def test_a_checkpoint_of_fit_loads_into_keras(tmp_path):
    models = [keras.Sequential([keras.Input(X.shape[1:]), layers["RNN"](4)]) for layers in (OURS, KERAS)]
    models[0].compile("sgd", "mse")
    path = str(tmp_path / "best.weights.h5")
    saver = keras.callbacks.ModelCheckpoint(path, save_weights_only=True)
    models[0].fit(X, np.ones((3, 4)), verbose=0, callbacks=[saver])
    models[1].load_weights(path)
    to_numpy = keras.ops.convert_to_numpy
    np.testing.assert_allclose(to_numpy(models[1](X)), to_numpy(models[0](X)), atol=2e-6)


@pytest.mark.parametrize("layer_class", [klc.LSTM, klc.VanillaRNN])
def test_names_are_those_of_python_and_a_saved_model_is_still_ours(layer_class, tmp_path):
    keras.backend.clear_session()
    name = {"LSTM": "lstm", "VanillaRNN": "vanilla_rnn"}[layer_class.__qualname__]
    model = keras.Sequential([keras.Input(X.shape[1:]), layer_class(4, return_sequences=True), layer_class(4)])
    assert [layer.name for layer in model.layers] == [name, f"{name}_1"]
    assert layer_class.__qualname__ in repr(layer_class)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert [type(layer) for layer in loaded.layers] == [layer_class] * 2
    assert type(keras.models.clone_model(model).layers[0]) is layer_class
