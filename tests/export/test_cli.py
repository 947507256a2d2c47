"""The command line: what it writes, what it shows, and how it fails."""

import importlib.util
import json

import keras
import numpy as np
import pytest
from typer.testing import CliRunner

from keras_lstm_custom import LSTM
from keras_lstm_custom.cli import app
from tests.export import models

pytestmark = pytest.mark.tensorflow

HAS_ONNX = all(importlib.util.find_spec(name) for name in ("tf2onnx", "onnx", "onnxruntime"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A saved model and calibration data."""
    folder = tmp_path_factory.mktemp("cli")
    model = models.randomised(keras.Sequential([keras.Input((6, 3)), LSTM(5), keras.layers.Dense(2, name="y")]))
    model.save(folder / "model.keras")
    np.save(folder / "data.npy", np.random.default_rng(0).standard_normal((20, 6, 3)).astype("float32"))
    return folder


def call(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_export_and_verify(folder):
    out, report = folder / "out.tflite", folder / "report.json"
    options = ["--quantize", "int8", "--calibration", folder / "data.npy", "--runtime", "both", "--json", report]
    done = call("export", folder / "model.keras", out, *options)
    assert done.exit_code == 0, done.output
    assert "UNIDIRECTIONAL_SEQUENCE_LSTM" in done.output
    assert "litert" in done.output
    assert "micro" in done.output
    found = json.loads(report.read_text())
    assert found["ok"]
    assert found["quantize"] == "int8"
    assert found["bytes"] == out.stat().st_size
    done = call("verify", out, folder / "model.keras", folder / "data.npy")
    assert done.exit_code == 0, done.output
    done = call("verify", out, folder / "model.keras", folder / "data.npy", "--bound", "1e-9")
    assert done.exit_code == 1
    assert "wrong" in done.output


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["none.keras", "out.tflite"], "There is no file"),
        (["data.npy", "out.tflite"], "cannot be loaded as a Keras model"),
        (["model.keras", "x.tflite", "--quantize", "int8"], "calibration"),
        (["model.keras", "x.tflite", "--quantize", "int4"], "'int16x8'"),
        (["model.keras", "x.tflite", "--quantize", "int8", "--calibration", "model.keras"], "does not hold arrays"),
    ],
)
def test_errors_end_the_command_with_their_text(folder, monkeypatch, arguments, told):
    monkeypatch.chdir(folder)
    done = call("export", *arguments)
    assert done.exit_code == 1
    assert told in done.output
    assert "What to do" in done.output
    assert not (folder / "x.tflite").exists()


@pytest.mark.parametrize(
    ("command", "options", "told"),
    [
        (
            "streaming",
            ["--state", "explicit", "--steps", 2, "--quantize", "int8", "--calibration", "data.npy"],
            "micro",
        ),
        ("micro", ["--state", "kept", "--quantize", "float32"], "arena"),
        ("saved-model", ["--stateful"], "serving"),
        pytest.param("onnx", [], "onnxruntime", marks=pytest.mark.skipif(not HAS_ONNX, reason="no tf2onnx here")),
    ],
)
def test_every_export_from_a_shell(folder, monkeypatch, command, options, told):
    monkeypatch.chdir(folder)
    done = call(command, "model.keras", f"{command}.out", "--json", f"{command}.json", *options)
    assert done.exit_code == 0, done.output
    assert told in done.output
    assert json.loads((folder / f"{command}.json").read_text())["ok"]
    assert (folder / f"{command}.out").exists()


def test_help_names_every_command():
    done = call("--help")
    assert all(name in done.output for name in ("export", "streaming", "micro", "onnx", "saved-model", "verify"))
