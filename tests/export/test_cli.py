"""The command line: what it writes, what it shows, and how it fails."""

import importlib.util
import json
import re
import subprocess
import sys
import zipfile

import h5py
import keras
import numpy as np
import pytest
from typer.testing import CliRunner

from keras_lstm_custom import LSTM, __version__
from keras_lstm_custom.cli import app
from keras_lstm_custom.errors import DataError
from keras_lstm_custom.installation import installing
from keras_lstm_custom.model_files import FOREIGN, load_model
from tests.damage import damaged
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
    assert "Ends with 0" in done.output


def test_version():
    done = call("--version")
    assert (done.exit_code, done.output) == (0, f"keras-lstm-custom {__version__}\n")


def test_a_wrong_call_ends_with_2():
    for arguments in (
        ["export"],
        ["nothing"],
        ["export", "a", "b", "--steps", "x"],
        ["streaming", "a", "b", "--steps", "x"],
    ):
        assert call(*arguments).exit_code == 2


def test_without_the_extra_it_says_what_to_install():
    code = "import sys; sys.modules['typer'] = None; from keras_lstm_custom.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert installing("export") in done.stderr
    assert "no typer" in done.stderr
    assert "Traceback" not in done.stderr


def refused(folder, name, told):
    done = call("export", folder / name, folder / "x.tflite")
    assert done.exit_code == 1
    assert re.search(told, done.output, re.DOTALL), done.output
    assert "What to do" in done.output
    assert "Traceback" not in done.output
    assert not (folder / "x.tflite").exists()


@pytest.mark.parametrize(("end", "what", "remedy"), FOREIGN)
def test_advice_for_other_kinds_of_files(tmp_path, end, what, remedy):
    (tmp_path / f"model{end.upper()}").write_bytes(b"whatever it holds")
    refused(tmp_path, f"model{end.upper()}", f"{re.escape(what)}.*{re.escape(remedy)}")


def test_advice_by_what_a_file_holds(tmp_path):
    (tmp_path / "model").write_bytes(b"\x1c\0\0\0TFL3" + bytes(99))
    refused(tmp_path, "model", "a TFLite file")
    (tmp_path / "saved" / "variables").mkdir(parents=True)
    refused(tmp_path, "saved", "There is no file.*a folder")
    (tmp_path / "saved" / "saved_model.pb").write_bytes(b"x")
    refused(tmp_path, "saved", "TensorFlow SavedModel.*model.keras")
    for name, content in {
        "empty.keras": b"",
        "text.keras": b"hello",
        "zip.keras": b"PK\x03\x04",
        "none.h5": b"\x89HDF",
    }.items():
        (tmp_path / name).write_bytes(content)
        refused(tmp_path, name, "cannot be loaded as a Keras model")
    refused(tmp_path, "n" * 300, "File name too long")


def rewritten(source, target, **changes):
    """Copy a .keras file with members changed by functions of their text."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            change = changes.get(name.removesuffix(".json"))
            new.writestr(name, content if change is None else change(content.decode()))


def test_a_model_of_a_newer_keras(folder, tmp_path):
    newer = {"metadata": lambda text: re.sub(r'"keras_version": "[^"]*"', '"keras_version": "99.1.0"', text)}
    rewritten(folder / "model.keras", tmp_path / "newer.keras", **newer)
    assert call("export", tmp_path / "newer.keras", tmp_path / "out.tflite").exit_code == 0  # what loads is right
    newer["config"] = lambda text: text.replace('"Dense"', '"Denser"')
    rewritten(folder / "model.keras", tmp_path / "newest.keras", **newer)
    refused(tmp_path, "newest.keras", r"saved by Keras 99\.1\.0, here is .*pip install --upgrade keras")


def test_models_with_code_of_their_own(tmp_path):
    class Mine(keras.layers.Layer):
        def call(self, x):
            return x

    for layer, told in ((Mine(), "Mine.*from Python"), (keras.layers.Lambda(lambda x: x + 1), "Lambda.*trust")):
        model = keras.Sequential([keras.Input((6, 3)), keras.layers.LSTM(5), layer])
        model.save(tmp_path / "model.keras")
        refused(tmp_path, "model.keras", told)


@pytest.mark.filterwarnings("ignore:.*HDF5.*")
def test_a_whole_model_in_an_h5_file_is_taken(folder, tmp_path):
    keras.saving.load_model(folder / "model.keras").save(tmp_path / "model.h5")
    assert call("export", tmp_path / "model.h5", tmp_path / "out.tflite").exit_code == 0


def old_h5(path):
    """Write what `load.keras2` has its own tests for: a model of Keras 2."""
    lstm = {"name": "lstm", "units": 5, "recurrent_activation": "sigmoid", "time_major": False}
    layers = [
        {"class_name": "InputLayer", "config": {"name": "x", "batch_input_shape": [None, 6, 3], "dtype": "float32"}},
        {"class_name": "LSTM", "config": lstm},
    ]
    shapes = {"kernel:0": (3, 20), "recurrent_kernel:0": (5, 20), "bias:0": (20,)}
    with h5py.File(path, "w") as file:
        file.attrs["keras_version"] = "2.15.0"
        file.attrs["model_config"] = json.dumps({"class_name": "Sequential", "config": {"name": "m", "layers": layers}})
        weights = file.create_group("model_weights")
        weights.attrs["layer_names"] = ["lstm"]
        weights.create_group("lstm").attrs["weight_names"] = list(shapes)
        for name, shape in shapes.items():
            weights["lstm"][name] = np.full(shape, 0.1, "float32")
    return path


def test_models_from_elsewhere_are_taken(tmp_path):
    done = call("export", old_h5(tmp_path / "old.h5"), tmp_path / "out.tflite")
    assert done.exit_code == 0, done.output
    if not HAS_ONNX:
        return
    assert call("onnx", tmp_path / "old.h5", tmp_path / "m.onnx").exit_code == 0
    done = call("export", tmp_path / "m.onnx", tmp_path / "out.tflite", "--timesteps", "6")
    assert done.exit_code == 0, done.output


def test_advice_for_what_is_not_taken(tmp_path):
    """Each kind is told by what it holds, and the advice is for that kind."""
    with h5py.File(old_h5(tmp_path / "weights.h5"), "r+") as file:
        del file.attrs["model_config"]
    refused(tmp_path, "weights.h5", r"holds weights without a model.*load\.keras2\(path, model\)")
    with h5py.File(old_h5(tmp_path / "own.h5"), "r+") as file:
        file.attrs["model_config"] = file.attrs["model_config"].replace('"LSTM"', '"MyLSTM"')
    refused(tmp_path, "own.h5", r"custom layer.*'MyLSTM'.*register_keras_serializable")
    with zipfile.ZipFile(tmp_path / "torch", "w") as archive:
        archive.writestr("archive/data.pkl", b"never opened")
    refused(tmp_path, "torch", r"a file of torch.*load\.torch\(torch\.load\(path, weights_only=True\)\)")
    (tmp_path / "model.ckpt-9.index").write_bytes(b"x")
    refused(tmp_path, "model.ckpt-9", r"a checkpoint of TensorFlow.*load\.tf1\(path\)")
    (tmp_path / "saved").mkdir()
    for name, told in {
        "saved_model.pb": "layers cannot be told",
        "keras_metadata.pb": r"model\.save\('model\.h5'\)",
    }.items():
        (tmp_path / "saved" / name).write_bytes(b"x")
        refused(tmp_path, "saved", told)
    (tmp_path / "bad.onnx").write_bytes(b"x")
    refused(tmp_path, "bad.onnx", "an ONNX file of LSTM" if HAS_ONNX else "pip install onnx")


def test_damaged_models_are_loaded_or_refused(folder, tmp_path):
    path = tmp_path / "bad.keras"
    for content in damaged((folder / "model.keras").read_bytes(), 60):
        path.write_bytes(content)
        try:
            load_model(path)
        except DataError:
            continue


@pytest.mark.parametrize("where", ["folder", "", "s3://bucket/x", "/dev/full"])
def test_a_report_that_cannot_be_written_is_said_before_the_work(folder, tmp_path, monkeypatch, where):
    monkeypatch.chdir(tmp_path)  # so that what is written all the same lies there
    (tmp_path / "folder").mkdir()
    target = tmp_path / "folder" if where == "folder" else where
    done = call("export", folder / "model.keras", tmp_path / "out.tflite", "--json", target)
    assert done.exit_code == 1
    assert "cannot be written" in done.output
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_names_with_marks_of_the_console(folder, tmp_path, monkeypatch):
    """rich takes words in brackets for styles."""
    (tmp_path / "[").mkdir()
    (tmp_path / "[" / "b] [red].keras").write_bytes((folder / "model.keras").read_bytes())
    monkeypatch.chdir(tmp_path)
    done = call("export", "[/b] [red].keras", "[/x][green].tflite")
    assert done.exit_code == 0, done.output
    assert "[/x][green].tflite" in done.output


def test_what_is_read_is_not_written_over(folder, tmp_path):
    model = tmp_path / "model.keras"
    model.write_bytes((folder / "model.keras").read_bytes())
    (tmp_path / "link").symlink_to("model.keras")
    before = model.read_bytes()
    for arguments in (["out", "--json", "out"], ["link"], ["model.keras"], ["out", "--json", "model.keras"]):
        done = call("export", model, *(word if word == "--json" else tmp_path / word for word in arguments))
        assert done.exit_code == 1
        assert "was named twice" in done.output
    assert model.read_bytes() == before
    assert not (tmp_path / "out").exists()


def test_a_model_that_unpacks_to_more_than_there_is(folder, monkeypatch):
    monkeypatch.setattr("keras_lstm_custom.array_files.os.sysconf", lambda name: 16)
    refused(folder, "model.keras", "this computer has 256")
