"""`from_keras` and `to_keras`: the same graph, names, weights and training state, with the layers exchanged."""

import json
import re
import warnings

import keras
import numpy as np
import pytest
from keras import layers

from keras_lstm_custom import GRU, LSTM, GRUCell, LSTMCell, VanillaRNN, VanillaRNNCell, from_keras, to_keras
from keras_lstm_custom.errors import ConversionError
from keras_lstm_custom.models.masks import unrolled_differs
from keras_lstm_custom.models.walk import walk

BATCH, TIMESTEPS, FEATURES = 3, 4, 2
SHAPE = (BATCH, TIMESTEPS, FEATURES)
OURS = (GRU, GRUCell, LSTM, LSTMCell, VanillaRNN, VanillaRNNCell)
THEIRS = (layers.GRU, layers.GRUCell, layers.LSTM, layers.LSTMCell, layers.SimpleRNN, layers.SimpleRNNCell)


def sequential():
    return keras.Sequential(
        [
            keras.Input(SHAPE[1:]),
            layers.LSTM(4, return_sequences=True, activation="softsign", name="first"),
            layers.SimpleRNN(3, use_bias=False, go_backwards=True),
            layers.Dense(2),
        ],
        name="stack",
    )


def several_inputs_and_outputs():
    x, h, c = keras.Input(SHAPE[1:], name="x"), keras.Input((4,), name="h"), keras.Input((4,), name="c")
    y, *states = layers.LSTM(4, return_sequences=True, return_state=True)(x, initial_state=[h, c])
    return keras.Model([x, h, c], {"y": layers.GRU(2)(y), "states": states})


def gated():
    return keras.Sequential(
        [
            keras.Input(SHAPE[1:]),
            layers.Bidirectional(layers.GRU(4, return_sequences=True, reset_after=False)),
            layers.RNN([layers.GRUCell(3), layers.GRUCell(2, use_bias=False, reset_after=False)]),
        ]
    )


def shared():
    recurrent = layers.LSTM(4)
    a, b = keras.Input(SHAPE[1:]), keras.Input(SHAPE[1:])
    return keras.Model([a, b], layers.Subtract()([recurrent(a), recurrent(b)]))


def nested():
    inner = keras.Sequential([keras.Input(SHAPE[1:]), layers.SimpleRNN(3, return_sequences=True)], name="inner")
    x = keras.Input(SHAPE[1:])
    return keras.Model(x, layers.LSTM(2)(layers.Masking()(inner(x))))


def wrapped():
    per_window = keras.Sequential([keras.Input(SHAPE[1:]), layers.LSTM(3)])
    return keras.Sequential(
        [
            keras.Input((5, *SHAPE[1:])),
            layers.TimeDistributed(per_window),
            layers.Bidirectional(layers.LSTM(2, return_sequences=True)),
            layers.Bidirectional(
                layers.SimpleRNN(2, return_sequences=True),
                backward_layer=layers.LSTM(2, return_sequences=True, go_backwards=True),
            ),
            layers.RNN([layers.LSTMCell(3), layers.SimpleRNNCell(4)], return_sequences=True),
            layers.RNN(layers.LSTMCell(3)),
        ]
    )


MODELS = pytest.mark.parametrize("build", [sequential, several_inputs_and_outputs, gated, shared, nested, wrapped])


def random_inputs(model, rng):
    return [rng.normal(size=(BATCH, *x.shape[1:])).astype("float32") for x in model.inputs]


def predict(model, x):
    return keras.tree.flatten(model.predict(x, verbose=0))


def assert_same(these, those, atol=1e-6):
    for a, b in zip(these, those, strict=True):
        np.testing.assert_allclose(a, b, atol=atol)


def config_of(model):
    """Return the config as text, but for the numbers of a mask's operations, which Keras 3.10 counts on."""
    return re.sub(r'"(any|not_equal)_\d+"', r'"\1"', json.dumps(model.get_config()))


@MODELS
def test_there_and_back(build, rng):
    model = build()
    x = random_inputs(model, rng)
    truth, weights = predict(model, x), model.get_weights()
    converted = from_keras(model)
    back = to_keras(converted)

    for result in (converted, back):
        assert type(result) is type(model)
        assert result is not model
        assert result.name == model.name
        assert [layer.name for _, layer in walk(result)] == [layer.name for _, layer in walk(model)]
        assert_same(predict(result, x), truth)
        assert_same(result.get_weights(), weights, atol=0)
    assert not any(isinstance(layer, THEIRS) and not isinstance(layer, OURS) for _, layer in walk(converted))
    assert any(isinstance(layer, OURS) for _, layer in walk(converted))
    assert [type(layer) for _, layer in walk(back)] == [type(layer) for _, layer in walk(model)]
    assert config_of(back) == config_of(model)

    converted.set_weights([w + 1 for w in weights])
    assert_same(model.get_weights(), weights, atol=0)


@pytest.mark.parametrize("convert", [from_keras, to_keras])
def test_training_goes_on_with_the_same_next_step(convert, rng):
    """Loss, metrics, optimizer slots and the state of the random masks come along."""
    model = sequential() if convert is from_keras else from_keras(sequential())
    model.add(layers.Dropout(0.3, seed=5))
    model.compile(keras.optimizers.Adam(0.05), "mse", metrics=["mae"], jit_compile=False)
    x, y = rng.normal(size=SHAPE), rng.normal(size=(BATCH, 2))
    for _ in range(3):
        model.train_on_batch(x, y)
    converted = convert(model)
    assert int(converted.optimizer.iterations) == 3
    model.reset_metrics()
    results = [each.train_on_batch(x, y, return_dict=True) for each in (model, converted)]
    assert set(results[1]) == {"loss", "mae"}
    np.testing.assert_allclose(results[1]["loss"], results[0]["loss"], rtol=1e-5)
    assert_same(converted.get_weights(), model.get_weights(), atol=1e-5)


def test_dropout_draws_on_from_where_it_was(rng):
    model = keras.Sequential([keras.Input(SHAPE[1:]), layers.LSTM(4, dropout=0.5, recurrent_dropout=0.5, seed=5)])
    x = rng.normal(size=SHAPE)
    model(x, training=True)
    converted = from_keras(model)
    assert_same(*([keras.ops.convert_to_numpy(each(x, training=True))] for each in (model, converted)))


def test_trainable_flags_and_dtype_policies():
    model = keras.Sequential(
        [
            keras.Input(SHAPE[1:]),
            layers.LSTM(4, return_sequences=True, dtype="mixed_bfloat16"),
            layers.SimpleRNN(3),
        ]
    )
    model.layers[0].trainable = False
    for result in (from_keras(model), to_keras(from_keras(model))):
        assert [layer.trainable for layer in result.layers] == [False, True]
        assert [layer.dtype_policy.name for layer in result.layers] == ["mixed_bfloat16", "float32"]
        assert len(result.trainable_weights) == 3


def test_stateful_layers_keep_their_state(rng):
    model = keras.Sequential([keras.Input(batch_shape=SHAPE), layers.LSTM(4, stateful=True)])
    x = rng.normal(size=SHAPE)
    model.predict(x, verbose=0)
    converted = from_keras(model)
    assert_same(predict(converted, x), predict(model, x))


@pytest.mark.parametrize("convert", [from_keras, to_keras])
def test_options_that_keras_leaves_out_of_its_configs_are_kept(convert):
    options = {"use_cudnn": False, "implementation": 1, "dropout": 0.2}
    cls = layers.LSTM if convert is from_keras else LSTM
    model = keras.Sequential([keras.Input(SHAPE[1:]), cls(4, **options)])
    result = convert(model).layers[0]
    assert (result.use_cudnn, result.cell.implementation, result.cell.dropout_mask_count) == (False, 1, 4)


def test_an_engine_is_kept_by_from_keras_and_dropped_by_to_keras():
    model = keras.Sequential([keras.Input(SHAPE[1:]), LSTM(4, engine="reference")])
    assert from_keras(model).layers[0].engine == "reference"
    assert type(to_keras(model).layers[0]) is layers.LSTM


def test_a_converted_model_can_be_saved_and_converted_again(tmp_path, rng):
    model = from_keras(wrapped())
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    x = random_inputs(model, rng)
    assert_same(predict(to_keras(loaded), x), predict(model, x))


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.recurrent = layers.LSTM(4)

    def call(self, x):
        return self.recurrent(x)


UNROLLED = [
    {"go_backwards": back, "return_sequences": sequences, "zero_output_for_mask": zero}
    for back in (False, True)
    for sequences in (False, True)
    for zero in (False, True)
]


@pytest.mark.parametrize("options", UNROLLED, ids=str)
def test_where_unrolled_loops_of_keras_differ_it_is_told(options, rng):
    """The table `UNROLLED_DIFFERS`, layer by layer: it names a difference where there is one, and only there."""
    x = rng.normal(size=SHAPE).astype("float32")
    masks = [np.arange(4) < np.array([[4], [3], [1]]), np.arange(4) >= np.array([[0], [1], [3]])]
    sequences, mask = keras.Input(SHAPE[1:]), keras.Input(SHAPE[1:2], dtype="bool")
    layer = layers.LSTM(2, unroll=True, **options)
    try:
        model = keras.Model([sequences, mask], layer(sequences, mask=mask))
        expected = [keras.ops.convert_to_numpy(model([x, m])) for m in masks]
    except Exception:  # torch's unrolled loop cannot read backwards with a mask
        assert keras.backend.backend() == "torch"
        assert unrolled_differs(layer)
        return
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        copy = from_keras(model)
    got = [keras.ops.convert_to_numpy(copy([x, m])) for m in masks]
    differ = max(np.abs(a - b).max() for a, b in zip(got, expected, strict=True)) > 1e-5
    assert any("unroll=True" in str(warning.message) for warning in told) == differ == unrolled_differs(layer)


class NotRegistered(layers.Layer):
    def __init__(self, function):
        super().__init__()
        self.function = function


@pytest.mark.parametrize("convert", [from_keras, to_keras])
def test_what_cannot_be_converted_says_why(convert):
    cases = [
        (Subclassed(), "subclassed"),
        (layers.LSTM(4), "Wrap it: keras.Sequential"),
        ("model.keras", "load_model(path)"),
        (keras.Sequential([layers.LSTM(4)]), "no weights yet"),
        (keras.Sequential([keras.Input(SHAPE[1:]), NotRegistered(print)]), "get_config"),
    ]
    for model, words in cases:
        with pytest.raises(ConversionError) as caught:
            convert(model)
        for word in ("Expected:", "Received:", "What to do:", words):
            assert word in str(caught.value)


def test_a_lambda_layer_comes_along():
    """Its code is the live model's own, so Keras' guard against foreign code is not in the way."""
    model = keras.Sequential([keras.Input(SHAPE[1:]), layers.Lambda(lambda x: x * 2.0), layers.LSTM(4)])
    x = np.random.default_rng(0).normal(size=SHAPE).astype("float32")
    np.testing.assert_allclose(from_keras(model).predict(x, verbose=0), model.predict(x, verbose=0), atol=1e-6)
