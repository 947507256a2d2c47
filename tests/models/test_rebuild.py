"""A converted model is the same model: what layers keep beside weights, and how training goes on.

Nothing here is registered with Keras, since what is live in the process needs no registration.
"""

import warnings

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_lstm_custom import LSTM, from_keras, to_keras
from keras_lstm_custom.errors import ConversionError
from keras_lstm_custom.models.rebuild import plain_graph, rebuild

BATCH, TIMESTEPS, FEATURES = 8, 5, 3
FACTOR = 0.25


@pytest.fixture
def x(rng):
    return rng.normal(20, 5, size=(BATCH, TIMESTEPS, FEATURES)).astype("float32")


@pytest.fixture
def y(rng):
    return rng.normal(size=(BATCH, 2)).astype("float32")


def network(*before, **options):
    shape = (TIMESTEPS, FEATURES)
    return keras.Sequential([keras.Input(shape), *before, layers.LSTM(4, name="memory", **options), layers.Dense(2)])


def trained(model, x, y, optimizer="sgd", loss="mse", **options):
    """Return the model after an epoch, eagerly: a few steps are quicker so than traced."""
    model.compile(optimizer, loss, **{"run_eagerly": True, **options})
    model.fit(x, y, batch_size=4, shuffle=False, verbose=0)
    return model


def output(model, x):
    return ops.convert_to_numpy(model(x, training=False))


def values(model):
    return {f"{k}/{w.name}": ops.convert_to_numpy(w) for k, la in enumerate(model.layers) for w in la.weights}


def assert_trains_on(model, x, y, tolerance=1e-4):
    """The copy does the same next steps, and its source does not see them."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        copy = from_keras(model)
    assert type(copy.get_layer("memory")) is LSTM
    before = values(model)
    copy.fit(x, y, batch_size=4, shuffle=False, verbose=0, epochs=2)
    for name, value in values(model).items():
        np.testing.assert_array_equal(value, before[name], err_msg=f"training the copy changed {name}")
    model.fit(x, y, batch_size=4, shuffle=False, verbose=0, epochs=2)
    after = values(copy)
    assert any(np.abs(value - before[name]).max() > 10 * tolerance for name, value in values(model).items())
    for name, value in values(model).items():
        np.testing.assert_allclose(after[name], value, atol=tolerance, rtol=tolerance, err_msg=name)
    return copy


def half_tanh(x):
    return 0.5 * ops.tanh(x)


class Slope(keras.optimizers.schedules.LearningRateSchedule):
    def __init__(self, start):
        self.start = start

    def __call__(self, step):
        return self.start / (1.0 + ops.cast(step, "float32"))

    def get_config(self):
        return {"start": self.start}


class OwnSGD(keras.optimizers.SGD):
    pass


def _excluded():
    optimizer = keras.optimizers.AdamW(0.05, weight_decay=0.5)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    return optimizer


@pytest.mark.parametrize(
    "make",
    [
        lambda: keras.optimizers.Adam(0.05),
        lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.05)),
        lambda: keras.optimizers.Adam(0.05, use_ema=True, ema_overwrite_frequency=3),
        lambda: keras.optimizers.SGD(0.05, momentum=0.9, gradient_accumulation_steps=3),
        lambda: keras.optimizers.SGD(Slope(0.1), clipnorm=0.5),
        lambda: OwnSGD(0.1),
        _excluded,
    ],
    ids=["adam", "loss scale", "ema", "accumulation", "own schedule", "own class", "no decay of biases"],
)
def test_the_optimizer_goes_on(make, x, y):
    model = trained(network(layers.Rescaling(0.05)), x, y, make())
    copy = assert_trains_on(model, x, y)
    assert type(copy.optimizer) is type(model.optimizer)
    assert int(copy.optimizer.iterations) == int(model.optimizer.iterations) > 0


def test_a_model_in_half_precision_keeps_its_loss_scale(x, y):
    keras.config.set_dtype_policy("mixed_float16")
    model = trained(network(layers.Rescaling(0.05)), x, y, "adam")
    copy = from_keras(model)
    assert type(copy.optimizer) is keras.optimizers.LossScaleOptimizer
    for ours, theirs in zip(copy.optimizer.variables, model.optimizer.variables, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(ours), ops.convert_to_numpy(theirs))


class OwnMean(keras.metrics.Mean):
    def update_state(self, truth, prediction, sample_weight=None):
        return super().update_state(ops.abs(truth - prediction))


def own_metric(truth, prediction):
    return ops.mean(truth - prediction)


def own_loss(truth, prediction):
    return ops.mean((truth - prediction) ** 2) + 1.0


@pytest.mark.parametrize("loss", [own_loss, keras.losses.Huber(0.1)], ids=["function", "Huber's delta"])
def test_losses_and_metrics_are_the_same_ones(loss, x, y):
    metrics = [OwnMean(name="own"), own_metric, "mae", keras.metrics.RootMeanSquaredError()]
    model = trained(network(), x, y, loss=loss, metrics=metrics, weighted_metrics=["mse"])
    copy = from_keras(model)
    assert copy.loss is model.loss
    results = [each.evaluate(x, y, verbose=0, return_dict=True) for each in (model, copy)]
    assert results[0].keys() == results[1].keys()
    np.testing.assert_allclose(list(results[1].values()), list(results[0].values()), rtol=1e-5)


def test_metrics_are_not_shared(x, y):
    model = trained(network(), x, y, metrics=[keras.metrics.MeanSquaredError(name="error")])
    copy = from_keras(model)
    held = [ops.convert_to_numpy(v) for metric in model.metrics for v in metric.variables]
    copy.evaluate(x[:2], y[:2], verbose=0)
    for kept, variable in zip(held, [v for metric in model.metrics for v in metric.variables], strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(variable), kept)


def test_loss_weights_of_several_outputs(x, y):
    inputs = keras.Input((TIMESTEPS, FEATURES))
    h = layers.LSTM(4, name="memory")(layers.Rescaling(0.05)(inputs))
    model = keras.Model(inputs, {"a": layers.Dense(2, name="a")(h), "b": layers.Dense(1, name="b")(h)})
    targets = {"a": y, "b": y[:, :1]}
    trained(model, x, targets, loss={"a": "mse", "b": "mae"}, loss_weights={"a": 0.1, "b": 3.0})
    assert_trains_on(model, x, targets)


def test_how_it_runs_is_kept(x, y):
    steps = 2 if keras.backend.backend() != "torch" else 1
    model = trained(network(layers.Rescaling(0.05)), x, y, run_eagerly=False, steps_per_execution=steps)
    copy = assert_trains_on(model, x, y)
    assert (copy.run_eagerly, copy.jit_compile, copy.steps_per_execution) == (False, model.jit_compile, steps)
    model.run_eagerly = True
    assert from_keras(model).run_eagerly


def test_what_cannot_be_compiled_again_is_told(x, y):
    class NeedsAnArgument(OwnMean):
        def __init__(self, needed):
            super().__init__()

    model = trained(network(), x, y, metrics=[NeedsAnArgument(1)])
    with pytest.warns(UserWarning, match="optimizer, loss and metrics could not be brought along"):
        copy = from_keras(model)
    np.testing.assert_allclose(output(copy, x), output(model, x), atol=1e-6)
    assert not copy.compiled


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
        lambda x: [layers.Rescaling(0.05), layers.Dropout(0.3), layers.GaussianNoise(0.1)],
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


def test_a_model_inside_another_keeps_how_it_was_compiled(x, y):
    inner = keras.Sequential([keras.Input(x.shape[1:]), layers.LSTM(3, name="memory")], name="inner")
    inner.compile("adam", own_loss)
    copy = from_keras(keras.Sequential([keras.Input(x.shape[1:]), inner, layers.Dense(2)]))
    assert copy.get_layer("inner").loss is own_loss


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


def test_rebuilding_needs_nothing_of_compile(x, y):
    def unserialisable(truth, prediction):
        raise AssertionError

    model = network()
    model.compile(OwnSGD(0.1), unserialisable)
    assert not rebuild(model).compiled
