"""The fast engines of the active backend: they agree with the oracle, and run however a layer is used."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import keras_lstm_custom as klc
from keras_lstm_custom.engines import ENGINES
from keras_lstm_custom.errors import EngineError
from tests.engines.harness import FAST, LAYERS, MASKS, Case, arrays, assert_same, layer_of, request_of, run
from tests.gradients import outputs_and_gradients
from tests.oracles import numpy_cells

FAST_ENGINES = pytest.mark.parametrize("engine", FAST)
X = np.random.default_rng(3).normal(size=(6, 7, 3)).astype("float32")
Y = np.random.default_rng(4).normal(size=(6, 1)).astype("float32")


def served(engine: str, case: Case) -> dict:
    """Return the data of a case; skip one that the engine says it does not serve."""
    data = arrays(case)
    support = ENGINES[engine].supports(request_of(case, layer_of(case, data["weights"]), data))
    if not support.ok:
        pytest.skip(support.reason)
    if (engine, case.dtype, keras.backend.backend()) == ("derived", "float64", "jax"):
        pytest.skip("runs the cell's own functions, and Keras' tanh computes float64 in float32 on JAX")
    return data


def oracle(case: Case, data) -> dict:
    function = getattr(numpy_cells, case.kind)
    bias = data["weights"][2] if case.use_bias else None
    return function(data["x"], *data["weights"][:2], bias, *data["state"], mask=data["mask"])


@FAST_ENGINES
@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("mask", ["none", "all of these"])
def test_float64_equals_the_oracle(float64, engine, kind, mask):
    case = Case(kind, mask, dtype="float64", batch=len(MASKS["all of these"]))
    data = served(engine, case)
    expected, got = oracle(case, data), run(engine, case, data)
    np.testing.assert_allclose(got["outputs"], expected["y"], atol=1e-13)
    for state in "hc"[: len(data["state"])]:
        np.testing.assert_allclose(got[f"final {state}"], expected[state][:, -1], atol=1e-13)


@FAST_ENGINES
@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("mask", ["none", "scattered"])
def test_gradients_equal_the_oracles_differences(float64, engine, kind, mask):
    case = Case(kind, mask, dtype="float64", batch=2, units=3, features=2)
    data = served(engine, case)
    got = run(engine, case, data)

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


@FAST_ENGINES
@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("mask", ["none", "scattered"])
@pytest.mark.parametrize("timesteps", [1, 2, 4, 17])
def test_lengths_for_which_engines_have_other_ways(engine, kind, mask, timesteps):
    """The parity matrix has one length. 81 units: native leaves weights where they are, but those of the last units."""
    case = Case(kind, mask, timesteps=timesteps, units=81, go_backwards=True)
    data = served(engine, case)
    assert_same(run(engine, case, data), run("reference", case, data), 2e-5)


def model_on(engine, masking=True, like=None, **options):
    """Return a model whose recurrent layers run on an engine, and these layers: the cells that `like` serves."""
    keras.utils.set_random_seed(1)
    both = keras.layers.Bidirectional(klc.LSTM(4, return_sequences=True, engine=engine, seed=5, **options))
    second = klc.LSTM if (like or engine) == "jax_scan" else klc.VanillaRNN  # the one that knows the LSTM alone
    recurrent = [both.forward_layer, both.backward_layer, second(3, engine=engine, seed=6)]
    layers = [*[keras.layers.Masking()] * masking, both, recurrent[-1], keras.layers.Dense(1)]
    return keras.Sequential([keras.Input((7, 3)), *layers]), recurrent


@FAST_ENGINES
def test_fit_learns_the_same_weights(engine):
    """Two epochs with a last batch of two rows; and it was this engine that ran in them."""
    x = X.copy()
    x[2, 4:] = 0
    trained = []
    for name in (engine, "reference"):
        model, recurrent = model_on(name, masking=engine != "torch_nn", like=engine)
        model.compile("sgd", "mse")
        model.fit(x, Y, epochs=2, batch_size=4, shuffle=False, verbose=0)
        assert [layer.last_engine for layer in recurrent] == [name] * 3
        trained.append(model.get_weights())
    for ours, reference in zip(*trained, strict=True):
        np.testing.assert_allclose(ours, reference, atol=1e-5)


@FAST_ENGINES
def test_a_saved_model_gives_the_same(engine, tmp_path):
    if engine == "torch_nn":
        pytest.skip("serves no mask, and this model has one")
    model, _ = model_on(engine)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.layers[-2].engine == engine
    np.testing.assert_allclose(loaded.predict(X, verbose=0), model.predict(X, verbose=0), atol=1e-6)


@FAST_ENGINES
@pytest.mark.parametrize(
    "options", [{"dropout": 0.3}, {"dropout": 0.3, "recurrent_dropout": 0.3}], ids=["inputs", "inputs and state"]
)
def test_dropout_has_the_same_masks_as_the_reference(engine, options):
    def outputs(name):
        layer = klc.LSTM(4, engine=name, seed=5, **options)
        layer.build(X.shape)
        layer.set_weights([np.cos(np.arange(w.size)).reshape(w.shape) for w in layer.get_weights()])
        return keras.ops.convert_to_numpy(layer(X, training=True))

    if engine == "torch_nn" and "recurrent_dropout" in options:
        pytest.skip("knows no recurrent dropout")
    np.testing.assert_allclose(outputs(engine), outputs("reference"), atol=1e-6)


def gradients(engine: str, *, training: bool, trainable: bool) -> list[np.ndarray]:
    keras.utils.set_random_seed(2)
    layer = klc.LSTM(4, engine=engine)
    layer.build(X.shape)
    layer.trainable = trainable
    return outputs_and_gradients(layer, X, training=training)[1]


@FAST_ENGINES
@pytest.mark.parametrize(
    "how", [{"training": False, "trainable": True}, {"training": True, "trainable": False}], ids=str
)
def test_gradient_outside_training_and_of_frozen_weights(engine, how):
    """Inference may keep no gates, yet has a gradient; a layer that is not trained hands one to its input."""
    ours, reference = gradients(engine, **how), gradients("reference", **how)
    assert len(ours) == (4 if how["trainable"] else 1)
    for gradient, expected in zip(ours, reference, strict=True):
        assert np.abs(gradient).max() > 0
        np.testing.assert_allclose(gradient, expected, atol=1e-5)


@FAST_ENGINES
def test_not_a_number_goes_through(engine):
    x = X.copy()
    x[1, 3, 0] = np.nan
    outputs = keras.ops.convert_to_numpy(klc.LSTM(4, engine=engine)(x))
    assert np.isnan(outputs[1]).all()
    assert np.isfinite(np.delete(outputs, 1, axis=0)).all()


@FAST_ENGINES
@pytest.mark.filterwarnings("ignore:On JAX")  # fit and predict lose the state there; a call does not
def test_a_sequence_in_pieces(engine):
    """A stateful layer reads a sequence in pieces, down to one step, as another reads it at once."""
    pieces = klc.LSTM(4, stateful=True, return_sequences=True, engine=engine)
    whole = klc.LSTM(4, return_sequences=True, engine=engine)
    pieces.build(X.shape)
    whole.build(X.shape)
    whole.set_weights(pieces.get_weights())
    outputs = [keras.ops.convert_to_numpy(pieces(X[:, a:b])) for a, b in ((0, 3), (3, 4), (4, 7))]
    np.testing.assert_allclose(np.concatenate(outputs, axis=1), keras.ops.convert_to_numpy(whole(X)), atol=2e-6)
    assert pieces.last_engine == engine


@FAST_ENGINES
def test_it_really_ran(engine):
    layer = klc.LSTM(4, engine=engine)
    layer(X)
    assert layer.last_engine == engine


@FAST_ENGINES
@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"activation": "relu"}, "activation"),
        ({"recurrent_activation": "hard_sigmoid"}, "recurrent_activation"),
        ({"unroll": True}, "unroll"),
    ],
)
def test_what_it_cannot_do_it_says(engine, options, reason):
    if engine == "derived" and "unroll" not in options:  # it differentiates any function
        klc.LSTM(4, engine=engine, **options)(X)
        return
    with pytest.raises(EngineError, match=reason):
        klc.LSTM(4, engine=engine, **options)(X)


@FAST_ENGINES
def test_keeping_steps_belongs_to_the_reference(engine):
    case = Case()
    data = arrays(case)
    layer = layer_of(case, data["weights"])
    request = layer.request(X, data["state"], keep_steps=True)
    assert "each step" in ENGINES[engine].supports(request).reason
    assert ENGINES[engine].supports(request_of(case, layer, data)).ok


@pytest.mark.parametrize("engine", [name for name in ENGINES if name not in (*FAST, "reference")])
def test_the_engines_of_other_backends_say_so(engine):
    case = Case()
    answer = ENGINES[engine].supports(request_of(case, layer_of(case, arrays(case)["weights"]), arrays(case)))
    assert not answer.ok
    assert "needs" in answer.reason
