"""The native engine: it runs where it says so, agrees with the oracle, and says why where it cannot run."""

from __future__ import annotations

import os
import subprocess
import sys

import keras
import numpy as np
import pytest

import keras_lstm_custom as klc
from keras_lstm_custom.engines.native import build, library
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


def inputs_of_both():
    """What both operations of an LSTM of 4 units begin with, over 2 sequences of 5 steps of 3 features."""
    import tensorflow as tf

    nothing, state = tf.zeros([0]), tf.zeros([2, 4])
    inputs = {"x": tf.zeros([2, 5, 3]), "h0": state, "c0": state}
    inputs |= {"kernel": tf.zeros([3, 16]), "recurrent": tf.zeros([4, 16]), "mask": tf.zeros([0, 0], tf.bool)}
    return inputs | dict.fromkeys(("extra", "x_dropout", "dropout", "noise"), nothing)


def forward_with(**changed):
    """Run the forward operation on these inputs, but for those that are changed."""
    options = {"cell": "lstm", "bias": inputs_of_both()["dropout"], "reverse": False, "keep": False, "sequences": True}
    return library.load().operations.keras_lstm_custom_forward(**{**inputs_of_both(), **options, **changed})


def backward_with(**changed):
    """Run the backward operation on what the forward operation kept, but for what is changed."""
    kept = forward_with(keep=True)
    inputs = inputs_of_both() | {"y": kept.y, "gates": kept.gates, "cells": kept.cells}
    inputs |= {"d_y": kept.y, "d_h": kept.h, "d_c": kept.c}
    return library.load().operations.keras_lstm_custom_backward(
        **{**inputs, "cell": "lstm", "reverse": False, **changed}
    )


#: For each input one wrong shape or more, and what is said of it.
WRONG_SHAPES = [
    ("kernel", [9, 16], r"`kernel` does not fit. Expected: \(3, 16\). Received: \(9, 16\)"),
    ("recurrent", [4, 15], r"`recurrent` does not fit. Expected: \(4, 16\)"),
    ("c0", [2, 5], r"`c0` does not fit. Expected: \(2, 4\)"),
    ("h0", [3, 4], r"`h0` does not fit. Expected: \(2, 4\)"),
    ("h0", [2, 0], "at least one unit"),
    ("mask", [2, 4], r"`mask` does not fit. Expected: \(2, 5\)"),
    ("mask", [2, 0], r"`mask` does not fit. Expected: \(2, 5\)"),
    ("dropout", [4, 2, 0], r"`dropout` does not fit. Expected: \(4, 2, 4\)"),
    ("x_dropout", [1, 2, 3], r"`x_dropout` does not fit. Expected: \(4, 2, 3\)"),
    ("x", [5, 3], r"`x` must have 3 axes"),
    ("x", [2**31, 2**31, 0], "`h0` does not fit"),
    ("extra", [16], r"`extra` does not fit. Expected: \(0\). Received: \(16\)"),
    ("noise", [2, 5, 4], r"`noise` does not fit. Expected: \(2, 5, 0\)"),
]
ATTRIBUTES = {"cell", "cell_clip", "zoneout", "cell_zoneout", "reverse", "keep", "sequences", "name"}
OF_FORWARD = [("bias", [15], r"`bias` does not fit. Expected: \(16\)")]
OF_BACKWARD = [
    ("y", [2, 4, 4], r"`y` does not fit. Expected: \(2, 5, 4\). Received: \(2, 4, 4\)"),
    ("y", [0], r"`y` does not fit"),
    ("gates", [7], r"`gates` does not fit. Expected: \(\d+\). Received: \(7\)"),
    ("gates", [0], r"`gates` does not fit"),
    ("cells", [7], r"`cells` does not fit. Expected: \(\d+\). Received: \(7\)"),
    ("cells", [2, 5, 4], r"`cells` does not fit"),
    ("d_y", [2, 5, 3], r"`d_y` does not fit. Expected: \(2, 5, 4\)"),
    ("d_y", [2, 0, 4], r"`d_y` does not fit"),
    ("d_h", [2, 3], r"`d_h` does not fit. Expected: \(2, 4\)"),
    ("d_h", [0], r"`d_h` does not fit"),
    ("d_c", [1, 4], r"`d_c` does not fit. Expected: \(2, 4\)"),
]


@pytest.mark.parametrize(
    ("run", "name", "shape", "message"),
    [(forward_with, *wrong) for wrong in WRONG_SHAPES + OF_FORWARD]
    + [(backward_with, *wrong) for wrong in WRONG_SHAPES + OF_BACKWARD],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_shapes_that_do_not_fit_are_named(built, run, name, shape, message):
    import tensorflow as tf

    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        run(**{name: tf.zeros(shape, tf.bool if name == "mask" else tf.float32)})


def test_every_input_of_both_operations_is_among_these(built):
    import inspect

    operations = library.load().operations
    for name, wrong in (("forward", WRONG_SHAPES + OF_FORWARD), ("backward", WRONG_SHAPES + OF_BACKWARD)):
        parameters = inspect.signature(getattr(operations, f"keras_lstm_custom_{name}")).parameters
        assert {name for name, *_ in wrong} == parameters.keys() - ATTRIBUTES
    assert np.isfinite(backward_with().d_kernel).all()
    assert forward_with().y.shape == (2, 5, 4)


def test_cells_and_options_that_do_not_fit_are_named(built):
    import tensorflow as tf

    with pytest.raises(tf.errors.InvalidArgumentError, match="no cell 'mgu'"):
        forward_with(cell="mgu")
    with pytest.raises(tf.errors.InvalidArgumentError, match="'lstm' has no options"):
        forward_with(cell_clip=1.0)


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("units", [5, 17])  # neither fills its last vector
@pytest.mark.parametrize("value", [1e9, np.inf], ids=str)
def test_saturated_gates(built, value, units, kind):
    """Of inputs in the billions no gradient is left; and what is infinite stays in its row and feature."""
    data = arrays(Case(kind, units=units))
    data["x"][1, 2, 0] = value
    results = [run(engine, Case(kind, units=units), data) for engine in ("native", "reference")]
    for name, expected in results[1].items():
        finite = np.isfinite(expected)
        assert finite.sum() > finite.size / 2
        np.testing.assert_allclose(results[0][name][finite], expected[finite], atol=1e-4, err_msg=name)


def test_a_gate_may_stay_shut_and_another_open(built):
    """For 10,000 steps: nothing enters, nothing is lost."""
    layer = klc.LSTM(1, engine="native", return_state=True)
    layer.build((1, None, 1))
    layer.set_weights([np.zeros((1, 4)), np.zeros((1, 4)), np.array([-40.0, 40.0, 5.0, 0.0])])
    for start in (0.0, 1.0, -0.3):
        c = layer(np.ones((1, 10_000, 1), "float32"), initial_state=[np.zeros((1, 1)), np.full((1, 1), start)])[2]
        np.testing.assert_allclose(c, [[start]], rtol=1e-6, atol=1e-12)


def test_what_it_cannot_do_it_says():
    with pytest.raises(AssertionError, match="float32, not in float64"):  # the harness asks `supports` first
        run("native", Case(dtype="float64"))


def explain_with(**variables) -> tuple[str, str, str]:
    """Return which engine serves in a process with these variables, the explanation, and the warnings."""
    code = (
        "import keras_lstm_custom as k, numpy as np; layer = k.LSTM(4); layer(np.zeros((2, 3, 5), 'float32'));"
        "print(layer.last_engine); print(layer.explain_engine((2, 3, 5)))"
    )
    environment = {**os.environ, **variables}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    return (*done.stdout.split("\n", 1), done.stderr)


def zeros_from(share):
    return lambda content: content[: int(len(content) * share)] + bytes(len(content) - int(len(content) * share))


#: What may be wrong with a library's bytes, and what is said of it.
DAMAGES = {
    "not a library": (lambda content: b"not a library", "not made by this package"),
    "empty": (lambda content: b"", "not made by this package"),
    "cut off": (lambda content: content[: len(content) // 2], "is cut off"),
    "without its last byte": (lambda content: content[:-1], "is cut off"),
    "zeros at its end": (zeros_from(0.5), "is cut off"),
    "zeros inside": (lambda content: content[:5000] + bytes(5000) + content[10_000:], "is damaged"),
    "of other sources": (lambda c: c.replace(library.sources().encode(), b"0" * 64), "was built from other sources"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_library_is_loaded_only_whole(built, name, tmp_path):
    """What is said before anything is loaded: to load some of these ends the process."""
    damage, said = DAMAGES[name]
    content = library.LIBRARY.read_bytes()
    path = tmp_path / "lib.so"
    path.write_bytes(content)
    assert library.problem(path) is None
    path.write_bytes(damage(content))
    assert said in library.problem(path)


def test_what_is_no_file_is_not_loaded(tmp_path):
    assert "not a file" in library.problem(tmp_path)
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert "not a file" in library.problem(tmp_path / "loop")
    if os.geteuid():  # root may read all
        (tmp_path / "lib.so").write_bytes(b"")
        (tmp_path / "lib.so").chmod(0)
        assert "cannot be read" in library.problem(tmp_path / "lib.so")


@pytest.mark.parametrize("content", [None, b"not a library"], ids=["missing", "broken"])
def test_without_a_library_the_next_engine_serves(content, tmp_path):
    """A file that is there and cannot be used is warned of, once."""
    path = tmp_path / "lib.so"
    if content:
        path.write_bytes(content)
    served, explanation, warned = explain_with(**{library.VARIABLE: str(path)})
    assert served != "native"
    assert library.REMEDY in explanation
    assert warned.count(f"UserWarning: The native library {path}") == (content is not None)


def test_a_library_that_cannot_be_linked_does_not_stop_a_layer(tmp_path):
    """Whole, but no library: as one for another processor."""
    path = tmp_path / "lib.so"
    path.write_bytes(build.seal(b"\x7fELF for another processor"))
    served, explanation, _ = explain_with(**{library.VARIABLE: str(path)})
    assert served != "native"
    assert "cannot be loaded" in explanation


@pytest.mark.parametrize(
    ("text", "threads", "said"),
    [
        ("", 0, ""),
        ("0", 0, ""),
        ("3", 3, ""),
        (" +03 ", 3, ""),
        *(
            (text, 0, "no number of threads")
            for text in ("abc", "2.5", "1,2", "9" * 20, "9" * 5000, "-2", "٣", "1 2", "0x2")
        ),
        ("70000", 1024, "the most it takes"),
    ],
    ids=lambda value: str(value)[:20],
)
@pytest.mark.filterwarnings("ignore:TF_NUM_INTRAOP_THREADS")
def test_the_number_of_threads_is_read_as_tensorflow_reads_it(monkeypatch, text, threads, said):
    monkeypatch.setenv(library.THREADS_VARIABLE, text)
    number, note = library.threads_of(0)
    assert number == threads
    assert said in note
    assert bool(said) == bool(note)
    assert library.threads_of(5) == (5, "")  # what was configured goes first


def test_an_unreadable_number_of_threads_is_said_once(built):
    served, explanation, warned = explain_with(**{library.THREADS_VARIABLE: "2.5"})
    assert served == "native"
    assert "'2.5' is no number of threads" in explanation
    assert warned.count("UserWarning: TF_NUM_INTRAOP_THREADS='2.5'") == 1


@pytest.mark.parametrize("kind", LAYERS)
def test_it_really_ran(built, kind):
    """By its name, and by TensorFlow's: the graph holds its operation."""
    import tensorflow as tf

    layer = LAYERS[kind][0](4, engine="native")
    layer(X)
    assert layer.last_engine == "native"
    assert "compiled loops" in layer.explain_engine(X.shape).answers["native"].reason
    graph = tf.function(lambda x: layer(x)).get_concrete_function(tf.constant(X)).graph
    (operation,) = [o for o in graph.get_operations() if o.type == "KerasLstmCustom>Forward"]
    assert operation.get_attr("cell").decode() == kind


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "mixed_float16", "mixed_bfloat16"])
def test_half_precision_is_widened_inside(built, dtype, kind):
    layer = LAYERS[kind][0](5, dtype=dtype, recurrent_initializer="zeros")  # the default has no bfloat16
    answer = layer.explain_engine((4, 6, 3), training=True)
    assert (answer.chosen, answer.answers["native"].reason.endswith("in float32 inside")) == ("native", True)
    assert layer(X).dtype.name == dtype.removeprefix("mixed_")
    assert layer.last_engine == "native"
