"""The main job, run small: what it writes must follow from the file it read."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from keras_lstm_custom.errors import ArgumentError, DataError

EXAMPLES = Path(__file__).parents[2] / "examples"
SIZES = {"period": 6, "window": 12, "horizon": 3, "units": 4, "epochs": 2}
pytestmark = pytest.mark.tensorflow  # it exports


@pytest.fixture(scope="module")
def job():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXAMPLES))
        import forecast

        yield forecast


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    """An hourly record of a noisy season of 6 steps on a slope, as a file."""
    time = np.arange(300)
    noise = np.random.default_rng(3).normal(0, 0.2, 300)
    index = pd.date_range("2020-01-01", periods=300, freq="h", name="when")
    load = 40 + 0.02 * time + 5 * np.sin(2 * np.pi * time / 6) + noise
    table = pd.DataFrame({"load": load.round(3), "phase": time % 6}, index=index)
    path = tmp_path_factory.mktemp("data") / "load.csv"
    table.to_csv(path)
    return path, table


@pytest.fixture(scope="module")
def result(job, record, tmp_path_factory):
    """One whole small run, exports included."""
    out = tmp_path_factory.mktemp("runs") / "load"
    metrics = job.run(record[0], "load", unit="MW", out=out, **SIZES)
    return out, metrics


def test_everything_is_written(result):
    out, metrics = result
    assert {path.name for path in out.iterdir()} == {
        *("metrics.json", "forecasts.csv", "next.csv", "forecast.png", "forecaster.json", "model.keras"),
        *("saved_model", "model.tflite"),
    }
    assert json.loads((out / "metrics.json").read_text()) == json.loads(json.dumps(metrics))
    assert (out / "forecast.png").read_bytes().startswith(b"\x89PNG")


def test_both_networks_are_compared_with_the_simple_forecasts(result):
    _, metrics = result
    networks = {name for name, row in metrics["errors"].items() if "epochs" in row}
    assert networks == {"vanilla RNN", "LSTM"}
    simple = {"last value", "window mean", "drift", "seasonal naive (6)", "seasonal naive (24)"}
    assert simple <= set(metrics["errors"]) - networks
    assert metrics["best"] == min(networks, key=lambda name: metrics["errors"][name]["validation_loss"])
    assert metrics["verdict"]["network"] == metrics["best"]


@pytest.mark.parametrize("artefact", ["saved_model", "model.tflite"])
def test_exported_file_gives_the_forecast_beyond_the_record(result, record, artefact):
    """With nothing but the file and the record, in the units of the data: the numbers of `next.csv`."""
    import tensorflow as tf
    from ai_edge_litert.interpreter import Interpreter

    out, metrics = result
    hours = pd.date_range("2020-01-13 12:00", periods=3, freq="h")
    angle = 2 * np.pi * hours.hour / 24
    assert metrics["plan"]["calendar"] == ["hour"]
    inputs = {
        "past": record[1][["load", "phase"]].iloc[-12:].to_numpy("float32")[None],
        "future": np.stack([np.sin(angle), np.cos(angle)], axis=-1).astype("float32")[None],
    }
    if artefact == "saved_model":
        serve = tf.saved_model.load(str(out / artefact)).signatures["serving_default"]
        results = serve(**{name: tf.constant(value) for name, value in inputs.items()})
        (forecast,) = (value.numpy()[0] for value in results.values() if value.ndim == 2)
    else:
        interpreter = Interpreter(str(out / artefact))
        interpreter.allocate_tensors()
        for detail in interpreter.get_input_details():
            (value,) = (v for v in inputs.values() if list(v.shape) == list(detail["shape"]))
            interpreter.set_tensor(detail["index"], value)
        interpreter.invoke()
        results = [interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()]
        (forecast,) = (value[0] for value in results if value.ndim == 2)
    beyond = pd.read_csv(out / "next.csv", parse_dates=["when"]).set_index("when")
    assert list(beyond.index) == list(hours)
    np.testing.assert_allclose(beyond["load"], forecast, rtol=1e-5)  # the table has seven digits


def test_exports_are_proved_in_the_units_of_the_data(result):
    _, metrics = result
    for proof in metrics["exports"].values():
        assert proof["windows"] > 0
        assert all(error < 1e-3 for error in proof["max_error"].values())
    assert "litert" in metrics["exports"]["model.tflite"]["max_error"]
    assert "tensorflow" in metrics["exports"]["saved_model"]["max_error"]


def test_a_second_run_replaces_the_first(job, record, result):
    out, metrics = result
    again = job.run(record[0], "load", out=out, exported=False, **SIZES)
    for name in ("vanilla RNN", "LSTM"):
        assert again["errors"][name]["rmse"] == pytest.approx(metrics["errors"][name]["rmse"], rel=1e-4)


def test_a_folder_of_other_things_is_left_alone(job, record, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ArgumentError, match="not the result of an earlier run"):
        job.run(record[0], "load", out=tmp_path, **SIZES)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_too_short_a_file_says_how_long_it_must_be(job, record, tmp_path):
    short = tmp_path / "short.csv"
    record[1].iloc[:70].to_csv(short)
    with pytest.raises(DataError, match=r"too short[\s\S]*at least \d+ rows[\s\S]*Received"):
        job.run(short, "load", out=tmp_path / "runs")


@pytest.fixture
def bad(record, tmp_path):
    """A file with text among its numbers."""
    lines = record[0].read_text().splitlines()
    lines[4] = lines[4].replace(",", ",about ", 1)
    path = tmp_path / "bad.csv"
    path.write_text("\n".join(lines))
    return path


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--csv", "{bad}", "--target", "load"], "line 5, column 'load': this is not a number"),
        (["--csv", "{bad}", "--target", "lod"], "no column 'lod'"),
        (["--csv", "{bad}"], "--csv needs --target"),
        (["--csv", "nowhere.csv", "--target", "load"], "cannot be read as a CSV file"),
    ],
)
def test_the_command_line_explains_bad_input(job, bad, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(bad.parent)
    monkeypatch.setattr(sys, "argv", ["forecast.py", *(argument.format(bad=bad) for argument in arguments)])
    with pytest.raises(SystemExit) as caught:
        job.main()
    assert caught.value.code  # not zero
    assert words in f"{caught.value.code} {capsys.readouterr().err}"
    assert [path.name for path in bad.parent.iterdir()] == ["bad.csv"]


def test_the_script_itself_ends_without_a_traceback(bad):
    command = [sys.executable, str(EXAMPLES / "forecast.py"), "--csv", str(bad), "--target", "load"]
    environment = {**os.environ, "PYTHONPATH": str(EXAMPLES.parent)}
    process = subprocess.run(command, cwd=bad.parent, capture_output=True, text=True, env=environment, check=False)
    assert process.returncode == 1
    assert "line 5, column 'load'" in process.stderr
    assert "Traceback" not in process.stderr
