"""The portable engine: it runs where it says so, agrees with the oracle, and works all ways a layer is used."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import keras_lstm_custom as klc
from keras_lstm_custom.engines import ENGINES
from keras_lstm_custom.errors import EngineError
from tests.engines.harness import LAYERS, MASKS, Case, arrays, layer_of, request_of, run
from tests.oracles import numpy_cells

pytestmark = pytest.mark.tensorflow

X = np.random.default_rng(3).normal(size=(6, 7, 3)).astype("float32")
Y = np.random.default_rng(4).normal(size=(6, 1)).astype("float32")


def oracle(case: Case, data) -> dict:
    function = getattr(numpy_cells, case.kind)
    bias = data["weights"][2] if case.use_bias else None
    return function(data["x"], *data["weights"][:2], bias, *data["state"], mask=data["mask"])


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("mask", MASKS)
def test_float64_equals_the_oracle(kind, mask):
    case = Case(kind, mask, dtype="float64")
    data = arrays(case)
    expected, got = oracle(case, data), run("portable", case, data)
    np.testing.assert_allclose(got["outputs"], expected["y"], atol=1e-13)
    for state in "hc"[: len(data["state"])]:
        np.testing.assert_allclose(got[f"final {state}"], expected[state][:, -1], atol=1e-13)


@pytest.mark.parametrize("kind", LAYERS)
def test_gradients_equal_the_oracles_differences(kind):
    case = Case(kind, "scattered", dtype="float64", batch=2, units=3, features=2)
    data = arrays(case)
    got = run("portable", case, data)

    def loss(name, index=None):
        def at(value):
            changed = dict(data)
            changed[name] = value if index is None else [*data[name][:index], value, *data[name][index + 1 :]]
            steps = oracle(case, changed)
            values = [steps["y"], steps["y"][:, -1], *(steps[s][:, -1] for s in "hc"[: len(data["state"])])]
            return sum((v * w).sum() for v, w in zip(values, data["loss"], strict=True))

        return at

    places = {
        "dx": ("x", None),
        "dkernel": ("weights", 0),
        "drecurrent_kernel": ("weights", 1),
        "dbias": ("weights", 2),
    }
    places |= {f"d{state}": ("state", n) for n, state in enumerate("hc"[: len(data["state"])])}
    for name, (where, index) in places.items():
        at = data[where] if index is None else data[where][index]
        expected = numpy_cells.finite_difference(loss(where, index), at)
        np.testing.assert_allclose(got[name], expected, atol=1e-7, err_msg=name)


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


@pytest.mark.parametrize("jit_compile", [True, "auto"])
def test_fit_learns_the_same_weights(jit_compile):
    x = X.copy()
    x[2, 4:] = 0
    trained = []
    for model in models():
        model.compile("sgd", "mse", jit_compile=jit_compile)
        model.fit(x, Y, epochs=2, batch_size=4, shuffle=False, verbose=0)  # a last batch of two rows
        trained.append(model.get_weights())
    for ours, reference in zip(*trained, strict=True):
        np.testing.assert_allclose(ours, reference, atol=1e-5)


def test_dropout_has_the_same_masks_as_the_reference():
    outputs = [model(X, training=True) for model in models(dropout=0.3, recurrent_dropout=0.3)]
    np.testing.assert_allclose(*outputs, atol=1e-6)


def test_saved_model_without_the_package(tmp_path):
    """What is saved holds TensorFlow's own operations only."""
    import tensorflow as tf

    model, _ = models()
    model.export(str(tmp_path), verbose=False)
    loaded = tf.saved_model.load(str(tmp_path))
    np.testing.assert_allclose(loaded.serve(X), model.predict(X, verbose=0), atol=1e-6)


def test_gradient_outside_training():
    """Inference keeps no gates, yet has a gradient."""
    import tensorflow as tf

    def gradient(engine):
        keras.utils.set_random_seed(2)
        layer = klc.LSTM(4, engine=engine)

        @tf.function(autograph=False)
        def run(x):
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = tf.reduce_sum(layer(x, training=False) ** 2)
            return tape.gradient(y, x)

        return run(tf.constant(X))

    np.testing.assert_allclose(gradient("portable"), gradient("reference"), atol=1e-6)


def test_second_derivatives_are_refused():
    import tensorflow as tf

    layer = klc.LSTM(4, engine="portable")

    @tf.function(autograph=False)
    def run(x):
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)
                y = tf.reduce_sum(layer(x) ** 2)
            total = tf.reduce_sum(inner.gradient(y, x) ** 2)
        return outer.gradient(total, x)

    with pytest.raises(EngineError, match="engine='reference'"):
        run(tf.constant(X))


def test_distributed_training():
    import tensorflow as tf

    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    with strategy.scope():
        model, _ = models()
        model.compile("sgd", "mse")
    history = model.fit(X, Y, epochs=2, verbose=0)
    assert np.isfinite(history.history["loss"]).all()


def test_not_a_number_goes_through():
    x = X.copy()
    x[1, 3, 0] = np.nan
    outputs = keras.ops.convert_to_numpy(klc.LSTM(4, engine="portable")(x))
    assert np.isnan(outputs[1]).all()
    assert np.isfinite(np.delete(outputs, 1, axis=0)).all()


def test_it_really_ran():
    layer = klc.LSTM(4, engine="portable")
    layer(X)
    assert layer.last_engine == "portable"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"activation": "relu"}, "activation"),
        ({"recurrent_activation": "hard_sigmoid"}, "recurrent_activation"),
        ({"unroll": True}, "unroll"),
    ],
)
def test_what_it_cannot_do_it_says(options, reason):
    with pytest.raises(EngineError, match=reason):
        klc.LSTM(4, engine="portable", **options)(X)


def test_keeping_steps_belongs_to_the_reference():
    case = Case()
    data = arrays(case)
    layer = layer_of(case, data["weights"])
    request = layer.request(X, data["state"], keep_steps=True)
    assert "each step" in ENGINES["portable"].supports(request).reason
    assert ENGINES["portable"].supports(request_of(case, layer, data)).ok
