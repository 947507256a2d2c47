"""`keras-lstm-custom forecast` and `predict`, as a user types them."""

import json

import keras
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from keras_lstm_custom.cli import app

SIZES = ["--horizon", "3", "--window", "6", "--period", "6", "--units", "3", "--epochs", "1"]


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A record with two other columns, its beginning alone, and the columns known in advance after its end."""
    folder = tmp_path_factory.mktemp("commands")
    index = pd.date_range("2021-12-20", periods=240, freq="h", tz="+01:00", name="when")
    t, rng = np.arange(243), np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "load": 40 + 5 * np.sin(2 * np.pi * t / 6) + rng.normal(size=243),
            "wind": rng.normal(size=243),
            "open": t % 2,
        },
        index=index.union(pd.date_range(index[-1], periods=4, freq="h")[1:]).rename("when"),
    ).round(3)
    table.iloc[:240].to_csv(folder / "data.csv")
    table.iloc[:200].to_csv(folder / "earlier.csv")
    table.iloc[240:][["open"]].to_csv(folder / "ahead.csv")
    return folder


@pytest.fixture(scope="module")
def trained(folder):
    result = run("forecast", folder / "data.csv", "--target", "load", "--out", folder / "run", *SIZES)
    assert result.exit_code == 0, result.output
    return folder / "run", result.output


def test_forecast_writes_everything_and_says_what_it_did(trained, folder):
    out, output = trained
    files = {"forecast.png", "forecaster.json", "forecasts.csv", "metrics.json", "model.keras", "next.csv"}
    assert {path.name for path in out.iterdir()} == files
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["plan"]["past"] == ["wind", "open"]
    assert metrics["plan"]["calendar"] == ["hour"]
    assert {"better", "baseline"} <= set(metrics["verdict"])
    assert metrics["mase"] > 0
    assert set(metrics["coverage"]) == {"80", "95"}
    for words in (
        "240 rows from 2021-12-20 00:00+01:00",
        "also seen: wind, open",
        "34 held out",
        "is no better",
        "MASE",
    ):
        assert words in output
    assert (out / "forecast.png").read_bytes().startswith(b"\x89PNG")
    held_out = pd.read_csv(out / "forecasts.csv")
    data = pd.read_csv(folder / "data.csv").set_index("when")
    np.testing.assert_allclose(held_out["truth"], data["load"][held_out["time"]], rtol=1e-5)
    np.testing.assert_allclose(held_out["seasonal_naive_6"], data["load"].shift(6)[held_out["time"]], rtol=1e-5)


def test_predict_gives_the_same_next_values_and_those_after_another_file(trained, folder, tmp_path):
    out, _ = trained
    result = run("predict", out, folder / "data.csv", "--out", tmp_path / "next.csv")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "next.csv").read_text() == (out / "next.csv").read_text()
    table = pd.read_csv(tmp_path / "next.csv")
    assert list(table.columns) == ["when", "load", "lower_80", "upper_80", "lower_95", "upper_95"]
    assert table["when"][0] == "2021-12-30 00:00:00+01:00"
    result = run("predict", out, folder / "earlier.csv", "--out", tmp_path / "other.csv")
    assert result.exit_code == 0, result.output
    assert pd.read_csv(tmp_path / "other.csv")["when"][0] == "2021-12-28 08:00:00+01:00"


def test_the_saved_model_serves_without_the_forecaster(trained, folder):
    """In the units of the data, the channels in the order that `forecaster.json` says."""
    out, _ = trained
    facts = json.loads((out / "forecaster.json").read_text())
    data = pd.read_csv(folder / "data.csv")
    model = keras.models.load_model(out / "model.keras")
    past = data[facts["channels"]["past"]].tail(6).to_numpy("float32")[None]
    hours = (np.arange(3) + 0) * 2 * np.pi / 24
    future = np.stack([np.sin(hours), np.cos(hours)], axis=-1).astype("float32")[None]
    assert facts["channels"]["future"] == ["hour_sin", "hour_cos"]
    expected = pd.read_csv(out / "next.csv")["load"]
    got = model.predict({"past": past, "future": future}, verbose=0)["mean"][0]
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_columns_known_in_advance(folder, tmp_path):
    options = ["--target", "load", "--known", "open", "--features", "wind", "--levels", "none", *SIZES]
    result = run("forecast", folder / "data.csv", "--out", tmp_path / "a", *options)
    assert result.exit_code == 0, result.output
    assert "known in advance: open" in result.output
    assert "next.csv was not written" in result.output
    assert not (tmp_path / "a" / "next.csv").exists()
    result = run("predict", tmp_path / "a", folder / "data.csv", "--ahead", folder / "ahead.csv")
    assert result.exit_code == 0, result.output
    assert "2021-12-30 02:00:00+01:00" in result.output
    result = run("predict", tmp_path / "a", folder / "earlier.csv", "--ahead", folder / "ahead.csv")
    assert result.exit_code == 1
    assert "do not reach as far as the forecast" in result.output


def test_several_series_of_one_file(folder, tmp_path):
    data = pd.read_csv(folder / "data.csv")
    both = pd.concat([data.assign(place="north"), data.assign(place="south", load=data["load"] * 100)])
    both.to_csv(tmp_path / "both.csv", index=False)
    options = ["--target", "load", "--id", "place", "--backtest", "2", *SIZES]
    result = run("forecast", tmp_path / "both.csv", "--out", tmp_path / "run", *options)
    assert result.exit_code == 0, result.output
    assert "240 rows in each of 2 series" in result.output
    assert "Backtest: 2 origins, 1 seed" in result.output
    assert len(pd.read_csv(tmp_path / "run" / "backtest.csv")) == 2
    # What `predict` must know about reading is kept.
    result = run("predict", tmp_path / "run", tmp_path / "both.csv", "--out", tmp_path / "next.csv")
    assert result.exit_code == 0, result.output
    table = pd.read_csv(tmp_path / "next.csv")
    assert table["series"].tolist() == ["north"] * 3 + ["south"] * 3
    ratio = table["load"][3:].to_numpy() / table["load"][:3].to_numpy()
    assert ((ratio > 70) & (ratio < 130)).all()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--target", "lod"], "no column 'lod'"),
        (["--target", "load", "--levels", "80,200"], "between 1 and 100"),
        (["--target", "load", "--levels", "many"], "between 1 and 100"),
        (["--target", "load", "--levels", "99.9"], "too few windows to calibrate"),
        (["--target", "load", "--cell", "gru"], "no such cell"),
        (["--target", "load", "--known", "opn"], "no column 'opn'"),
        (["--target", "load", "--missing", "guess"], "What shall be done about missing values"),
        (["--target", "load", "--zone", "Mars"], "no such time zone"),
        (["--target", "load", "--backtest", "99"], "parts of the backtest are shorter"),
        (["--target", "load", "--horizon", "0"], "`horizon` counts time steps"),
    ],
)
def test_bad_input_ends_with_words_and_without_a_traceback(folder, tmp_path, arguments, words):
    sizes = [] if "--horizon" in arguments else SIZES
    result = run("forecast", folder / "data.csv", "--out", tmp_path / "out", *arguments, *sizes)
    assert result.exit_code == 1
    assert words in result.output
    assert "Traceback" not in result.output
    assert not (tmp_path / "out" / "model.keras").exists()


def test_a_folder_of_other_things_is_left_alone(folder, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    result = run("forecast", folder / "data.csv", "--target", "load", "--out", tmp_path, *SIZES)
    assert result.exit_code == 1
    assert "not the result of an earlier run" in result.output
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_predict_from_no_forecaster(folder, tmp_path):
    result = run("predict", tmp_path, folder / "data.csv")
    assert result.exit_code == 1
    assert "holds no forecaster" in result.output
