"""Plain C packages: the numbers of the model, whatever it is made of."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import ops
from typer.testing import CliRunner

import keras_lstm_custom as klc
from keras_lstm_custom import export
from keras_lstm_custom.commands import app
from keras_lstm_custom.errors import ArgumentError, ExportError, InputError
from keras_lstm_custom.export.model.calibration import held_back
from keras_lstm_custom.export.model.samples import predictions
from keras_lstm_custom.export.plain_c import host
from keras_lstm_custom.export.plain_c.files import files
from tests.export.plain_c.building import SANITIZED, failures, package_of
from tests.export.plain_c.zoo import MODELS, F, T, inputs_for, randomised, sequential
from tests.export.random_graphs import random_graph, samples_of

pytestmark = [
    pytest.mark.tensorflow,
    pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc"),
]

layers = keras.layers


def small() -> keras.Model:
    return randomised(sequential(layers.LSTM(4), layers.Dense(2)))


@pytest.fixture(scope="module")
def floats():
    return {name: package_of(randomised(make()), f"m{k}", 1e-5) for k, (name, make) in enumerate(MODELS.items())}


def test_every_model_gives_its_numbers_without_a_word_of_compiler_and_sanitizers(floats, tmp_path):
    assert failures(floats, tmp_path, "-std=c99", "-O0", *SANITIZED) == []


def test_it_is_cpp_too(floats, tmp_path):
    some = {name: floats[name] for name in ("lstm", "masked heads", "attention", "convolutions")}
    some["integers"] = package_of(small(), "integers", 0.05, "int16x8")
    assert failures(some, tmp_path, "-x", "c++", "-std=c++17", "-O0", compiler="g++") == []


def test_int8_weights_and_integers(tmp_path):
    jumping = ("activation sparsemax", "activation hard_shrink")  # no integers; at its jump any error is a large one
    packages = {}
    for k, name in enumerate(name for name in MODELS if name not in jumping):
        model = randomised(MODELS[name]())
        packages[f"int16x8 {name}"] = package_of(model, f"q{k}", 0.05, "int16x8", rows=12)
        if not name.startswith("activation"):
            packages[f"int8 {name}"] = package_of(model, f"e{k}", 0.05, "int8", rows=12)
    assert failures(packages, tmp_path, "-std=c99", "-O0") == []


def test_integers_need_no_mathematics_and_no_float_between_input_and_output(tmp_path):
    export.c(small(), tmp_path / "net", "int16x8", inputs_for(small(), 24)[0])
    text = (tmp_path / "net" / "net.c").read_text()
    inside = re.sub(r"static void k_(load|store)_f.*?\n}\n", "", text, flags=re.DOTALL)
    assert "math.h" not in text
    assert not re.search(r"\b(double|expf|tanhf)\b", inside)
    assert "malloc" not in text


def test_no_input_makes_integers_overflow(tmp_path):
    """The undefined-behaviour sanitizer ends the program if one does."""
    model = randomised(
        sequential(
            layers.LayerNormalization(),
            klc.LSTM(6, peepholes=True, return_sequences=True),
            klc.SLSTM(4, return_sequences=True),
            layers.Dense(5, activation="gelu"),
            layers.GRU(4, return_sequences=True),
            layers.Dense(3, activation="softmax"),
        )
    )
    package = package_of(model, "net", 1.0, "int16x8", rows=12)
    for name, text in {**files(package), "driver.c": host.driver(package, "int16_t", "_q")}.items():
        (tmp_path / name).write_text(text)
    host.build(["gcc"], tmp_path, ["driver.c", "net.c"], "driver", "-O1", "-I.", *SANITIZED)
    x = np.random.default_rng(0).choice([-32768, -1, 0, 1, 32767], (50, T * F)).astype(np.int16)
    ran = subprocess.run([tmp_path / "driver"], input=x.tobytes(), capture_output=True, check=False)
    assert ran.returncode == 0, ran.stderr[:2000]
    assert len(ran.stdout) == 50 * T * 3 * 2


@pytest.mark.parametrize(("seed", "quantize"), [(0, None), (1, "int8"), (2, "int16x8"), (4, "int16x8")])
def test_random_graphs(seed, quantize, tmp_path):
    model = random_graph(seed, largest_units=24, longest=20)
    report = export.c(model, tmp_path / "net", quantize, samples_of(model, 48))
    assert report.ok
    assert report.checks[0].ran
    assert report.bound == (1e-5 if quantize is None else 0.02)


@pytest.mark.parametrize("quantize", [None, "int8"])
def test_a_package_passes_its_test_however_its_error_is_spread(quantize, tmp_path, monkeypatch):
    """One value in a thousand is wrong by a tenth: a small error of the whole, and more than a test may let pass."""
    model, x = small(), inputs_for(small(), 48)
    rows = held_back(x)[1] if quantize else [array[:32] for array in x]
    expected = [np.array(y) for y in predictions(model, rows)]
    for y in expected:
        y[0, 0] += 0.7 * np.abs(y).max()
    monkeypatch.setattr(sys.modules[export.c.__module__], "predictions", lambda *_: expected)
    report = export.c(model, tmp_path / "net", quantize, x, bound=1.0)
    assert report.ok


def test_the_test_of_int8_sees_what_its_error_would_hide(tmp_path):
    """It expects what this computer made of it, not what the model gives within 6 %."""
    model = small()
    export.c(model, tmp_path / "net", "int8", inputs_for(model, 48))
    text = (tmp_path / "net" / "net.c").read_text()
    (bias,) = re.findall(r"static const float c\d+\[2\] = \{([^}]*)\}", text)[:1]
    shifted = ", ".join(f"{float(number.strip().rstrip('f')) + 0.01:.9g}f" for number in bias.split(","))
    for name, body in (("right", text), ("wrong", text.replace(bias, shifted))):
        (tmp_path / "net" / "net.c").write_text(body)
        host.build(["gcc"], tmp_path / "net", ["net.c", "net_test.c"], name, "-O1")
    ends = [subprocess.run([tmp_path / "net" / name], check=False).returncode for name in ("right", "wrong")]
    assert ends == [0, 1]


@pytest.mark.parametrize("offset", [-3.0, 4.0])
def test_an_output_that_hardly_moves_is_as_near_as_float32_shows(offset, tmp_path):
    """Float32 has steps of 6e-8 below 1, and a sigmoid near 1 a deviation of 0.001: 1e-5 of that is less than one."""
    model = sequential(layers.LSTM(4), layers.Dense(3, activation="sigmoid"))
    kernel, bias = model.layers[-1].get_weights()
    model.layers[-1].set_weights([0.05 * kernel, bias + offset])
    x = inputs_for(model, 32)
    report = export.c(model, tmp_path / "net", calibration=x)
    assert report.ok
    (output,) = report.checks[0].outputs
    assert output.relative_to_signal > 1e-5
    assert any("hardly moves" in note for note in report.notes)
    with pytest.raises(ExportError, match="numbers"):
        export.c(model, tmp_path / "net", calibration=x, bound=1e-5)


def test_the_report_and_the_files(tmp_path):
    model = small()
    report = export.c(model, tmp_path / "gesture", calibration=inputs_for(model, 8)[0])
    made = {path.name for path in (tmp_path / "gesture").iterdir()}
    assert made == {"gesture.h", "gesture.c", "gesture_test.c", "Makefile", "CMakeLists.txt", "keras_lstm_custom.json"}
    assert report.ok
    assert report.check("host C").max_error < 1e-6
    assert report.bytes == 4 * model.count_params()
    assert report.arena_bytes == 4 * (8 + 16)  # h and c, and the gates of one step; no sequence
    assert any("gesture_reset" in note for note in report.notes)
    assert json.loads((tmp_path / "gesture" / "keras_lstm_custom.json").read_text())["quantize"] is None


def test_layers_that_read_forwards_run_step_by_step_together(tmp_path):
    """A stack needs no memory for the sequences between its layers, however long they are."""
    model = sequential(layers.LSTM(4, return_sequences=True), layers.Dense(3), layers.GRU(4), shape=(500, F))
    assert export.c(model, tmp_path / "net").arena_bytes < 4 * 100


@pytest.mark.parametrize(
    ("part", "named"),
    [
        (layers.Bidirectional(layers.LSTM(3)), "bidirectional"),
        (layers.LSTM(3, go_backwards=True), "lstm"),
        (layers.GlobalAveragePooling1D(), "pooling"),
    ],
)
def test_what_cannot_run_step_by_step_has_no_step(part, named, tmp_path):
    report = export.c(sequential(part, layers.Dense(2)), tmp_path / "net")
    assert any("Not step by step" in note and named in note for note in report.notes)
    assert "net_step" not in (tmp_path / "net" / "net.h").read_text()


def test_the_test_of_a_package_sees_the_recurrence(tmp_path):
    """With all recurrent weights at zero it fails."""
    model = small()
    kernel = model.layers[0].cell.recurrent_kernel
    before = np.asarray(kernel)
    kernel.assign(0 * before)
    wrong = package_of(model, "net", 1e-5)
    kernel.assign(before)
    right = package_of(model, "net", 1e-5)
    wrong.expected = right.expected
    assert failures({"right": right}, tmp_path, "-std=c99", "-O0") == []
    assert failures({"wrong": wrong}, tmp_path, "-std=c99", "-O0") == ["wrong"]


def test_without_a_compiler_the_report_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("CC", "no-such-compiler")
    report = export.c(small(), tmp_path / "net")
    assert (tmp_path / "net" / "net.c").exists()
    assert not report.ok
    assert any("no C compiler" in note for note in report.notes)


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"quantize": "int16x8"}, InputError, "calibration"),
        ({"quantize": "float16"}, ArgumentError, "int16x8"),
        ({"name": "3d"}, ArgumentError, "identifier"),
        ({"name": "class"}, ArgumentError, "identifier"),
        ({"bound": 1e-12}, ExportError, "numbers"),
        *(({"bound": bound}, ArgumentError, "`bound`") for bound in (float("nan"), -1, "0.1", True, np.float32(-1))),
        ({"quantize": ["int8"]}, ArgumentError, "`quantize`"),
    ],
)
def test_bad_input_is_told_and_nothing_is_written(options, error, said, tmp_path):
    with pytest.raises(error, match=said):
        export.c(small(), tmp_path / "net", **options)
    assert not (tmp_path / "net").exists()


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (lambda: sequential(layers.ConvLSTM1D(2, 3), shape=(4, 8, 1)), "conv_lstm1d"),
        (
            lambda: sequential(layers.TimeDistributed(layers.LSTM(2)), shape=(65, 3, 2)),
            "(?s)time_distributed.*65 time steps",
        ),
        (lambda: _gated(), "multi-head attention with return_att"),
        (lambda: _without_layers(), "nothing to run"),
        (lambda: keras.Sequential([keras.Input((None, F)), layers.LSTM(2)]), "timesteps"),
    ],
)
def test_what_has_no_c_is_named(model, said, tmp_path):
    with pytest.raises(ExportError, match=said):
        export.c(model(), tmp_path / "net")
    assert not (tmp_path / "net").exists()


def _without_layers():
    x = keras.Input((T, F))
    try:
        return keras.Model(x, x)
    except ValueError:
        pytest.skip("this Keras makes no model without layers")


def _gated() -> keras.Model:
    x = keras.Input((T, F))
    return keras.Model(x, layers.MultiHeadAttention(1, 2)(x, x, return_attention_scores=True))


def test_what_has_no_integers_is_named(tmp_path):
    model = MODELS["activation sparsemax"]()
    with pytest.raises(ExportError, match="sparsemax in integers"):
        export.c(model, tmp_path / "net", "int16x8", inputs_for(model, 12))


def _counting(timesteps: int) -> keras.Model:
    """Return an LSTM whose gates are open, so that c is about the number of the step."""
    model = sequential(layers.LSTM(3, return_sequences=True), layers.Dense(2), shape=(timesteps, F))
    kernel, recurrent_kernel, _ = model.layers[0].get_weights()
    model.layers[0].set_weights([0.1 * kernel, 0 * recurrent_kernel, np.repeat([9.0, 9.0, 9.0, 0.0], 3)])
    return model


def test_a_cell_state_that_integers_cannot_hold_is_told_with_its_bound(tmp_path):
    model = _counting(200)
    assert export.c(model, tmp_path / "held", "int16x8", samples_of(model, 12)).ok
    model = _counting(300)
    with pytest.raises(ExportError, match=r"'lstm.*' computes larger numbers") as told:
        export.c(model, tmp_path / "net", "int16x8", samples_of(model, 12))
    assert "|c| of at most 256" in str(told.value)
    assert "|c| of 3" in str(told.value)
    assert not (tmp_path / "net").exists()
    assert export.c(model, tmp_path / "net", "int8", samples_of(model, 12)).ok


def test_an_error_that_is_too_large_names_the_coarsest_state(tmp_path):
    model = sequential(layers.LSTM(3), layers.Dense(2))
    with pytest.raises(ExportError, match=r"\|c\| of 'lstm.*' reaches .*, in steps of "):
        export.c(model, tmp_path / "net", "int16x8", samples_of(model, 12), bound=1e-9)


def test_values_that_are_no_numbers_for_integers_are_told(tmp_path):
    model = sequential(layers.Rescaling(30.0), layers.Activation("exponential"), layers.Dense(2))
    with pytest.raises(ExportError, match=r"(?s)'activation.*a value of at most 1e"):
        export.c(model, tmp_path / "net", "int16x8", samples_of(model, 12))


@pytest.mark.parametrize(
    "part",
    [layers.LayerNormalization(epsilon=1e-6), klc.LSTM(6, layer_normalization="gate", return_sequences=True)],
    ids=["layer", "cell"],
)
def test_integers_normalise_small_numbers_beside_large_ones(part, tmp_path):
    """Squares of numbers that differ by a factor of 100 differ by 10,000."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((48, T, F)) * 10.0 ** rng.uniform(-2, 0.5, (48, T, 1))
    model = randomised(sequential(part, layers.LSTM(4)))
    assert export.c(model, tmp_path / "net", "int16x8", x.astype(np.float32)).ok


def test_integers_show_small_signals(tmp_path):
    """Embeddings begin within 0.05: σ and tanh must read their numbers as finely as these lie in memory."""
    keras.utils.set_random_seed(0)
    model = sequential(layers.LSTM(5, return_sequences=True), layers.LSTM(4), layers.Dense(2))
    x = [0.02 * array for array in samples_of(model, 48)]
    report = export.c(model, tmp_path / "net", "int16x8", x)
    assert report.checks[0].relative_to_signal < 0.01


def test_tokens_that_no_int16_holds_are_told(tmp_path):
    tokens = np.random.default_rng(0).integers(0, 40000, (32, 6)).astype(np.float32)
    model = randomised(sequential(layers.Embedding(40000, 2), layers.LSTM(2), shape=(6,)))
    with pytest.raises(ExportError, match="tokens above 32767"):
        export.c(model, tmp_path / "net", "int16x8", tokens)
    assert export.c(model, tmp_path / "held", "int16x8", tokens // 2).ok


def test_a_folder_of_somebody_else_stays(tmp_path):
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "mine.txt").write_text("mine")
    with pytest.raises(ExportError, match="not written by this package"):
        export.c(small(), tmp_path / "net")
    assert [path.name for path in (tmp_path / "net").iterdir()] == ["mine.txt"]


def test_another_length_than_the_models(tmp_path):
    report = export.c(small(), tmp_path / "net", timesteps=11)
    assert report.ok
    assert "11 time steps" in (tmp_path / "net" / "net.h").read_text()


def test_the_command(tmp_path):
    small().save(tmp_path / "model.keras")
    np.save(tmp_path / "x.npy", inputs_for(small(), 24)[0])
    arguments = ["c", "model.keras", "out", "--quantize", "int16x8", "--calibration", "x.npy", "--name", "gesture"]
    arguments = [str(tmp_path / a) if a in ("model.keras", "out", "x.npy") else a for a in arguments]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "gesture_run_q" in (tmp_path / "out" / "gesture.h").read_text()


def test_a_bound_of_numpy_is_one_and_a_driver_is_a_name(tmp_path):
    report = export.c(small(), tmp_path / "driver", bound=np.float32(1e-3))
    assert report.ok
    assert type(report.bound) is float
    assert (tmp_path / "driver" / "driver_test.c").exists()


def test_a_variable_cc_that_is_no_command(tmp_path, monkeypatch):
    monkeypatch.setenv("CC", "cc '")
    with pytest.raises(ExportError, match=r"(?s)CC is no command.*No closing quotation.*What to do"):
        export.c(small(), tmp_path / "net")
    assert not (tmp_path / "net").exists()


@pytest.mark.parametrize(
    "function",
    [
        lambda x: ops.cast(ops.cast(3 * x, "int32"), "float32"),
        lambda x: ops.cast(ops.cast(ops.relu(x), "bool"), "float32"),
        lambda x: ops.cast(ops.cast(x > 0.2, "int32"), "float32") + x,
        lambda x: ops.squareplus(x, 2),
        lambda x: x * ops.cast(ops.logical_and(x, ops.logical_or(x, x > 1)), "float32"),
        lambda x: x * ops.cast(ops.any(-ops.abs(x), axis=-1, keepdims=True), "float32"),
        lambda x: x * ops.max(x, axis=-1, keepdims=True, initial=0.5),
    ],
    ids=["whole", "truth", "whole already", "squareplus", "and, or", "any", "a first maximum"],
)
def test_casts_and_options_of_operations_are_computed(function, tmp_path):
    inputs = keras.Input((5, F))
    model = keras.Model(inputs, layers.Dense(2)(layers.LSTM(3)(function(inputs))))
    assert export.c(model, tmp_path / "net", calibration=samples_of(model, 12)).ok
