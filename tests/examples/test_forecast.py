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
        *("metrics.json", "forecasts.csv", "next.csv", "forecast.png", "vanilla_rnn.keras", "lstm.keras"),
        *("saved_model", "model.tflite"),
    }
    assert json.loads((out / "metrics.json").read_text()) == json.loads(json.dumps(metrics))
    assert (out / "forecast.png").read_bytes().startswith(b"\x89PNG")


def test_truth_and_naive_forecast_are_the_files_own_values(result, record):
    out, metrics = result
    table = pd.read_csv(out / "forecasts.csv", parse_dates=["time"]).set_index("time")
    load = record[1]["load"]
    np.testing.assert_allclose(table["truth"], load[table.index], rtol=1e-4)
    np.testing.assert_allclose(table["seasonal_naive"], load.shift(6)[table.index], rtol=1e-4)
    assert table.index.is_unique
    assert table.index[-1] > load.index[-4]
    # The last 15 % of 300 rows are 45; the first 12 of them are only seen.
    assert table.index[0] == load.index[300 - 45 + 12]
    assert metrics["held_out"]["from"] == f"{table.index[0]:%Y-%m-%d %H:%M}"


def test_errors_are_those_of_all_held_out_windows(result, record):
    _, metrics = result
    held_out = record[1]["load"].to_numpy()[-45:]
    naive = [held_out[s + 12 + k] - held_out[s + 6 + k] for s in range(45 - 14) for k in range(3)]
    assert metrics["errors"]["seasonal naive"]["mae"] == pytest.approx(np.mean(np.abs(naive)), rel=1e-5)
    assert metrics["errors"]["seasonal naive"]["rmse"] == pytest.approx(np.sqrt(np.mean(np.square(naive))), rel=1e-5)
    networks = {name: row for name, row in metrics["errors"].items() if name != "seasonal naive"}
    assert metrics["best"] == min(networks, key=lambda name: networks[name]["validation_loss"])


def test_scaler_knows_the_training_part_only(result, record):
    _, metrics = result
    train = record[1].iloc[: 300 - 2 * 45]
    assert metrics["scaler"]["mean"] == pytest.approx(train.mean().to_dict())
    assert metrics["scaler"]["std"] == pytest.approx(train.std(ddof=0).to_dict())


@pytest.mark.parametrize("artefact", ["saved_model", "model.tflite"])
def test_exported_file_gives_the_forecast_beyond_the_record(result, record, artefact):
    """With nothing but the file, `metrics.json` and the record: the numbers of `next.csv`."""
    import tensorflow as tf
    from ai_edge_litert.interpreter import Interpreter

    out, metrics = result
    mean, std = pd.Series(metrics["scaler"]["mean"]), pd.Series(metrics["scaler"]["std"])
    scaled = (record[1] - mean) / std
    last = scaled["load"].iloc[-1]
    window = scaled.iloc[-12:].assign(load=lambda table: table["load"] - last).to_numpy("float32")[None]
    if artefact == "saved_model":
        serve = tf.saved_model.load(str(out / artefact)).signatures["serving_default"]
        (change,) = serve(tf.constant(window)).values()
        change = change.numpy()
    else:
        interpreter = Interpreter(str(out / artefact))
        interpreter.allocate_tensors()
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], window)
        interpreter.invoke()
        change = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    forecast = (last + change[0]) * std["load"] + mean["load"]
    beyond = pd.read_csv(out / "next.csv", parse_dates=["when"]).set_index("when")
    assert list(beyond.index) == list(pd.date_range("2020-01-13 12:00", periods=3, freq="h"))
    np.testing.assert_allclose(beyond["load"], forecast, rtol=1e-5)  # the table has six digits


def test_exports_are_proved_in_the_units_of_the_data(result):
    _, metrics = result
    for proof in metrics["exports"].values():
        assert proof["windows"] > 0
        assert all(error < 1e-4 for error in proof["max_error"].values())
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
    record[1].iloc[:60].to_csv(short)
    with pytest.raises(DataError, match=r"too short[\s\S]*at least 72 rows[\s\S]*Received"):
        job.run(short, "load", out=tmp_path / "runs")


def test_a_long_record_is_learnt_from_in_strides_that_show_every_time_of_day(job):
    index = pd.date_range("2000-01-01", periods=150_000, freq="h")
    plan = job.make_plan(pd.DataFrame({"load": 0.0}, index=index), "load", None, None, None)
    assert (plan.period, plan.window, plan.horizon) == (24, 48, 24)
    assert plan.stride == 11  # 7.2 million steps for one million; 8, 9 and 10 share a divisor with 24
    assert 150_000 * 48 / plan.stride < job.STEPS_PER_EPOCH


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
