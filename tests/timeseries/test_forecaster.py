"""A forecaster: what it sees, what it learns, what it saves, and what it says of data that is not fit for it."""

import re
import subprocess
import sys

import keras
import numpy as np
import pandas as pd
import pytest

from keras_lstm_custom import VanillaRNN, timeseries
from keras_lstm_custom.errors import ArgumentError, DataError
from keras_lstm_custom.timeseries.forecasting.calendar import calendar_columns, cycles_for
from keras_lstm_custom.timeseries.forecasting.samples import newest, part_samples

SMALL = {"units": 3, "window": 6, "horizon": 3, "period": 6}
QUICK = {"epochs": 2, "batch_size": 64}


def hourly(rows=240, seed=0, freq="h", tz=None, **columns):
    rng = np.random.default_rng(seed)
    index = pd.date_range("2021-12-20", periods=rows, freq=freq, tz=tz, name="when")
    t = np.arange(rows)
    load = 300 + 40 * np.sin(2 * np.pi * t / 6) + rng.normal(0, 4, rows)
    return pd.DataFrame({"load": load, "wind": rng.normal(8, 2, rows), **columns}, index=index)


@pytest.fixture(scope="module")
def frame():
    return hourly(tz="+01:00")


@pytest.fixture(scope="module")
def fitted(frame):
    return timeseries.Forecaster("load", **SMALL).fit(frame, **QUICK)


# Columns and sizes


def test_the_plan_follows_from_the_spacing():
    frame = hourly(1500)
    plan = timeseries.Forecaster("load").prepare(frame)
    assert (plan.period, plan.periods, plan.window, plan.horizon) == (24, (24, 168), 48, 24)
    assert plan.past == ("wind",)
    assert plan.calendar == ("hour", "weekday")
    assert (plan.frequency, plan.zone) == ("h", None)
    assert timeseries.Forecaster("load", past=[], calendar=False).prepare(frame).columns == ("load",)


def test_a_spacing_without_a_season_needs_a_horizon():
    with pytest.raises(ArgumentError, match=r"How many steps[\s\S]*5h"):
        timeseries.Forecaster("load").prepare(hourly(freq="5h"))
    assert timeseries.Forecaster("load", horizon=4).prepare(hourly(freq="5h")).window == 24


def test_a_long_record_is_learnt_from_in_strides_that_show_every_time_of_day():
    index = pd.date_range("2000-01-01", periods=150_000, freq="h")
    plan = timeseries.Forecaster("load").prepare(pd.DataFrame({"load": 0.0}, index=index))
    assert plan.stride == 11  # 7.2 million steps for one million; 8, 9 and 10 share a divisor with 24


def test_calendar_columns_are_those_of_the_local_clock():
    index = pd.date_range("2021-07-04", periods=48, freq="h", tz="America/New_York")
    columns = calendar_columns(index, ("hour", "weekday", "month"), "US")
    angle = 2 * np.pi * index.hour / 24
    np.testing.assert_allclose(columns["hour_sin"], np.sin(angle), atol=1e-12)
    np.testing.assert_allclose(columns["hour_cos"], np.cos(angle), atol=1e-12)
    assert columns["holiday"].tolist() == [1.0] * 24 + [1.0] * 24  # 5 July 2021: observed, since the 4th is a Sunday
    assert not calendar_columns(index, (), "DE")["holiday"].any()
    with pytest.raises(ArgumentError, match="no calendar of holidays"):
        calendar_columns(index, (), "XX")
    with pytest.raises(ArgumentError, match="no such calendar feature"):
        calendar_columns(index, ("minute",))


@pytest.mark.parametrize(
    ("frequency", "rows", "cycles"),
    [
        *[("h", 80, ()), ("h", 100, ("hour",)), ("h", 700, ("hour", "weekday")), ("D", 1500, ("weekday", "month"))],
        *[("D", 60, ("weekday",)), ("MS", 60, ("month",)), ("MS", 40, ()), ("YS", 60, ())],
    ],
)
def test_a_cycle_is_seen_if_the_record_shows_it_four_times(frequency, rows, cycles):
    assert cycles_for(pd.date_range("2001-01-01", periods=rows, freq=frequency)) == cycles


# Learning


def test_the_model_takes_and_gives_the_units_of_the_data(fitted, frame):
    """Doubling all numbers and moving them is another unit; the model of the one is not that of the other."""
    samples = part_samples(fitted.tables(frame), fitted.plan, "test", fitted.shares)
    outputs = fitted.model.predict(samples.x, verbose=0)
    np.testing.assert_allclose(outputs["mean"], fitted.forecast(samples).mean, rtol=1e-5)
    assert outputs["quantiles"].shape == (len(samples), 3, 5)
    assert abs(outputs["mean"].mean() - frame["load"].mean()) < 20
    assert (np.diff(outputs["quantiles"], axis=-1) >= 0).all()


def test_another_unit_gives_the_same_forecast_in_that_unit(fitted, frame):
    other = frame.assign(load=frame["load"] * 2 - 400, wind=frame["wind"] * 10)
    again = timeseries.Forecaster("load", **SMALL).fit(other, **QUICK)
    np.testing.assert_allclose(again.predict(other)["load"], fitted.predict(frame)["load"] * 2 - 400, rtol=1e-3)


def test_the_held_out_part_is_not_known_while_learning(fitted, frame):
    changed = frame.copy()
    changed.iloc[-36:] = 1e4
    again = timeseries.Forecaster("load", **SMALL).fit(changed, **QUICK)
    for one, other in zip(again.model.get_weights(), fitted.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    for level, margin in again.margins.items():
        np.testing.assert_array_equal(margin, fitted.margins[level])


def test_windows_look_back_into_the_part_before_and_forecast_their_own(fitted, frame):
    tables = fitted.tables(frame)
    parts = {p: part_samples(tables, fitted.plan, p, fitted.shares) for p in ("train", "validation", "test")}
    assert [len(part) for part in parts.values()] == [168 - 8, 36 - 2, 36 - 2]
    load = frame["load"].to_numpy()
    for (first, end), part in zip([(6, 168), (168, 204), (204, 240)], parts.values(), strict=True):
        assert part.origins[0] == first - 1
        assert part.origins[-1] == end - 4
        np.testing.assert_array_equal(part.y[0], load[first : first + 3])
        np.testing.assert_allclose(part.x["past"][0, :, 0], load[first - 6 : first], rtol=1e-6)


def test_a_column_known_in_advance_is_used(frame):
    rng = np.random.default_rng(3)
    switch = rng.integers(0, 2, 400).astype(float)
    data = pd.DataFrame({"load": 50 + 20 * switch + rng.normal(0, 1, 400), "switch": switch}, index=hourly(400).index)
    sizes = {**SMALL, "calendar": False}
    forecaster = timeseries.Forecaster("load", future=["switch"], **sizes)
    forecaster.fit(data, epochs=6, batch_size=32, learning_rate=0.05)
    judged = timeseries.judge(forecaster, data, statistics=False)
    assert judged.errors["network"]["rmse"] < 0.5 * min(judged.errors[n]["rmse"] for n in ("last value", "window mean"))
    assert judged.verdict["better"]
    # What is known in advance decides the forecast beyond the end.
    ahead = pd.DataFrame({"switch": [1.0, 0.0, 1.0]}, index=timeseries.next_times(data.index, 3))
    up, down, again = forecaster.predict(data, ahead)["load"]
    assert min(up, again) > down + 10
    with pytest.raises(
        DataError, match=r"do not reach as far[\s\S]*3 steps from 2022-01-05 16[\s\S]*2 of them[\s\S]*18:00"
    ):
        forecaster.predict(data, ahead.iloc[:2])
    with pytest.raises(DataError, match="columns that are known in advance"):
        forecaster.predict(data)


def test_one_network_serves_several_series_each_in_its_own_scale():
    frames = {"north": hourly(seed=1), "south": hourly(seed=2) * 1000, "west": hourly(seed=3) - 5000}
    for height, frame in enumerate(frames.values()):
        frame["height"] = float(height)
    forecaster = timeseries.Forecaster("load", static=["height"], **SMALL).fit(frames, **QUICK)
    result = forecaster.predict(frames)
    assert result["series"].tolist() == ["north"] * 3 + ["south"] * 3 + ["west"] * 3
    for name, frame in frames.items():
        part = result[result["series"] == name]
        assert (part["load"] - frame["load"].iloc[-6:-3].to_numpy()).abs().max() < 3 * frame["load"].std()
    # One series alone gets the same numbers.
    alone = forecaster.predict({"south": frames["south"]})
    np.testing.assert_allclose(alone["load"], result[result["series"] == "south"]["load"], rtol=1e-5)
    judged = timeseries.judge(forecaster, frames)
    assert judged.windows == 3 * 34
    with pytest.raises(DataError, match=r"does not know the series 'east'[\s\S]*'north', 'south', 'west'"):
        forecaster.predict({"east": frames["north"]})
    frames["west"]["height"] = np.arange(240.0)
    with pytest.raises(DataError, match="'height' changes within the series 'west'"):
        forecaster.predict(frames)


@pytest.mark.parametrize("missing", ["mask", "indicate"])
def test_missing_values_are_masked_or_marked_as_asked(missing):
    frame = hourly()
    frame.iloc[20:24, 0] = np.nan
    frame.iloc[60, 1] = np.nan
    frame.iloc[215, 0] = np.nan
    with pytest.raises(DataError, match=r"'load' is not finite[\s\S]*5 rows"):
        timeseries.Forecaster("load", **SMALL).fit(frame)
    forecaster = timeseries.Forecaster("load", missing=missing, **SMALL).fit(frame, **QUICK)
    judged = timeseries.judge(forecaster, frame)
    assert np.isfinite([row["rmse"] for row in judged.errors.values()]).all()
    assert np.isnan(judged.truth).sum() == 3  # three windows forecast row 215
    x = {name: values.copy() for name, values in newest(forecaster.tables(frame), forecaster.plan).x.items()}
    head = forecaster.model.get_layer("head")
    head.set_weights([np.ones_like(w) for w in head.get_weights()])  # two epochs need not have kept anything
    before = forecaster.model.predict(x, verbose=0)["mean"]
    x["past"][:, 2, 1], x["past"][:, 2, -1] = 99.0, 0.0  # the wind of a step, and that it is not known
    after = forecaster.model.predict(x, verbose=0)["mean"]
    x["past"][:, 2, 1] = -99.0
    again = forecaster.model.predict(x, verbose=0)["mean"]
    assert np.abs(after - before).max() > 0
    assert (np.abs(again - after).max() == 0) == (missing == "mask")


def test_stepping_puts_each_forecast_at_the_end_of_the_next_window():
    frame = hourly()[["load"]]
    forecaster = timeseries.Forecaster("load", stepping=True, **SMALL).fit(frame, **QUICK)
    samples = newest(forecaster.tables(frame), forecaster.plan)
    got = forecaster.forecast(samples).mean[0]
    window, calendar = samples.x["past"][0].copy(), samples.x["future"][0]
    assert window.shape == (6, 1)
    for k in range(3):
        x = {"past": window[None], "future": calendar[None, k : k + 1]}
        step = forecaster.model.predict(x, verbose=0)["mean"][0, 0]
        assert got[k] == pytest.approx(step, rel=1e-5)
        window = np.vstack([window[1:], [[step]]])
    assert sorted(forecaster.margins) == [80.0, 95.0]
    with pytest.raises(ArgumentError, match=r"Stepping needs[\s\S]*'wind'"):
        timeseries.Forecaster("load", stepping=True, **SMALL).fit(hourly())


@pytest.mark.tensorflow  # what a network learns of noise by chance is another matter on each backend
def test_a_network_that_learnt_nothing_that_holds_is_the_simple_forecast():
    """On noise, what is kept of the weights is nothing, and the forecast is the mean of the window."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"v": rng.normal(size=500)}, index=hourly(500).index)
    forecaster = timeseries.Forecaster("v", **SMALL).fit(frame, **QUICK)
    samples = part_samples(forecaster.tables(frame), forecaster.plan, "test", forecaster.shares)
    assert forecaster.history["kept"]["mean"] == 0
    assert forecaster.anchor_used == "window mean"
    assert forecaster.penalty is None
    expected = samples.x["past"][:, :, :1].mean(axis=1) + np.zeros((1, 3))
    np.testing.assert_allclose(forecaster.forecast(samples).mean, expected, atol=1e-5)


def test_the_linear_start_is_found_and_follows_any_level():
    """y_t = 2 y_{t-1} - y_{t-2}: a line, which no simple forecast but a linear one continues."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"v": 5 * np.cumsum(rng.normal(size=40)).repeat(10) + 0.0}, index=hourly(400).index)
    frame["v"] = np.interp(np.arange(400), np.arange(0, 400, 10), frame["v"].iloc[::10])
    forecaster = timeseries.Forecaster("v", **SMALL, levels=()).fit(frame, **QUICK)
    assert forecaster.penalty is not None
    for level in (0.0, 1e4):
        line = pd.DataFrame({"v": level + 2.0 * np.arange(10)}, index=hourly(10).index)
        assert abs(forecaster.predict(line)["v"].iloc[0] - (level + 20)) < 1


# Intervals


def test_levels_that_cannot_be_calibrated_are_refused_or_left_out_with_their_number():
    frame = hourly(120, freq="MS")
    sizes = {"units": 2, "horizon": 12}
    with pytest.raises(DataError, match=r"interval of 95 %[\s\S]*at least 19 windows[\s\S]*7 windows"):
        timeseries.Forecaster("load", levels=(80, 95), **sizes).fit(frame, **QUICK)
    with pytest.warns(UserWarning, match="No interval of 95 %: to calibrate it takes 19 windows, and the validation"):
        forecaster = timeseries.Forecaster("load", **sizes).fit(frame, **QUICK)
    assert list(forecaster.predict(frame).columns) == ["load", "lower_80", "upper_80"]


def test_no_levels_are_no_intervals(frame):
    forecaster = timeseries.Forecaster("load", levels=(), **SMALL).fit(frame, **QUICK)
    assert list(forecaster.predict(frame).columns) == ["load"]
    assert list(forecaster.model.output) == ["mean"]


# Saving


def test_a_saved_forecaster_predicts_as_before_in_another_process(fitted, frame, tmp_path):
    timeseries.save_forecaster(fitted, tmp_path / "load")
    expected = fitted.predict(frame)
    again = timeseries.load_forecaster(tmp_path / "load").predict(frame)
    pd.testing.assert_frame_equal(again, expected)
    assert str(expected.index.tz) == "UTC+01:00"
    assert expected.index[0] == frame.index[-1] + frame.index.freq
    assert expected.index.name == "when"
    # The model alone is a Keras model that needs nothing but the package.
    code = (
        f"import keras, keras_lstm_custom; print(keras.models.load_model({str(tmp_path / 'load/model.keras')!r}).name)"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert process.stdout.strip().endswith("forecaster")


@pytest.mark.parametrize("damage", ["no folder", "no model", "no json", "text", "other format", "cut off"])
def test_what_is_no_forecaster_is_refused(fitted, tmp_path, damage):
    folder = tmp_path / "load"
    if damage != "no folder":
        timeseries.save_forecaster(fitted, folder)
    facts = folder / "forecaster.json"
    if damage == "no model":
        (folder / "model.keras").unlink()
    elif damage == "no json":
        facts.unlink()
    elif damage == "text":
        facts.write_text("[1, 2")
    elif damage == "other format":
        facts.write_text('{"format": 99}')
    elif damage == "cut off":
        (folder / "model.keras").write_bytes((folder / "model.keras").read_bytes()[:500])
    with pytest.raises(DataError, match="holds no forecaster"):
        timeseries.load_forecaster(folder)


def test_an_unfitted_forecaster_is_not_saved(tmp_path):
    with pytest.raises(DataError, match="nothing to save"):
        timeseries.save_forecaster(timeseries.Forecaster("load"), tmp_path / "x")
    assert not (tmp_path / "x").exists()


# Data that does not fit


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (hourly(tz=None), r"time steps are not those[\s\S]*zone UTC\+01:00[\s\S]*no time zone"),
        (hourly(freq="D", tz="+01:00"), r"spacing h[\s\S]*spacing D"),
        (hourly(5, tz="+01:00"), r"too short for one window[\s\S]*at least 6 rows[\s\S]*5 rows"),
        (hourly(tz="+01:00")[["load"]], "no column 'wind'"),
        ({"a": hourly(tz="+01:00")}, r"does not know the series 'a'[\s\S]*one table without an id"),
        ([1, 2, 3], r"must be a table[\s\S]*list"),
    ],
)
def test_other_data_than_that_of_the_training_is_refused(fitted, data, words):
    with pytest.raises(DataError, match=words):
        fitted.predict(data)


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        ({"future": ["load"]}, r"'load' is asked for twice[\s\S]*target and future"),
        ({"past": ["load"]}, r"'load' is asked for twice[\s\S]*target and past"),
        ({"past": ["wind"], "future": ["wind"]}, r"'wind' is asked for twice[\s\S]*past and future"),
        ({"past": ["wind", "wind"]}, "'wind' is asked for twice"),
        ({"past": "wind"}, r"`past` takes a list[\s\S]*past=\['wind'\]"),
        ({"static": 3}, "`static` takes a list"),
        ({"calendar": "hour"}, r"calendar=\['hour'\]"),
        ({"holidays": True}, "`holidays` says whose"),
        ({"cell": "lstm"}, "`cell` is the class"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_any_data_is_seen(wish, words):
    with pytest.raises(ArgumentError, match=words):
        timeseries.Forecaster("load", **{**SMALL, **wish})


@pytest.mark.parametrize("training", [{"epochs": 0}, {"epochs": -1}, {"batch_size": 0}, {"epochs": 2.5}])
def test_what_is_no_number_of_epochs_or_rows_is_refused(frame, training):
    with pytest.raises(ArgumentError, match=f"`{next(iter(training))}` is a number of"):
        timeseries.Forecaster("load", **SMALL).fit(frame, **training)


def test_an_unfitted_forecaster_forecasts_and_is_judged_with_an_error(frame):
    one = timeseries.Forecaster("load", **SMALL)
    for use in (lambda: one.predict(frame), lambda: timeseries.judge(one, frame)):
        with pytest.raises(ArgumentError, match="'load' has learnt nothing yet"):
            use()


@pytest.mark.parametrize(
    ("damaged", "words"),
    [
        (pd.concat([hourly(), hourly()[["wind"]]], axis=1), "2 columns 'wind'"),
        (hourly()[::-1], "time runs backwards"),
    ],
)
def test_a_table_upside_down_or_with_a_column_twice_is_refused(damaged, words):
    with pytest.raises(DataError, match=words):
        timeseries.Forecaster("load", **SMALL).fit(damaged)


def test_parts_without_a_known_target_are_refused(frame):
    rows = len(frame)
    for part, hole in (("validation", slice(int(0.7 * rows), int(0.85 * rows) + 1)), ("test", slice(-40, None))):
        holed = frame.copy()
        holed.iloc[hole, 0] = np.nan
        one = timeseries.Forecaster("load", missing="mask", **SMALL)
        with pytest.raises(DataError, match=f"'load' has no value in the {part} part"):
            timeseries.judge(one.fit(holed, **QUICK), holed)


def test_holes_do_not_count_as_windows_to_calibrate_with(frame):
    holed = frame.copy()
    holed.iloc[-65:-38, 0] = np.nan  # most of the validation part
    with pytest.raises(DataError, match=r"interval of 95 %[\s\S]*at least 19[\s\S]*Received: \d windows"):
        timeseries.Forecaster("load", missing="mask", levels=(95,), **SMALL).fit(holed, **QUICK)


def test_a_forecast_from_a_window_without_any_known_value_is_told(frame):
    one = timeseries.Forecaster("load", missing="mask", levels=(), **SMALL).fit(frame, **QUICK)
    late = frame.copy()
    late.iloc[-7:, 0] = np.nan
    with pytest.warns(UserWarning, match=re.escape(f"starts from the value of {frame.index[-8]}, 7 steps before")):
        one.predict(late)


def test_too_short_a_record_says_how_long_it_must_be():
    with pytest.raises(DataError, match=r"too short for a (train|validation|test) part[\s\S]*at least \d+ rows"):
        timeseries.Forecaster("load", window=24, horizon=12).fit(hourly(40))
    with pytest.raises(DataError, match=r"at least 206 rows up to its end[\s\S]*204 rows[\s\S]*window=99"):
        timeseries.Forecaster("load", window=200, horizon=6).fit(hourly(240))
    with pytest.raises(DataError, match=r"at least 50 rows in it[\s\S]*240 rows, of which 36[\s\S]*horizon=12"):
        timeseries.Forecaster("load", window=20, horizon=50).fit(hourly(240))


def test_columns_that_say_nothing_are_left_out_with_a_warning_or_refused():
    frame = hourly(flat=1.0)
    with pytest.warns(UserWarning, match=r"constant in the training part: \['flat'\]"):
        assert timeseries.Forecaster("load", **SMALL).prepare(frame).past == ("wind",)
    with pytest.raises(DataError, match="'flat' is constant"):
        timeseries.Forecaster("load", past=["flat"], **SMALL).fit(frame)
    with pytest.raises(DataError, match="'flat' is constant"):
        timeseries.Forecaster("flat", **SMALL).fit(frame)


def test_a_large_offset_is_told():
    with pytest.warns(UserWarning, match="varies by 28.* around 1e\\+08"):
        timeseries.Forecaster("load", past=[], **SMALL).fit(hourly().assign(load=lambda f: f["load"] + 1e8), **QUICK)


@pytest.mark.parametrize("shares", [(0.0, 0.2), (0.6, 0.4)])
def test_shares_that_leave_nothing_raise(shares):
    with pytest.raises(ArgumentError, match="leave nothing for training"):
        timeseries.Forecaster("load", validation=shares[0], test=shares[1])


def test_any_recurrent_layer_serves(frame):
    for cell in (VanillaRNN, keras.layers.GRU):
        forecaster = timeseries.Forecaster("load", cell=cell, **SMALL).fit(frame, **QUICK)
        assert np.isfinite(forecaster.predict(frame).to_numpy()).all()
