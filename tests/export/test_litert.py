"""`export.tflite`: the whole way, unrolled files, bad input, and that nothing is left behind."""

import importlib.util
import os
import subprocess
import sys

import keras
import numpy as np
import pytest

import keras_lstm_custom as klc
from keras_lstm_custom import export
from keras_lstm_custom.errors import ArgumentError, ExportError, InputError
from tests.export import models
from tests.export.interpreters import run

pytestmark = pytest.mark.tensorflow

layers = keras.layers


@pytest.fixture(scope="module")
def model():
    return models.randomised(models.ours())


@pytest.fixture(scope="module")
def data(model):
    return models.inputs_for(model, 48)[0]


def test_int8_for_both_runtimes(model, data, tmp_path):
    report = export.tflite(model, tmp_path / "a.tflite", "int8", calibration=data, runtime="both", io_dtype="float32")
    assert report.ok
    assert report.quantize == "int8"
    assert report.bytes == os.path.getsize(tmp_path / "a.tflite")
    assert report.ops["UNIDIRECTIONAL_SEQUENCE_LSTM"] == 2
    (got,) = run((tmp_path / "a.tflite").read_bytes(), [data[:4]])
    assert np.abs(got - np.asarray(model(data[:4]))).max() < 0.05


@pytest.mark.parametrize("rows", [8, 31, 32, 48, 500])
def test_rows_to_compare_on_are_not_those_of_the_calibration(rows):
    from keras_lstm_custom.export.model.calibration import held_back

    data = np.arange(rows)[:, None]
    (kept,), (shown,), note = held_back([data])
    if rows < 32:
        assert len(kept) == rows
        assert "rows that it was calibrated with" in note
    else:
        assert sorted([*kept.ravel(), *shown.ravel()]) == list(range(rows))
        assert len(shown) == min(32, rows // 4)
        assert str(len(shown)) in note


def test_the_report_says_on_which_rows_it_was_compared(model, data, tmp_path):
    report = export.tflite(model, tmp_path / "a.tflite", "int8", calibration=data)
    assert "Calibrated with 36 rows and compared on 12 others." in report.notes


def test_float_without_calibration(model, tmp_path):
    assert export.tflite(model, tmp_path / "a.tflite", runtime="both").ok


def test_another_length_than_the_models(model, tmp_path):
    report = export.tflite(model, tmp_path / "a.tflite", timesteps=4)
    assert report.ok
    x = np.random.default_rng(0).standard_normal((1, 4, models.F)).astype(np.float32)
    run((tmp_path / "a.tflite").read_bytes(), [x])


@pytest.mark.parametrize("form", ["batches", "pairs"])
def test_calibration_by_batches(model, data, form, tmp_path):
    if form == "batches":
        assert export.tflite(model, tmp_path / "a.tflite", "int8", calibration=iter(np.split(data, 4))).ok
    else:
        several = models.randomised(models.several())
        rows = zip(*models.inputs_for(several, 40), strict=True)
        batches = [[a[None], b[None]] for a, b in rows]
        assert export.tflite(several, tmp_path / "a.tflite", "int8", calibration=batches).ok


# Unrolled


@pytest.mark.parametrize("name", ["bidirectional", "cells", "returned_state", "vanilla_sequences"])
def test_an_unrolled_file_runs_on_every_runtime(name, tmp_path):
    report = export.tflite(models.randomised(models.MODELS[name]()), tmp_path / "a.tflite", runtime="both", fused=False)
    assert "UNIDIRECTIONAL_SEQUENCE_LSTM" not in report.ops
    assert "WHILE" not in report.ops
    for check in report.checks:  # the CompiledModel API among them
        assert check.ok, check


def odd_activation(cell=layers.LSTM):
    return keras.Sequential([keras.Input((4, 3)), cell(5, activation="relu", name="odd"), layers.Dense(2)])


def masked():
    return keras.Sequential([keras.Input((4, 3)), layers.Masking(), layers.LSTM(5, name="odd")])


def hard_sigmoid():
    return keras.Sequential([keras.Input((4, 3)), klc.LSTM(5, recurrent_activation="hard_sigmoid", name="odd")])


@pytest.mark.parametrize("build", [odd_activation, lambda: odd_activation(klc.VanillaRNN), masked, hard_sigmoid])
def test_what_the_fused_op_cannot_do_is_a_loop(build, tmp_path):
    """It runs everywhere, by the CompiledModel API, too; and the report says so."""
    report = export.tflite(models.randomised(build()), tmp_path / "a.tflite", runtime="both")
    assert report.ops["WHILE"] == 1
    assert "UNIDIRECTIONAL_SEQUENCE_LSTM" not in report.ops
    assert all(check.ok for check in report.checks), report
    assert any("A loop over the steps" in note and "'odd'" in note for note in report.notes)


def test_a_gru_takes_int16_on_litert(tmp_path):
    """LiteRT refuses int16 for the fused op alone."""
    model = models.randomised(keras.Sequential([keras.Input((4, 3)), layers.GRU(5), layers.Dense(2)]))
    x = np.random.default_rng(0).standard_normal((40, 4, 3)).astype("float32")
    assert export.tflite(model, tmp_path / "a.tflite", "int16x8", x, runtime="both").ok


def test_too_long_to_unroll(tmp_path):
    model = keras.Sequential([keras.Input((5000, 3)), layers.LSTM(5)])
    with pytest.raises(ExportError, match=r"(?s)too long to unroll.*5000"):
        export.tflite(model, tmp_path / "a.tflite", fused=False)


# Bad input


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.lstm = layers.LSTM(4)

    def call(self, x):
        return self.lstm(x)


def test_a_subclassed_model(tmp_path):
    model = Subclassed()
    model(np.zeros((1, 4, 3)))
    with pytest.raises(ExportError, match="subclassed"):
        export.tflite(model, tmp_path / "a.tflite")


def test_an_unbuilt_model(tmp_path):
    with pytest.raises(ExportError, match="no weights yet"):
        export.tflite(keras.Sequential([layers.LSTM(4)]), tmp_path / "a.tflite")


def test_an_open_length(tmp_path):
    with pytest.raises(ExportError, match=r"(?s)size of the input.*timesteps=100"):
        export.tflite(models.open_length(), tmp_path / "a.tflite")


def test_an_op_that_tflite_does_not_have(tmp_path):
    x = keras.Input((4, 3))
    model = keras.Model(x, keras.ops.erfinv(layers.LSTM(4)(x)))
    with pytest.raises(ExportError, match=r"(?i)(operations that TFLite does not have|cannot write)"):
        export.tflite(model, tmp_path / "a.tflite")
    assert os.listdir(tmp_path) == []


def nan(data):
    broken = data.copy()
    broken[3, 2, 1] = np.nan
    return broken


@pytest.mark.parametrize(
    ("calibration", "reason"),
    [
        (lambda data: None, "(?s)range of real input.*calibration=x_train"),
        (lambda data: data[:, :, :2], r"(?s)do not fit.*\(48, 7, 2\)"),
        (nan, "(?s)NaN or infinity.*1 that are not"),
        (np.ones_like, r"(?s)does not vary.*value 1 everywhere"),
        (lambda data: data[:0], "calibration is empty"),
        (lambda data: [], "batches of the calibration"),
    ],
)
def test_calibration_that_cannot_be_used(model, data, calibration, reason, tmp_path):
    with pytest.raises(InputError, match=reason):
        export.tflite(model, tmp_path / "a.tflite", "int8", calibration=calibration(data))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"quantize": "int4"}, r"(?s)`quantize` is unknown.*'int16x8'.*'int4'"),
        ({"runtime": "phone"}, r"(?s)`runtime` is unknown.*'micro'.*'phone'"),
        ({"io_dtype": "int8"}, r"(?s)`io_dtype` is unknown.*'int8'"),
        ({"quantize": "float16", "runtime": "micro"}, "does not run float16 files"),
        ({"quantize": "dynamic", "runtime": "both"}, "does not run dynamic files"),
        ({"quantize": "int16x8"}, "LiteRT refuses the fused LSTM op with int16"),
    ],
)
def test_options_that_do_not_go(model, data, options, reason, tmp_path):
    with pytest.raises(ArgumentError, match=reason):
        export.tflite(model, tmp_path / "a.tflite", calibration=data, **options)


def test_a_path_that_cannot_be_written(model, tmp_path):
    with pytest.raises(ExportError, match="cannot be written"):
        export.tflite(model, tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(ExportError, match="cannot be written"):
        export.tflite(model, tmp_path / "file" / "a.tflite")


def test_a_wrong_file_is_not_kept_and_an_old_one_stays(model, data, tmp_path):
    target = tmp_path / "a.tflite"
    target.write_bytes(b"old")
    with pytest.raises(ExportError, match=r"(?s)does not give the model's numbers.*1e-09"):
        export.tflite(model, target, "int8", calibration=data, bound=1e-9)
    assert target.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.tflite"]


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="needs torch, another backend than TensorFlow")
def test_another_backend_is_told_what_to_do(tmp_path):
    code = (
        "import keras, keras_lstm_custom as klc; from keras_lstm_custom import export; "
        "export.tflite(keras.Sequential([keras.Input((4, 3)), klc.LSTM(2)]), 'a.tflite')"
    )
    root = os.path.dirname(os.path.dirname(klc.__file__))
    environment = {**os.environ, "KERAS_BACKEND": "torch", "PYTHONPATH": root}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=tmp_path, check=False
    )
    assert "KERAS_BACKEND=tensorflow" in done.stderr
    assert os.listdir(tmp_path) == []
