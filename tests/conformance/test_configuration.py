"""Every option survives: get_config, JSON, from_config, cloning, and a saved file."""

import json

import keras
import numpy as np
import pytest

from tests.descriptors import BATCH, CELLS, FEATURES, LAYERS, TIMESTEPS, TWINS, UNITS, randomise

EVERY = pytest.mark.parametrize("row", LAYERS + CELLS, ids=lambda row: row.name)
LAYER = pytest.mark.parametrize("row", LAYERS, ids=lambda row: row.name)
TWIN = pytest.mark.parametrize("row", TWINS, ids=lambda row: row.name)
CELL = pytest.mark.parametrize("row", CELLS, ids=lambda row: row.name)
SHAPE = (BATCH, TIMESTEPS, FEATURES)


def value_of(layer, option):
    if option == "dtype":
        return layer.dtype_policy.name
    if option == "implementation":
        return getattr(layer, "cell", layer).implementation
    if option == "seed":
        return getattr(layer, "cell", layer).seed
    return getattr(layer, option)


def assert_has_options(layer, options):
    for name, expected in options.items():
        value = value_of(layer, name)
        if callable(value):  # an activation, initialiser, regulariser or constraint: compare what it serialises to
            module = {"activation": keras.activations, "initializer": keras.initializers}.get(name.split("_")[-1])
            module = module or {"regularizer": keras.regularizers, "constraint": keras.constraints}[name.split("_")[-1]]
            value, expected = module.serialize(value), module.serialize(module.get(expected))
        assert value == expected, name


@EVERY
def test_every_option_comes_back_through_json(row):
    first = row.build(**row.options)
    assert_has_options(first, row.options)
    text = json.dumps(keras.saving.serialize_keras_object(first))
    second = keras.saving.deserialize_keras_object(json.loads(text))
    assert type(second) is row.public_class
    assert_has_options(second, row.options)
    assert second.get_config() == first.get_config()
    assert json.dumps(keras.saving.serialize_keras_object(second)) == text


@EVERY
def test_default_options_come_back(row):
    first = row.build()
    second = row.public_class.from_config(json.loads(json.dumps(first.get_config())))
    assert second.get_config() == first.get_config()


@LAYER
def test_a_saved_model_keeps_every_option_and_every_number(row, rng, tmp_path):
    options = {**row.options, "dtype": "float32", "trainable": True}
    inputs = keras.Input(batch_shape=SHAPE)
    model = keras.Model(inputs, row.build(**options)(inputs))
    randomise(model, rng)
    x = rng.normal(size=SHAPE).astype("float32")
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert_has_options(loaded.layers[-1], options)
    for a, b in zip(loaded.predict(x, verbose=0), model.predict(x, verbose=0), strict=True):
        np.testing.assert_array_equal(a, b)


@CELL
def test_a_saved_model_with_a_cell_keeps_every_option(row, rng, tmp_path):
    options = {**row.options, "dtype": "float32"}
    model = keras.Sequential([keras.Input(SHAPE[1:]), keras.layers.RNN(row.build(**options))])
    x = rng.normal(size=SHAPE).astype("float32")
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert_has_options(loaded.layers[-1].cell, options)
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), model.predict(x, verbose=0))


def test_weights_alone_can_be_saved_and_go_to_keras(rng, tmp_path):
    """The LSTM only: Keras files weights under the class's name, and a VanillaRNN is no SimpleRNN."""
    row = LAYERS[0]
    mine = keras.Sequential([keras.Input(SHAPE[1:]), row.build()])
    theirs = keras.Sequential([keras.Input(SHAPE[1:]), row.keras_twin()])
    randomise(mine, rng)
    mine.save_weights(tmp_path / "m.weights.h5")
    theirs.load_weights(tmp_path / "m.weights.h5")
    x = rng.normal(size=SHAPE).astype("float32")
    np.testing.assert_allclose(theirs.predict(x, verbose=0), mine.predict(x, verbose=0), atol=1e-6)


@TWIN
def test_weights_have_the_names_shapes_and_paths_of_keras(row):
    mine, theirs = row.build(name="recurrent"), row.keras_twin(name="recurrent")
    for layer in (mine, theirs):
        layer.build(SHAPE)
    assert [(w.path, w.shape, w.dtype) for w in mine.weights] == [(w.path, w.shape, w.dtype) for w in theirs.weights]


@LAYER
def test_clone_model_keeps_every_option(row):
    inputs = keras.Input(batch_shape=SHAPE)
    options = {**row.options, "dtype": "float32"}
    model = keras.Model(inputs, row.build(**options)(inputs))
    clone = keras.models.clone_model(model)
    assert clone.layers[-1] is not model.layers[-1]
    assert_has_options(clone.layers[-1], options)


@TWIN
def test_initialisers_draw_what_keras_draws(row):
    options = {"kernel_initializer": keras.initializers.HeNormal(seed=3), "recurrent_initializer": "zeros"}
    mine, theirs = row.build(**options), row.keras_twin(**options)
    for layer in (mine, theirs):
        layer.build(SHAPE)
    for a, b in zip(mine.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@LAYER
def test_regularisers_and_constraints_act(row, rng):
    """(Keras' SimpleRNN takes an `activity_regularizer` and forgets it; ours applies it.)"""
    parts = ("regularizer", "constraint")
    layer = row.build(**{name: value for name, value in row.options.items() if name.endswith(parts)})
    layer.build(SHAPE)
    randomise(layer, rng)
    y = np.asarray(keras.ops.convert_to_numpy(layer(rng.normal(size=SHAPE).astype("float32"))))
    kernel, recurrent_kernel, bias = layer.get_weights()
    activity = keras.layers.Activation("linear", activity_regularizer=row.options["activity_regularizer"])
    activity(y)  # since Keras 3.14 it is divided by the batch size
    expected = [
        0.01 * np.sum(kernel**2),
        0.02 * np.sum(np.abs(recurrent_kernel)),
        0.03 * np.sum(np.abs(bias)) + 0.04 * np.sum(bias**2),
        *map(float, activity.losses),
    ]
    np.testing.assert_allclose(sorted(float(loss) for loss in layer.losses), sorted(expected), rtol=1e-5)
    constraints = [type(weight.constraint).__name__ for weight in layer.weights]
    assert constraints == ["MaxNorm", "UnitNorm", "NonNeg"]


def test_forget_bias_is_in_the_weights(rng):
    layer = LAYERS[0].build()
    layer.build(SHAPE)
    bias = np.asarray(layer.get_weights()[2])
    np.testing.assert_array_equal(bias, np.repeat([0, 1, 0, 0], UNITS))
