"""`load.keras2` against tf_keras, which writes the files."""

from __future__ import annotations

import warnings

import h5py
import keras
import numpy as np
import pytest

pytest.importorskip("tf_keras", reason="tf_keras writes the files; pip install --no-deps tf_keras")

import tf_keras as k2
from tf_keras import layers as l2

import keras_lstm_custom as klc
from keras_lstm_custom import load
from keras_lstm_custom.activations import keras2_hard_sigmoid
from keras_lstm_custom.errors import LoadError
from tests.load.keras2_models import FEATURES, MODELS, STEPS, UNITS, X, randomised

pytestmark = pytest.mark.tensorflow
TOLERANCE = 2e-6  # float32


def saved(model, path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the format is old
        model.save(path)
    return path


def loaded(path, *args):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return load.keras2(path, *args)


def numbers(outputs):
    return [np.asarray(y) for y in keras.tree.flatten(outputs)]


def assert_same(source, model, x):
    for got, expected in zip(numbers(model(x)), numbers(source(x, training=False)), strict=True):
        np.testing.assert_allclose(got, expected, atol=TOLERANCE)


@pytest.mark.parametrize("make", MODELS, ids=lambda make: make.__name__)
def test_a_model_and_its_weights_alone(tmp_path, make):
    source, x = make()
    randomised(source)
    model = loaded(saved(source, tmp_path / "old.h5"))
    assert_same(source, model, x)
    assert [w.trainable for w in model.weights].count(True) == len(source.trainable_weights)
    for layer in model.layers:
        if isinstance(layer, keras.layers.RNN) and hasattr(layer, "reset_state") and layer.stateful:
            source.reset_states()
            layer.reset_state()
    randomised(source)
    source.save_weights(tmp_path / "weights.h5")
    assert loaded(tmp_path / "weights.h5", model) is model
    assert_same(source, model, x)
    if not any(getattr(layer, "stateful", False) for layer in model.layers):
        model.save(tmp_path / "new.keras")  # what was loaded is a model like any other
        assert_same(source, keras.saving.load_model(tmp_path / "new.keras"), x)


def test_layers_are_ours_and_names_stay(tmp_path):
    source = k2.Sequential(
        [l2.InputLayer((STEPS, FEATURES)), l2.LSTM(UNITS, recurrent_activation="hard_sigmoid", name="m")]
    )
    model = loaded(saved(source, tmp_path / "old.h5"))
    layer = model.get_layer("m")
    assert type(layer) is klc.LSTM
    assert layer.recurrent_activation is keras2_hard_sigmoid


@pytest.mark.parametrize("name", ["LSTM", "GRU"])
def test_cudnn(tmp_path, name):
    """The file of a CuDNN layer, as model and as weights; tf_keras itself converts for the expected numbers."""
    cudnn_class = (
        getattr(k2.__internal__.layers, f"CuDNN{name}", None)
        or getattr(k2.src.layers.rnn, f"cudnn_{name.lower()}").__dict__[f"CuDNN{name}"]
    )
    plain = k2.Sequential([l2.InputLayer((STEPS, FEATURES)), l2.Bidirectional(getattr(l2, name)(UNITS, name="inner"))])
    source = k2.Sequential([l2.InputLayer((STEPS, FEATURES)), l2.Bidirectional(cudnn_class(UNITS, name="inner"))])
    randomised(source)
    path = saved(source, tmp_path / "cudnn.h5")
    plain.load_weights(path)
    model = loaded(path)
    assert_same(plain, model, X)
    ours = keras.Sequential([keras.Input((STEPS, FEATURES)), keras.layers.Bidirectional(getattr(klc, name)(UNITS))])
    assert_same(plain, loaded(path, ours), X)


@pytest.mark.parametrize(
    ("compiled", "optimizer", "rate"),
    [
        (
            {"optimizer": k2.optimizers.Adam(0.02, beta_1=0.8), "loss": "mse", "metrics": ["mae"]},
            keras.optimizers.Adam,
            0.02,
        ),
        (
            {"optimizer": k2.optimizers.legacy.SGD(0.05, momentum=0.9), "loss": k2.losses.Huber(0.5)},
            keras.optimizers.SGD,
            0.05,
        ),
        (
            {"optimizer": "rmsprop", "loss": ["mae"], "metrics": [k2.metrics.RootMeanSquaredError()]},
            keras.optimizers.RMSprop,
            0.001,
        ),
    ],
)
def test_training_goes_on(tmp_path, compiled, optimizer, rate):
    source = k2.Sequential([l2.InputLayer((STEPS, FEATURES)), l2.LSTM(UNITS), l2.Dense(1)])
    source.compile(**compiled, run_eagerly=True)  # tracing takes longer
    source.train_on_batch(X, X[:, 0, :1])
    with pytest.warns(UserWarning, match="optimizer starts anew"):
        model = load.keras2(saved(source, tmp_path / "old.h5"))
    assert type(model.optimizer) is optimizer
    np.testing.assert_allclose(float(model.optimizer.learning_rate), rate, rtol=1e-6)
    model.run_eagerly = True
    expected, got = (m.evaluate(X, X[:, 0, :1], verbose=0) for m in (source, model))
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_the_old_decay_is_a_schedule(tmp_path):
    source = k2.Sequential([l2.InputLayer((STEPS, FEATURES)), l2.LSTM(UNITS)])
    source.compile(k2.optimizers.legacy.SGD(0.1, decay=0.5), "mse")
    model = loaded(saved(source, tmp_path / "old.h5"))
    assert float(model.optimizer.learning_rate) == pytest.approx(0.1)
    model.optimizer.iterations.assign(3)
    assert float(model.optimizer.learning_rate) == pytest.approx(0.1 / 2.5)


def test_training_that_cannot_be_read_is_told(tmp_path):
    def my_loss(y_true, y_pred):
        return y_true - y_pred

    source = k2.Sequential([l2.InputLayer((STEPS, FEATURES)), l2.LSTM(UNITS)])
    source.compile("adam", my_loss)
    with pytest.warns(UserWarning, match=r"not compiled.*'my_loss'"):
        model = load.keras2(saved(source, tmp_path / "old.h5"))
    assert not model.compiled


def own_layer(base):
    class Scaled(base):
        def __init__(self, factor=2.0, **kwargs):
            super().__init__(**kwargs)
            self.factor = factor

        def build(self, shape):
            self.gain = self.add_weight(shape=(shape[-1],), name="gain")

        def call(self, x):
            return x * self.gain * self.factor

        def get_config(self):
            return {**super().get_config(), "factor": self.factor}

    return Scaled


def test_a_custom_layer_is_named_and_then_found(tmp_path):
    source = k2.Sequential([l2.InputLayer((STEPS, FEATURES)), own_layer(l2.Layer)(factor=3.0), l2.LSTM(UNITS)])
    path = saved(randomised(source), tmp_path / "old.h5")
    with pytest.raises(
        LoadError, match=r"(?s)'scaled' \(Scaled\) is a custom layer.*register_keras_serializable.*'Scaled'"
    ):
        load.keras2(path)
    with keras.saving.custom_object_scope({"Scaled": own_layer(keras.layers.Layer)}):
        assert_same(source, load.keras2(path), X)


def test_a_custom_function_is_named_and_then_found(tmp_path):
    def double_tanh(x):
        return 2 * k2.activations.tanh(x)

    source = k2.Sequential([l2.InputLayer((STEPS, FEATURES)), l2.LSTM(UNITS, activation=double_tanh)])
    path = saved(source, tmp_path / "old.h5")
    with pytest.raises(LoadError, match=r"(?s)the function 'double_tanh'.*custom_object_scope"):
        load.keras2(path)
    with keras.saving.custom_object_scope({"double_tanh": lambda x: 2 * keras.ops.tanh(x)}):
        assert_same(source, load.keras2(path), X)


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (lambda: l2.Lambda(lambda x: x * 2), r"(?s)\(Lambda\) holds code, which is not run"),
        (
            lambda: l2.LSTM(UNITS, time_major=True, return_sequences=True),
            r"(?s)\(LSTM\).*time_major=True.*time_major=False",
        ),
        (lambda: l2.TimeDistributed(l2.Lambda(lambda x: x)), r"\(Lambda\) holds code"),
        (lambda: l2.Dense(2, activation=lambda x: x), "function of its own that is stored as code"),
        (lambda: l2.ThresholdedReLU(), "ThresholdedReLU"),
    ],
)
def test_what_cannot_be_carried_over_is_named(tmp_path, layer, expected):
    source = k2.Sequential([l2.InputLayer((STEPS, FEATURES)), layer()])
    with pytest.raises(LoadError, match=expected):
        load.keras2(saved(source, tmp_path / "old.h5"))


def test_an_operation_on_an_output_is_named(tmp_path):
    x = k2.Input((STEPS, FEATURES))
    with pytest.raises(LoadError, match=r"(?s)operation of TensorFlow.*math\.multiply"):
        load.keras2(saved(k2.Model(x, l2.LSTM(UNITS)(x) * 2.0), tmp_path / "old.h5"))


def test_weights_that_do_not_fit_change_nothing(tmp_path):
    layers = [l2.GRU(UNITS, name="gru"), l2.Dense(1, name="dense")]
    source = k2.Sequential([l2.InputLayer((STEPS, FEATURES)), *layers])
    path = saved(source, tmp_path / "old.h5")
    first = [keras.Input((STEPS, FEATURES)), klc.GRU(UNITS, reset_after=False)]
    for rest, expected in (
        ([keras.layers.Dense(1)], r"(?s)'gru'.*bias \(12,\).*bias:0 \(2, 12\)"),
        ([], r"(?s)1 layer.*2 layer\(s\): gru, dense"),
    ):
        model = keras.Sequential([*first, *rest])
        before = model.get_weights()
        with pytest.raises(LoadError, match=expected):
            load.keras2(path, model)
        for was, now in zip(before, model.get_weights(), strict=True):
            np.testing.assert_array_equal(was, now)
    with pytest.raises(LoadError, match="not built"):
        load.keras2(path, keras.Sequential([klc.GRU(UNITS)]))


def test_names_with_a_slash_are_told(tmp_path):
    x = k2.Input((STEPS, FEATURES))
    path = saved(k2.Model(x, l2.LSTM(UNITS, name="a/b")(x)), tmp_path / "old.h5")
    with pytest.warns(UserWarning, match="'a/b'"):
        assert load.keras2(path).get_layer("a_b")


def test_a_stacked_layer_order_by_names(tmp_path):
    """Two layers of one shape must not be exchanged, whatever their order in the file."""
    source = k2.Sequential([l2.InputLayer((STEPS, UNITS)), l2.LSTM(UNITS, return_sequences=True), l2.LSTM(UNITS)])
    path = saved(randomised(source), tmp_path / "old.h5")
    with h5py.File(path, "r+") as file:
        names = file["model_weights"].attrs["layer_names"]
        file["model_weights"].attrs["layer_names"] = names[::-1]
    assert_same(source, loaded(path), np.repeat(X[..., :1], UNITS, axis=-1))
