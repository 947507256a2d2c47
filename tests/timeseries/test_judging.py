"""Is a forecast any good? On what cannot be forecast nobody says so; on what can be, the right one wins."""

import json

import numpy as np
import pandas as pd
import pytest

from keras_lstm_custom import timeseries
from keras_lstm_custom.errors import ArgumentError, DataError
from keras_lstm_custom.timeseries.forecasting import job, picture, statistical
from keras_lstm_custom.timeseries.forecasting.judging import stamp

SIZES = {"units": 3, "window": 12, "horizon": 4, "period": 6}
QUICK = {"epochs": 3, "batch_size": 64}


def series(kind, rows=700, seed=0):
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=rows)
    values = {
        "noise": noise,
        "random walk": np.cumsum(noise),
        "intermittent": np.where(rng.random(rows) < 0.15, rng.poisson(5.0, rows), 0.0),
        "season and noise": 5 * np.sin(np.arange(rows) * 2 * np.pi / 6) + noise,
    }[kind]
    return pd.DataFrame({"v": values}, index=pd.date_range("2021-01-01", periods=rows, freq="h"))


@pytest.mark.parametrize("kind", ["noise", "random walk", "intermittent", "season and noise"])
def test_what_cannot_be_forecast_better_is_not_sold_as_a_win(kind):
    frame = series(kind)
    judged = timeseries.judge(timeseries.Forecaster("v", **SIZES).fit(frame, **QUICK), frame)
    assert judged.verdict["better"] is False
    assert "no better" in judged.verdict["reason"]
    assert "no better" in str(judged)
    assert judged.verdict["baseline"] in judged.errors
    assert judged.verdict["baseline"] != "network"


def test_a_network_that_knows_more_wins():
    """The column `cause` decides the next value; no simple forecast sees it."""
    rng = np.random.default_rng(0)
    cause = rng.normal(size=900)
    frame = series("noise", 900).assign(cause=cause, v=np.roll(cause, 1) * 5 + rng.normal(size=900))
    forecaster = timeseries.Forecaster("v", units=4, window=4, horizon=1, period=1, calendar=False)
    judged = timeseries.judge(forecaster.fit(frame, epochs=8, batch_size=32, learning_rate=0.03), frame)
    assert judged.verdict["better"]
    assert re_number(judged.verdict["reason"]) > 50
    assert judged.verdict["gain"] > 2 * judged.verdict["standard_error"]


def re_number(text):
    return float(text.partition("error is ")[2].partition("%")[0])


def test_the_table_and_the_record_hold_what_was_measured():
    frame = series("season and noise")
    forecasters = {name: timeseries.Forecaster("v", **SIZES, linear=name == "a") for name in ("a", "b")}
    for forecaster in forecasters.values():
        forecaster.fit(frame, **QUICK)
    judged = timeseries.judge(forecasters, frame)
    values = frame["v"].to_numpy()
    first, last = 700 - 105, 700 - 4
    origins = np.arange(first - 1, last)
    truth = values[origins[:, None] + np.arange(1, 5)]
    np.testing.assert_allclose(judged.truth, truth)
    naive = values[origins[:, None] + np.arange(1, 5) - 6]
    row = judged.errors["seasonal naive (6)"]
    scale = np.mean(np.abs(values[6:490] - values[:484]))
    assert row["mae"] == pytest.approx(np.mean(np.abs(truth - naive)))
    assert row["rmse"] == pytest.approx(np.sqrt(np.mean((truth - naive) ** 2)))
    assert row["mase"] == pytest.approx(row["mae"] / scale)
    record = json.loads(json.dumps(judged.to_dict()))
    best = min(forecasters, key=lambda name: forecasters[name].history["validation_loss"])
    assert record["best"] == best
    assert record["mase"] == judged.errors[best]["mase"]
    assert set(record["coverage"]) == {"80", "95"}
    lower, upper = judged.networks[best].intervals[80.0]
    assert record["coverage"]["80"] == pytest.approx(np.mean((truth >= lower) & (truth <= upper)))
    assert record["windows"] == {"held_out": 102, "without_overlap": 26}
    assert record["held_out"]["from"] == f"{frame.index[first]:%Y-%m-%d %H:%M}"
    for name in (*judged.errors, "MASE", "in 80 %"):
        assert name in str(judged)
    parts = judged.by_origin(3)
    assert parts["windows"].tolist() == [34, 34, 34]
    assert np.sqrt(np.mean(parts["last value"] ** 2)) == pytest.approx(judged.errors["last value"]["rmse"])


def test_exponential_smoothing_knows_nothing_of_the_held_out_part():
    values = series("season and noise")["v"].to_numpy()
    changed = values.copy()
    changed[651:] = 1e6
    options = {"horizon": 3, "period": 6, "fitted": 600}
    one, other = (statistical.exponential_smoothing(v, [620, 650], **options) for v in (values, changed))
    np.testing.assert_allclose(one, other)


def test_without_statsmodels_it_is_said_that_it_was_not_compared(monkeypatch):
    frame = series("noise", 300)
    forecaster = timeseries.Forecaster("v", **SIZES).fit(frame, **QUICK)
    monkeypatch.setattr(statistical, "installed", lambda: False)
    judged = timeseries.judge(forecaster, frame)
    assert "exponential smoothing" not in judged.errors
    assert any("Not compared with exponential smoothing" in remark for remark in judged.remarks)


@pytest.mark.parametrize("rows", [144, 120])
def test_short_monthly_records_work_at_default_settings_and_say_that_they_are_short(rows):
    t = np.arange(rows)
    index = pd.date_range("1949-01-01", periods=rows, freq="MS")
    values = (100 + 2 * t) * (1 + 0.2 * np.sin(2 * np.pi * t / 12)) + np.random.default_rng(0).normal(size=rows)
    frame = pd.DataFrame({"v": values}, index=index)
    with pytest.warns(UserWarning, match="No interval of 95 %"):
        forecaster = timeseries.Forecaster("v", units=4).fit(frame, epochs=3)
    with pytest.warns(
        UserWarning, match=rf"Few held-out windows: {round(rows * 0.15) - 11}, of which \d do not overlap"
    ):
        judged = timeseries.judge(forecaster, frame)
    assert judged.verdict["better"] is False
    assert "so few windows" in judged.verdict["reason"]
    assert judged.verdict["standard_error"] is None


def test_forecasters_of_different_things_are_not_compared():
    frame = series("noise", 300)
    one = timeseries.Forecaster("v", **SIZES).fit(frame, **QUICK)
    other = timeseries.Forecaster("v", **{**SIZES, "horizon": 3}).fit(frame, **QUICK)
    with pytest.raises(ArgumentError, match="cannot be compared"):
        timeseries.judge({"one": one, "other": other}, frame)


def test_a_backtest_fits_again_before_each_origin_and_knows_nothing_of_what_follows():
    frame = series("season and noise", 500)
    forecaster = timeseries.Forecaster("v", **SIZES)
    results = timeseries.backtest(forecaster, frame, origins=2, seeds=(1, 2), statistics=False, **QUICK)
    assert len(results) == 4
    assert list(results["origin"].unique()) == [frame.index[300].to_datetime64(), frame.index[400].to_datetime64()]
    assert (results["windows"] == 97).all()
    assert results["seed"].tolist() == [1, 2, 1, 2]
    assert results["rmse"].nunique() >= 2
    text = timeseries.spread(results)
    assert "2 origins, 2 seeds" in text
    changed = frame.copy()
    changed.iloc[400:] = -1e3
    again = timeseries.backtest(forecaster, changed, origins=2, seeds=(1,), statistics=False, **QUICK)
    assert again["rmse"][0] == pytest.approx(results["rmse"][0], rel=1e-4)
    with pytest.raises(DataError, match="shorter than the horizon"):
        timeseries.backtest(forecaster, frame, origins=100, **QUICK)
    for asked, words in (({"seeds": 3}, "`seeds`"), ({"seeds": ()}, "`seeds`"), ({"share": 1.5}, "`share`")):
        with pytest.raises(ArgumentError, match=words):
            timeseries.backtest(forecaster, frame, **asked)


@pytest.mark.parametrize(
    ("time", "text"),
    [
        (np.datetime64("2021-01-02T03:04"), "2021-01-02 03:04"),
        (pd.Timestamp("2021-01-02 03:04+05:30"), "2021-01-02 03:04+05:30"),
    ],
)
def test_a_time_is_shown_with_its_offset(time, text):
    assert stamp(time) == text


@pytest.fixture(scope="module")
def two_series():
    """Two series of which the second is the older one, and what was judged on them."""
    frames = {"new": series("season and noise", 300), "old": series("season and noise", 240, seed=1)}
    frames["old"].index = pd.date_range("2019-03-01", periods=240, freq="h")
    forecaster = timeseries.Forecaster("v", **SIZES).fit(frames, **QUICK)
    return frames, forecaster, timeseries.judge(forecaster, frames)


def test_of_several_series_each_window_has_its_own_times(two_series):
    frames, _, judged = two_series
    assert judged.stamps.shape == judged.truth.shape
    expected = np.concatenate([frames[name]["v"].to_numpy() for name in ("new", "old")])
    lookup = dict(zip(np.concatenate([f.index.to_numpy() for f in frames.values()]), expected, strict=True))
    np.testing.assert_array_equal([[lookup[t] for t in row] for row in judged.stamps], judged.truth)
    held = judged.to_dict()["held_out"]
    assert held == {"from": stamp(frames["old"].index[240 - 36]), "to": stamp(frames["new"].index[-1])}


def test_the_parts_of_several_series_are_consecutive_in_time_and_not_by_row(two_series):
    _, _, judged = two_series
    old = int((judged.samples.series == 1).sum())
    first = judged.by_origin(2).iloc[0]
    assert first["windows"] == -(-len(judged.truth) // 2)
    order = np.argsort(judged.stamps[:, 0], kind="stable")[: int(first["windows"])]
    assert (judged.samples.series[order][:old] == 1).all()
    error = judged.truth[order] - judged.forecasts["last value"][order]
    assert first["last value"] == pytest.approx(np.sqrt(np.mean(error**2)))
    with pytest.raises(ArgumentError, match="`origins`"):
        judged.by_origin(0)


def test_what_is_written_and_drawn_is_the_first_series(two_series, tmp_path):
    pytest.importorskip("matplotlib")
    frames, forecaster, judged = two_series
    table = job.held_out_table(judged, forecaster.plan)
    assert set(table["time"]) <= set(frames["new"].index)
    np.testing.assert_array_equal(table["truth"], frames["new"]["v"].loc[table["time"]])
    picture.draw(judged, forecaster.plan, tmp_path / "picture.png")


def test_a_part_without_truth_has_no_error_and_is_drawn(tmp_path, recwarn):
    pytest.importorskip("matplotlib")
    frame = series("season and noise", 400)
    frame.iloc[-40:-20] = np.nan
    forecaster = timeseries.Forecaster("v", **SIZES, missing="indicate").fit(frame, **QUICK)
    judged = timeseries.judge(forecaster, frame)
    parts = judged.by_origin(6)
    assert parts["last value"].isna().any()
    assert not parts["last value"].isna().all()
    picture.draw(judged, forecaster.plan, tmp_path / "picture.png")
    assert not [w for w in recwarn if "slice" in str(w.message)]


def test_a_network_that_gives_no_numbers_is_not_judged_as_if_there_were_no_truth():
    frame = series("noise", 300)
    forecaster = timeseries.Forecaster("v", **SIZES).fit(frame, **QUICK)
    for weight in forecaster.model.weights:
        weight.assign(np.full(weight.shape, np.nan))
    with pytest.raises(DataError, match=r"(?s)'network' gives no numbers.*Received: NaN.* of 42 windows"):
        timeseries.judge(forecaster, frame)


def test_a_series_without_a_scale_is_named():
    flat = series("noise", 240)
    flat.iloc[:170, 0] = 3.0 * (np.arange(170) % 6)
    frames = {"a": series("noise", 240, seed=1), "flat": flat}
    forecaster = timeseries.Forecaster("v", **SIZES).fit(frames, **QUICK)
    assert any("MASE leaves out ['flat']" in remark for remark in timeseries.judge(forecaster, frames).remarks)
