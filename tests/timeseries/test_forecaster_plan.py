"""What a forecaster plans from a table: its sizes, and the columns of the calendar."""

import numpy as np
import pandas as pd
import pytest

from keras_lstm_custom import timeseries
from keras_lstm_custom.errors import ArgumentError
from keras_lstm_custom.timeseries.forecasting.calendar import calendar_columns, cycles_for
from tests.timeseries.forecasters import hourly


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
