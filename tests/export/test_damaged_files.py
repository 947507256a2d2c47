"""Damaged and hostile TFLite files: a report or an ExportError, and the process that asks goes on."""

from __future__ import annotations

import collections
import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_lstm_custom import LSTM, export
from keras_lstm_custom.errors import ArgumentError, ExportError
from keras_lstm_custom.export.running import runtimes, worker
from keras_lstm_custom.export.running.report import ExportReport
from keras_lstm_custom.export.running.verify import check, contents
from tests.damage import damaged

pytestmark = pytest.mark.tensorflow

X = np.random.default_rng(0).standard_normal((4, 5, 3)).astype("float32")


@pytest.fixture(scope="module")
def model():
    return keras.Sequential([keras.Input((5, 3)), LSTM(4), keras.layers.Dense(2)])


@pytest.fixture(scope="module")
def good(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("good") / "good.tflite"
    export.tflite(model, path)
    return path


def outcome(call):
    try:
        return type(call()).__name__
    except ExportError as error:
        return str(error).partition("\n")[0]


def test_what_a_damaged_file_holds(good, tmp_path):
    """Read in this process, so many are quick."""
    path = tmp_path / "bad.tflite"
    outcomes = collections.Counter()
    for content in damaged(good.read_bytes(), 600):
        path.write_bytes(content)
        outcomes[outcome(lambda: contents(path))] += 1
    assert outcomes.keys() == {f"{str(path)!r} is not a TFLite file.", "tuple"}
    assert min(outcomes.values()) > 50


def test_damaged_files_are_verified_or_refused(model, good, tmp_path):
    """Those whose contents can be read come to the runtimes, which crash, refuse, hang, or give other numbers."""
    path, ran = tmp_path / "bad.tflite", 0
    for content in damaged(good.read_bytes(), 48, seed=1):
        path.write_bytes(content)
        try:
            contents(path)
        except ExportError:
            continue
        report = export.verify(path, model, X, ["litert"], timed_invocations=0)
        assert isinstance(report, ExportReport)
        json.loads(report.to_json())
        ran += 1
    assert ran > 5
    assert os.listdir(tmp_path) == ["bad.tflite"]  # no image of a process that crashed


@pytest.mark.parametrize("name", ["none.tflite", ".", "n" * 300, "nul\0", "secret/x.tflite"])
def test_no_file(model, tmp_path, name):
    with pytest.raises(ExportError, match="not a TFLite file"):
        export.verify(tmp_path / name, model, X)


def test_a_file_in_the_home_folder(model, good, monkeypatch):
    monkeypatch.setenv("HOME", str(good.parent))
    assert export.verify("~/good.tflite", model, X, ["litert"], timed_invocations=0).ok


def test_options_that_are_unknown(model, good):
    for options in ({"quantize": "int4"}, {"runtimes": ["tpu"]}):
        with pytest.raises(ArgumentError):
            export.verify(good, model, X, **options)


def test_an_op_of_a_newer_format_has_its_number(good, tmp_path):
    from keras_lstm_custom.export.file.graph import Graph

    graph = Graph(good.read_bytes())
    graph.model.operatorCodes[0].builtinCode = 900
    (tmp_path / "new.tflite").write_bytes(graph.pack())
    assert "op 900" in contents(tmp_path / "new.tflite")[0]


def test_outputs_that_are_no_numbers():
    run = runtimes.Run("litert", ok=True, outputs=(np.array([["a"]]),))
    result = check(run, [np.zeros((1, 1))], ["y"], 1.0)
    assert not result.ok
    assert "<U1" in result.message


@pytest.mark.parametrize("answer", [b"", b"no archive", b"PK\x03\x04" + bytes(50)])
def test_an_answer_that_cannot_be_read_is_a_result(good, monkeypatch, answer):
    """Of a worker whose memory the file has destroyed."""

    def answered(command, **options):
        with open(command[-1], "wb") as file:
            file.write(answer)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(runtimes.subprocess, "run", answered)
    run = runtimes.run_file(good, [X], "litert")
    assert not run.ok
    assert "no readable answer" in run.message


def test_a_full_disk_for_temporary_files(model, good, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    with pytest.raises(ExportError, match=r"(?s)temporary file cannot be written.*TMPDIR"):
        export.verify(good, model, X)


def test_a_worker_limits_itself(good):
    """In a process of its own, as it cannot be undone."""
    code = (
        "import json, resource, sys; sys.path.insert(0, sys.argv[1]); import worker;"
        "worker.limit({'path': sys.argv[2], 'timeout': 30.0});"
        "print(json.dumps([resource.getrlimit(getattr(resource, f'RLIMIT_{n}'))[0] for n in ('DATA', 'CPU', 'CORE')]))"
    )
    folder = os.path.dirname(worker.__file__)
    done = subprocess.run([sys.executable, "-P", "-c", code, folder, str(good)], capture_output=True, text=True)
    data, cpu, core = json.loads(done.stdout)
    assert 0 < data <= worker.MEMORY + 16 * good.stat().st_size
    assert cpu == 31
    assert core == 0
