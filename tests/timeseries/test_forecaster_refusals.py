"""What a forecaster says of wishes and data that are not fit for it."""

import re

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
