"""Tables whose index pandas does not know the spacing of: served where the steps are equal, else told where not."""

import numpy as np
import pandas as pd
import pytest

from keras_lstm_custom import timeseries
from keras_lstm_custom.errors import DataError
from tests.timeseries.forecasters import SMALL, hourly


def forgotten(frame):
    """Return the table as pandas.read_csv or concat gives it: the same stamps, no `freq`."""
    return frame.set_axis(pd.DatetimeIndex(frame.index, freq=None))


def forecaster():
    return timeseries.Forecaster("load", **SMALL)


@pytest.mark.parametrize(
    ("frequency", "zone"),
    [
        *[(frequency, None) for frequency in ("7min", "h", "B", "W-WED", "MS", "ME", "QE-NOV", "YS")],
        *[(frequency, "Europe/Berlin") for frequency in ("h", "D")],
    ],
)
def test_equal_steps_need_no_freq(frequency, zone):
    frame = hourly(100, freq=frequency, tz=zone)
    if zone is not None:  # over the night when clocks are put forward
        frame.index = frame.index.shift(2300 if frequency == "h" else 60)
    plan = forecaster().prepare(frame)
    assert forecaster().prepare(forgotten(frame)) == plan
    assert timeseries.next_times(forgotten(frame).index, 3).equals(timeseries.next_times(frame.index, 3))


@pytest.mark.parametrize("frequency", ["D", "W-WED", "B", "MS", "h"])
def test_a_record_with_holes_has_the_season_of_one_without(tmp_path, frequency):
    frame = hourly(60, freq=frequency)
    path = tmp_path / "holes.csv"
    frame.drop(frame.index[[20, 33]]).to_csv(path)
    with pytest.warns(UserWarning, match="missing values"):
        read = timeseries.read_csv(path, "load", missing="keep")
    assert timeseries.period_of(read.index) == timeseries.period_of(frame.index)
    with pytest.raises(DataError, match=f"asfreq\\('{frequency}'\\)"):
        forecaster().prepare(frame.drop(frame.index[20]))


def test_few_rows_have_the_spacing_of_the_training():
    one = forecaster()
    one.prepare(hourly(100, freq="B"))
    for rows in (1, 2, 5):  # Monday to Friday: days, if one knows no better
        table = one.tables(forgotten(hourly(rows, freq="B")))[""]
        assert table.times.freqstr == "B"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: f.sample(frac=1, random_state=0), r"time runs backwards[\s\S]*sort_index"),
        (lambda f: f[::-1], r"time runs backwards[\s\S]*2021-12-29 23:00:00 before 2021-12-29 22"),
        (lambda f: pd.concat([f, f[5:7]]), r"more than once[\s\S]*2021-12-20 05:00:00 again \(2 rows"),
        (lambda f: f.drop(f.index[50:53]), r"no row[\s\S]*2021-12-22 02:00:00 \(3 of 240 steps[\s\S]*asfreq\('h'\)"),
        (lambda f: f.set_axis([*f.index[:-1], f.index[-1] + pd.Timedelta("7s")]), r"not equal[\s\S]*23:00:07"),
        (lambda f: f.set_axis([*f.index[:-1], pd.NaT]), r"stamps are missing[\s\S]*NaT in row 239"),
        (lambda f: forgotten(f)[:2], r"cannot be told[\s\S]*2 rows"),
        (lambda f: f[:0], "has no rows"),
        (lambda f: f.reset_index(drop=True), r"no time stamps[\s\S]*RangeIndex[\s\S]*set_index"),
        (lambda f: f.set_axis(f.index.astype(str)), r"no time stamps[\s\S]*'2021-12-20[\s\S]*to_datetime"),
        (lambda f: f.set_axis(f.index.to_period("h")), r"no time stamps[\s\S]*PeriodIndex[\s\S]*to_timestamp"),
        (lambda f: pd.concat({"a": f, "b": f}), r"no time stamps[\s\S]*MultiIndex[\s\S]*groupby\(level=0\)"),
    ],
)
def test_an_index_in_no_equal_steps_is_refused_with_what_is_wrong_and_what_to_do(change, words):
    frame = change(hourly())
    with pytest.raises(DataError, match=words):
        forecaster().prepare(frame)
    with pytest.raises(DataError, match=words.partition("[")[0]):
        timeseries.next_times(frame.index, 3)


def test_what_the_messages_advise_helps():
    frame = hourly()
    holed = frame.drop(frame.index[50:53])
    assert np.isnan(holed.asfreq("h")["load"]).sum() == 3
    timeseries.Forecaster("load", missing="mask", **SMALL).prepare(holed.asfreq("h"))
    both = pd.concat({"a": frame, "b": frame})
    parts = {id: part.droplevel(0) for id, part in both.groupby(level=0)}
    assert forecaster().prepare(parts).series == ("a", "b")
    twice = pd.concat([frame, frame[5:7]])
    assert forecaster().prepare(twice[~twice.index.duplicated(keep="last")].sort_index()).frequency == "h"
    assert forecaster().prepare(frame.set_axis(frame.index.to_period("h")).to_timestamp()).frequency == "h"
