"""Every export against paths and disks that fail: refused at once, or at the end with all as it was before."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys

import keras
import pytest

from keras_lstm_custom import LSTM, export, writing
from keras_lstm_custom.errors import ExportError

pytestmark = pytest.mark.tensorflow

HAS_ONNX = all(importlib.util.find_spec(name) for name in ("tf2onnx", "onnx", "onnxruntime"))
EXPORTS = {
    "tflite": export.tflite,
    "streaming": export.streaming,
    "saved_model": export.saved_model,
    "micro": lambda model, path: export.micro(model, path, None),
    "onnx": export.onnx,
}
FOLDERS = ("saved_model", "micro")
every_export = pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=pytest.mark.skipif(kind == "onnx" and not HAS_ONNX, reason="no tf2onnx here"))
        for kind in EXPORTS
    ],
)


@pytest.fixture(scope="module")
def model():
    return keras.Sequential([keras.Input((4, 3)), LSTM(2), keras.layers.Dense(1)])


def state(path):
    return {found.relative_to(path): found.read_bytes() for found in path.rglob("*") if found.is_file()}


@every_export
@pytest.mark.parametrize("path", ["", "file/x", "s3://bucket/x", "n" * 256, "/dev/full", "theirs", "circle"])
def test_a_path_that_cannot_be_used_is_refused_before_the_model_is_looked_at(kind, path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("mine")
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "file").write_text("mine")
    (tmp_path / "circle").symlink_to("circle")
    with pytest.raises(ExportError, match=r"cannot be written|was not written by this package"):
        EXPORTS[kind](None, path)
    assert sorted(os.listdir(tmp_path)) == ["circle", "file", "theirs"]


@every_export
def test_odd_names_and_a_disk_that_is_full_at_last(kind, model, tmp_path, monkeypatch):
    """A first export to a name with everything in it; the second fails when all is done; the first stands."""
    path = tmp_path / "two words" / "-ü {x}* 'y'.tflite"
    assert EXPORTS[kind](model, path).ok
    before = state(tmp_path)

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writing.os, "fsync", full)
    for where in (path, tmp_path / "a" / "b"):
        with pytest.raises(ExportError, match="No space left on device"):
            EXPORTS[kind](model, where)
    assert state(tmp_path) == before
    assert os.listdir(tmp_path) == ["two words"]


@pytest.mark.parametrize("name", ["run [1]", "a\\b"])
def test_a_name_that_tensorflow_cannot_load_from_is_refused(tmp_path, name):
    for path in (tmp_path / name, tmp_path / name / "saved"):
        with pytest.raises(ExportError, match="TensorFlow cannot load"):
            export.saved_model(None, path)
    assert os.listdir(tmp_path) == []


def test_a_disk_that_is_full_for_tensorflow(model, tmp_path, monkeypatch):
    """Its errors are no OSErrors."""
    import tensorflow as tf

    def full(*arguments, **options):
        raise tf.errors.ResourceExhaustedError(None, None, "variables/x; No space left on device")

    monkeypatch.setattr(type(keras.export.ExportArchive()), "write_out", full)
    with pytest.raises(ExportError, match="No space left on device"):
        export.saved_model(model, tmp_path / "saved")
    monkeypatch.setattr(tf.saved_model, "save", full)
    with pytest.raises(ExportError, match=r"(?s)No space left on device.*TMPDIR"):
        export.tflite(model, tmp_path / "x.tflite")
    assert os.listdir(tmp_path) == []


SLOWLY = """
import sys, time
import keras
from keras_lstm_custom import LSTM, export

def slowly(*arguments, **options):
    print("at work", flush=True)
    time.sleep(60)

setattr(sys.modules["keras_lstm_custom.export.{module}"], "{work}", slowly)
export.{kind}(keras.Sequential([keras.Input((4, 3)), LSTM(2)]), "out", {more})
"""


@pytest.mark.parametrize(
    ("kind", "module", "work", "more"),
    [("saved_model", "saved_model", "_verified", ""), ("micro", "running.verify", "check", "quantize=None")],
)
def test_a_signal_in_the_midst_of_an_export_leaves_the_earlier_one(model, tmp_path, kind, module, work, more):
    """Also nothing of the worker that runs the file, and of TensorFlow's files on the way."""
    EXPORTS[kind](model, tmp_path / "out")
    (tmp_path / "tmp").mkdir()
    before = state(tmp_path)
    code = SLOWLY.format(kind=kind, module=module, work=work, more=more)
    environment = {**os.environ, "TMPDIR": str(tmp_path / "tmp"), "KERAS_BACKEND": "tensorflow"}
    options = {"cwd": tmp_path, "env": environment, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], **options) as process:
        assert process.stdout.readline() == b"at work\n"
        assert [path for path in (tmp_path / "out").iterdir() if path.name.startswith(writing.PRIVATE)]
        process.terminate()
        process.communicate(timeout=60)
    assert process.returncode == -signal.SIGTERM
    # TensorFlow itself leaves the source of its traced functions, of `predict` as well.
    left = {path: held for path, held in state(tmp_path).items() if "__autograph_generated_file" not in path.name}
    assert left == before
    assert not [path for path in (tmp_path / "tmp").iterdir() if path.is_dir()]
