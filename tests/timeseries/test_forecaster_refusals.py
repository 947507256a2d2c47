"""What a forecaster says of wishes and data that are not fit for it."""

import re

import keras
import numpy as np
import pandas as pd
import pytest

from keras_lstm_custom import timeseries
from keras_lstm_custom.errors import ArgumentError, DataError
from tests.timeseries.forecasters import QUICK, SMALL, hourly


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (hourly(tz=None), r"time steps are not those[\s\S]*zone UTC\+01:00[\s\S]*no time zone"),
        (hourly(freq="D", tz="+01:00"), r"spacing h[\s\S]*spacing D"),
        (hourly(5, tz="+01:00"), r"too short for one window[\s\S]*at least 6 rows[\s\S]*5 rows"),
        (hourly(tz="+01:00")[["load"]], "no column 'wind'"),
        ({"a": hourly(tz="+01:00")}, r"does not know the series 'a'[\s\S]*one table without an id"),
        (hourly(tz="+01:00")["load"], r"must be a table[\s\S]*Series[\s\S]*to_frame"),
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
        ({"cell": keras.layers.Dense}, r"`cell` is the class[\s\S]*takes a mask"),
        ({"options": [0.1]}, "`options` are more arguments"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_any_data_is_seen(wish, words):
    with pytest.raises(ArgumentError, match=words):
        timeseries.Forecaster("load", **{**SMALL, **wish})


@pytest.mark.parametrize("target", [None, ["load"], {"load"}])
def test_a_target_is_the_name_of_one_column(target):
    with pytest.raises(ArgumentError, match="`target` is the column to forecast"):
        timeseries.Forecaster(target, **SMALL)


@pytest.mark.parametrize(
    "training", [{"epochs": 0}, {"epochs": -1}, {"batch_size": 0}, {"epochs": 2.5}, {"learning_rate": -0.1}]
)
def test_what_is_no_number_of_epochs_or_rows_and_no_rate_is_refused(frame, training):
    with pytest.raises(ArgumentError, match=f"`{next(iter(training))}` is (a number of|how far)"):
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
        ({1: hourly(), "1": hourly(seed=2)}, r"Several series have the id '1'"),
        ({"a": hourly(), "b": hourly()[:0]}, r"The table of the series 'b' has no rows"),
        (hourly()[:1], "too short for a validation part"),
        (hourly().assign(load=1j), r"'load' does not hold numbers[\s\S]*complex128"),
        (hourly() * 1e38, r"'load' holds numbers that are too large[\s\S]*2021-12-20"),
    ],
)
def test_a_table_that_cannot_be_learnt_from_is_refused(damaged, words):
    with pytest.raises(DataError, match=words):
        timeseries.Forecaster("load", past=[], **SMALL).fit(damaged)


@pytest.mark.parametrize(("target", "ids"), [("series", ["a", "b"]), ("lower_80", [""])])
def test_a_target_named_as_another_column_of_the_forecast_is_refused(target, ids):
    frames = {name: hourly().rename(columns={"load": target}) for name in ids}
    with pytest.raises(DataError, match=f"name that the table of the forecast needs: '{target}'"):
        timeseries.Forecaster(target, levels=(80,), **SMALL).fit(frames)


def test_one_table_of_several_series_needs_its_id():
    one = timeseries.Forecaster("load", **SMALL)
    one.prepare({"a": hourly(), "b": hourly()})
    with pytest.raises(DataError, match=r"Which series this is[\s\S]*\{'a': frame\}"):
        one.tables(hourly())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda future: pd.concat([future, future[-1:]]), r"more than one row[\s\S]*02:00:00 again"),
        (lambda future: future.tz_localize("UTC"), r"not over time stamps like[\s\S]*00:00\+00:00"),
        (lambda future: future.reset_index(drop=True), r"not over time stamps like[\s\S]*RangeIndex"),
    ],
)
def test_columns_known_in_advance_are_of_the_steps_to_come_once_each(change, words):
    frame = hourly()
    one = timeseries.Forecaster("load", future=["wind"], past=[], **SMALL)
    one.prepare(frame)
    future = pd.DataFrame({"wind": 8.0}, index=pd.date_range("2021-12-30", periods=3, freq="h"))
    assert one.tables(frame, future)[""].ahead.shape == (3, 1)
    with pytest.raises(DataError, match=words):
        one.tables(frame, change(future))


def test_columns_known_in_advance_that_nobody_asked_for_are_refused(fitted, frame):
    with pytest.raises(ArgumentError, match=r"takes no columns that are known in advance"):
        fitted.predict(frame, frame[-3:])


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


@pytest.mark.parametrize(("rows", "value"), [([100], 1e9), ([60], -99_999.0)])
def test_values_that_hide_all_others_are_told(rows, value):
    frame = hourly()
    frame.iloc[rows, 1] = value
    words = re.escape(f"'wind' has values that hide all others, such as {value:g} at 2021-12-2")
    with pytest.warns(UserWarning, match=words) as told:
        timeseries.Forecaster("load", **SMALL).fit(frame, **QUICK)
    assert __file__ in [warning.filename for warning in told]


def test_a_large_offset_is_told():
    with pytest.warns(UserWarning, match="varies by 28.* around 1e\\+08"):
        timeseries.Forecaster("load", past=[], **SMALL).fit(hourly().assign(load=lambda f: f["load"] + 1e8), **QUICK)


@pytest.mark.parametrize("shares", [(0.0, 0.2), (0.6, 0.4)])
def test_shares_that_leave_nothing_raise(shares):
    with pytest.raises(ArgumentError, match="leave nothing for training"):
        timeseries.Forecaster("load", validation=shares[0], test=shares[1])
