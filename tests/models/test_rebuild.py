"""A converted model is the same model: what its layers keep beside weights.

Nothing here is registered with Keras, since what is live in the process needs no registration.
"""

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_lstm_custom import LSTM, from_keras, to_keras
from keras_lstm_custom.errors import ConversionError
from keras_lstm_custom.models.rebuild import plain_graph
from tests.models.copies import FACTOR, FEATURES, TIMESTEPS, assert_trains_on, half_tanh, network, output, trained


def _normalisation(x):
    layer = layers.Normalization()
    layer.adapt(x)
    return layer


class Table(layers.Layer):
    """Keeps what is no variable, and saves it in its own way."""

    def __init__(self, scale, **options):
        super().__init__(**options)
        self.scale, self.table = scale, np.zeros(FEATURES, "float32")

    def call(self, x):
        return x * self.scale + self.table

    def save_own_variables(self, store):
        store["table"] = self.table

    def load_own_variables(self, store):
        self.table = np.array(store["table"])

    def get_config(self):
        return {**super().get_config(), "scale": self.scale}


def _table(x):
    layer = Table(0.01)
    layer.table = np.arange(FEATURES, dtype="float32")
    return layer


class Twin(layers.Layer):
    """Another class of the name of one below."""

    def call(self, x):
        return x * 0.05


OTHER_TWIN = Twin


class Twin(layers.Layer):
    def call(self, x):
        return x + 1.0


@pytest.mark.parametrize(
    "before",
    [
        lambda x: [_normalisation(x)],
        lambda x: [layers.TimeDistributed(_normalisation(x.reshape(-1, FEATURES)))],
        lambda x: [keras.Sequential([keras.Input(x.shape[1:]), _normalisation(x), layers.Dense(3)], name="inner")],
        lambda x: [layers.Lambda(lambda v: v * FACTOR / 5)],
        lambda x: [layers.TimeDistributed(layers.Lambda(lambda v: v * FACTOR / 5))],
        lambda x: [OTHER_TWIN(), Twin()],
        lambda x: [_table(x)],
        lambda x: [layers.Rescaling(0.05), layers.Dense(3, activation=half_tanh)],
        lambda x: [layers.Rescaling(0.05), layers.Dense(3, activation=lambda v: v * FACTOR)],
        # Under torch, a Dropout without a seed draws from torch's own generator, whatever state it keeps.
        lambda x: [layers.Rescaling(0.05), layers.Dropout(0.3, seed=1), layers.GaussianNoise(0.1)],
        lambda x: [layers.Rescaling(0.05), layers.BatchNormalization()],
    ],
    ids=[
        *("normalization", "in a wrapper", "in a model", "lambda", "lambda in a wrapper", "one name, two classes"),
        *("own saving", "own activation", "lambda as activation", "seeds", "moving averages"),
    ],
)
def test_layers_around_keep_what_they_hold(before, x, y):
    model = trained(network(*before(x)), x, y, keras.optimizers.SGD(0.05))
    assert np.std(output(model, x)) > 1e-3
    copy = from_keras(model)
    np.testing.assert_allclose(output(copy, x), output(model, x), atol=1e-6)
    np.testing.assert_allclose(output(to_keras(copy), x), output(model, x), atol=1e-6)
    assert_trains_on(model, x, y)


@pytest.mark.tensorflow
def test_vocabularies_come_along():
    text = np.array(["a b c", "c d", "e a b", "x"])
    vectorise = layers.TextVectorization(max_tokens=20, output_sequence_length=4)
    vectorise.adapt(text)
    letters = layers.StringLookup()
    letters.adapt(np.array(list("abcde")))
    words = keras.Sequential([keras.Input((), dtype="string"), vectorise, layers.Embedding(20, 3), layers.LSTM(4)])
    characters = keras.Sequential(
        [keras.Input((3,), dtype="string"), letters, layers.Embedding(9, 3, mask_zero=True), layers.LSTM(4)]
    )
    import tensorflow as tf

    for model, x in [(words, tf.constant(text)), (characters, tf.constant([list("abc"), list("eez")]))]:
        expected = output(model, x)
        assert np.std(expected) > 1e-4
        np.testing.assert_allclose(output(from_keras(model), x), expected, atol=1e-6)


def test_own_functions_inside_the_recurrent_layer(x, y):
    class Constant(keras.initializers.Initializer):
        def __init__(self, value):
            self.value = value

        def __call__(self, shape, dtype=None):
            return ops.full(shape, self.value, dtype)

        def get_config(self):
            return {"value": self.value}

    class Small(keras.constraints.Constraint):
        def __call__(self, w):
            return ops.clip(w, -0.2, 0.2)

    options = {
        "activation": half_tanh,
        "recurrent_activation": lambda z: 0.9 * ops.sigmoid(z),
        "kernel_initializer": Constant(0.1),
        "bias_constraint": Small(),
    }
    model = trained(network(layers.Rescaling(0.05), **options), x, y)
    copy = assert_trains_on(model, x, y)
    assert copy.get_layer("memory").cell.activation is half_tanh
    assert type(to_keras(copy).get_layer("memory")) is layers.LSTM


def test_flags_of_layers_cells_and_single_weights_are_kept(x, y):
    def freeze_cell(model):
        model.get_layer("memory").cell.trainable = False

    def freeze_weight(model):
        model.get_layer("memory").cell.recurrent_kernel.trainable = False

    def freeze_model(model):
        model.trainable = False

    for freeze in (freeze_cell, freeze_weight, freeze_model):
        model = network()
        freeze(model)
        copy = from_keras(model)
        assert copy.trainable is model.trainable
        assert [v.trainable for v in copy.variables] == [v.trainable for v in model.variables]
        assert len(copy.trainable_variables) == len(model.trainable_variables)


def test_a_layer_frozen_after_training_stays_frozen(x, y):
    model = trained(network(layers.Rescaling(0.05)), x, y, "adam")
    model.get_layer("memory").trainable = False
    copy = from_keras(model)
    assert len(copy.trainable_variables) == 2
    assert len(copy.optimizer.variables) == len(model.optimizer.variables)
    kept = copy.get_layer("memory").get_weights()
    copy.compile("adam", "mse")
    copy.fit(x, y, verbose=0)
    for now, before in zip(copy.get_layer("memory").get_weights(), kept, strict=True):
        np.testing.assert_array_equal(now, before)


@pytest.mark.parametrize("mode", ["lora", "int8", "float8"])
def test_layers_that_were_changed_after_they_were_made(mode, x):
    model = network(layers.Rescaling(0.05), layers.Dense(3, name="dense"))
    if mode == "lora":
        model.get_layer("dense").enable_lora(2)
        weights = model.get_layer("dense").lora_kernel_b
        weights.assign(ops.ones(weights.shape))
    else:
        model.quantize(mode)
    copy = from_keras(model)
    np.testing.assert_allclose(output(copy, x), output(model, x), atol=1e-5)
    assert len(copy.trainable_variables) == len(model.trainable_variables)


class MakesItsLayers(keras.Model):
    def __init__(self, units):
        inputs = keras.Input((TIMESTEPS, FEATURES))
        super().__init__(inputs, layers.LSTM(units, name="memory")(inputs))


class OwnStep(keras.Model):
    def train_step(self, data):
        return {**super().train_step(data), "own": 1.0}


def test_functional_subclasses(x):
    model = MakesItsLayers(4)
    with pytest.raises(ConversionError, match=r"Convert its graph, keras.Model\(model.inputs, model.outputs\)"):
        from_keras(model)
    copy = from_keras(plain_graph(model))
    assert type(copy.get_layer("memory")) is LSTM
    np.testing.assert_allclose(output(copy, x), output(model, x), atol=1e-6)

    inputs = keras.Input((TIMESTEPS, FEATURES))
    assert type(from_keras(OwnStep(inputs, layers.LSTM(4)(inputs)))) is OwnStep


class Block(layers.Layer):
    def __init__(self, **options):
        super().__init__(**options)
        self.parts = {"memory": layers.LSTM(FEATURES, return_sequences=True), "scale": [layers.Dense(FEATURES)]}

    def build(self, shape):
        self.parts["memory"].build(shape)
        self.parts["scale"][0].build(shape)

    def call(self, x):
        return self.parts["scale"][0](self.parts["memory"](x))


def test_what_a_custom_layer_makes_itself_is_kept_and_named(x):
    model = network(Block(name="block"))
    with pytest.warns(UserWarning, match=r"Left as they are: 'block/lstm\w*' \(LSTM\)\."):
        copy = from_keras(model)
    np.testing.assert_allclose(output(copy, x), output(model, x), atol=1e-6)


class NoConfig(layers.Layer):
    def __init__(self, function):
        super().__init__(name="the_one_at_fault")
        self.function = function

    def call(self, x):
        return self.function(x)


class Grows(layers.Layer):
    def __init__(self, grown=False, **options):
        super().__init__(**options)
        self.grown = grown

    def build(self, shape):
        self.add_weight(shape=(1,), name="a")
        if self.grown:
            self.add_weight(shape=(1,), name="b")

    def call(self, x):
        return x

    def get_config(self):
        return super().get_config()  # forgets `grown`


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (lambda: NoConfig(ops.tanh), "The layer 'inner/the_one_at_fault' (NoConfig) cannot be made again"),
        (lambda: Grows(True, name="growing"), "growing' (Grows) cannot take over its state"),
    ],
)
def test_an_error_begins_with_the_layer_at_fault(layer, words):
    model = network(keras.Sequential([keras.Input((TIMESTEPS, FEATURES)), layer()], name="inner"))
    with pytest.raises(ConversionError) as caught:
        from_keras(model)
    first, *rest = str(caught.value).splitlines()
    assert words in first
    assert len(rest) == 3
