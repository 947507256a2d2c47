"""The native engine: it runs where it says so, agrees with the oracle, and says why where it cannot run."""

from __future__ import annotations

import os
import subprocess
import sys

import keras
import numpy as np
import pytest

import keras_lstm_custom as klc
from keras_lstm_custom.engines.native import library
from tests.engines.harness import LAYERS, MASKS, Case, arrays, run
from tests.oracles import numpy_cells

pytestmark = pytest.mark.tensorflow

X = np.random.default_rng(3).normal(size=(6, 7, 3)).astype("float32")
Y = np.random.default_rng(4).normal(size=(6, 1)).astype("float32")


@pytest.fixture
def built():
    if not library.LIBRARY.exists():
        pytest.skip(library.REMEDY)


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("mask", MASKS)
def test_equals_the_oracle(built, mask, kind):
    case = Case(kind, mask)
    data = arrays(case)
    expected = getattr(numpy_cells, kind)(data["x"], *data["weights"], *data["state"], mask=data["mask"])
    got = run("native", case, data)
    np.testing.assert_allclose(got["outputs"], expected["y"], atol=2e-6)
    for state in "hc"[: len(data["state"])]:
        np.testing.assert_allclose(got[f"final {state}"], expected[state][:, -1], atol=4e-6)


@pytest.mark.parametrize("jit_compile", [True, "auto"])
def test_fit_learns_the_same_weights(built, jit_compile):
    """With jit_compile=True XLA compiles the whole step, so the portable engine serves."""
    trained, engines = [], []
    for engine in ("auto", "reference"):
        keras.utils.set_random_seed(1)
        layer = klc.LSTM(4, engine=engine)
        model = keras.Sequential([keras.Input((7, 3)), keras.layers.Bidirectional(layer), keras.layers.Dense(1)])
        model.compile("sgd", "mse", jit_compile=jit_compile)
        model.fit(X, Y, epochs=2, batch_size=4, shuffle=False, verbose=0)
        trained.append(model.get_weights())
        engines.append(model.layers[0].forward_layer.last_engine)
    for ours, reference in zip(*trained, strict=True):
        np.testing.assert_allclose(ours, reference, atol=1e-5)
    assert engines == ["portable" if jit_compile is True else "native", "reference"]


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize(
    "sizes",
    [
        {"batch": 13, "units": 70, "features": 33},
        {"batch": 3, "units": 290, "features": 90},
        {"batch": 3, "units": 650},
    ],
    ids=["rows are shared out", "units of an LSTM are shared out", "units of any cell are shared out"],
)
@pytest.mark.parametrize("masks", ["none", "each gate"])
def test_large_enough_for_all_threads(built, sizes, masks, kind):
    dropout = 0 if masks == "none" else LAYERS[kind][1]
    case = Case(kind, "scattered", **sizes, inputs_dropout=dropout, recurrent_dropout=dropout)
    got, expected = run("native", case), run("reference", case)
    for name, value in expected.items():
        np.testing.assert_allclose(got[name], value, atol=1e-5 * max(1, np.abs(value).max()), err_msg=name)


def test_repeats_itself(built):
    case = Case(batch=13, units=70, features=33)
    first, second = run("native", case), run("native", case)
    for name, value in first.items():
        np.testing.assert_array_equal(second[name], value)


def test_not_a_number_goes_through(built):
    x = X.copy()
    x[1, 3, 0] = np.nan
    outputs = keras.ops.convert_to_numpy(klc.LSTM(4, engine="native")(x))
    assert np.isnan(outputs[1]).all()
    assert np.isfinite(np.delete(outputs, 1, axis=0)).all()


def test_shapes_that_do_not_fit_are_named(built):
    import tensorflow as tf

    operations = library.load().operations
    nothing, state = tf.zeros([0]), tf.zeros([2, 4])
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"`kernel` does not fit. Expected: \(3, 16\)"):
        operations.keras_lstm_custom_lstm_forward(
            x=tf.zeros([2, 5, 3]), h0=state, c0=state, kernel=tf.zeros([9, 16]), recurrent=tf.zeros([4, 16]),
            mask=tf.zeros([0, 0], tf.bool), x_dropout=nothing, dropout=nothing, bias=nothing,
            reverse=False, keep=False, sequences=True,
        )  # fmt: skip


def test_an_empty_batch(built):
    case = Case(batch=0)
    got = run("native", case)
    assert got["outputs"].shape[0] == 0
    assert not got["dkernel"].any()


def test_what_it_cannot_do_it_says():
    with pytest.raises(AssertionError, match="float32, not in float64"):  # the harness asks `supports` first
        run("native", Case(dtype="float64"))


def explain_with(path) -> tuple[str, str]:
    """Return which engine serves in a process with that library, and the explanation."""
    code = (
        "import keras_lstm_custom as k, numpy as np; layer = k.LSTM(4); layer(np.zeros((2, 3, 5), 'float32'));"
        "print(layer.last_engine); print(layer.explain_engine((2, 3, 5)))"
    )
    variables = {**os.environ, library.VARIABLE: str(path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=variables, check=True)
    return tuple(done.stdout.split("\n", 1))


@pytest.mark.parametrize("content", [None, b"not a library"], ids=["missing", "broken"])
def test_without_a_library_the_next_engine_serves(content, tmp_path):
    path = tmp_path / "lib.so"
    if content:
        path.write_bytes(content)
    served, explanation = explain_with(path)
    assert served != "native"
    assert library.REMEDY in explanation


def test_library_of_other_sources_is_not_used(built, tmp_path):
    """As after an update of an editable installation."""
    path = tmp_path / "lib.so"
    content = library.LIBRARY.read_bytes()
    path.write_bytes(content)
    assert explain_with(path)[0] == "native"
    path.write_bytes(content.replace(library.sources().encode(), b"0" * 64))
    served, explanation = explain_with(path)
    assert served != "native"
    assert "was built from other sources" in explanation
    assert library.REMEDY in explanation


@pytest.mark.parametrize("kind", LAYERS)
def test_it_really_ran(built, kind):
    """By its name, and by TensorFlow's: the graph holds its operation."""
    import tensorflow as tf

    layer = LAYERS[kind][0](4, engine="native")
    layer(X)
    assert layer.last_engine == "native"
    assert "compiled loops" in layer.explain_engine(X.shape).answers["native"].reason
    graph = tf.function(lambda x: layer(x)).get_concrete_function(tf.constant(X)).graph
    name = {"lstm": "LstmForward", "vanilla_rnn": "VanillaRnnForward"}[kind]
    assert f"KerasLstmCustom>{name}" in {operation.type for operation in graph.get_operations()}


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "mixed_float16", "mixed_bfloat16"])
def test_half_precision_is_widened_inside(built, dtype, kind):
    layer = LAYERS[kind][0](5, dtype=dtype, recurrent_initializer="zeros")  # the default has no bfloat16
    answer = layer.explain_engine((4, 6, 3), training=True)
    assert (answer.chosen, answer.answers["native"].reason.endswith("in float32 inside")) == ("native", True)
    assert layer(X).dtype.name == dtype.removeprefix("mixed_")
    assert layer.last_engine == "native"
