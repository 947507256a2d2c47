"""Time zones, and the nights in which clocks are changed."""

import pandas as pd
import pytest

from keras_lstm_custom import timeseries
from keras_lstm_custom.errors import ArgumentError, DataError
from tests.timeseries.csv_files import HOURS, LOCAL, lines, run, write


def test_the_hour_when_clocks_are_put_back_is_told_from_true_duplicates(tmp_path):
    path = write(tmp_path, lines(LOCAL.tz_localize(None)))
    with pytest.raises(DataError, match="2021-10-31 02:00:00 is there twice because clocks were put back") as caught:
        timeseries.read_csv(path)
    frame = run(tmp_path, str(caught.value).partition("In pandas:\n")[2])
    assert list(frame.index) == list(LOCAL.tz_convert("UTC"))
    # The zone says the same without another file, and stays.
    frame = timeseries.read_csv(path, zone="Europe/Berlin")
    assert list(frame.index) == list(LOCAL)
    assert [s.isoformat() for s in timeseries.next_times(frame.index, 1)] == ["2021-11-01T11:00:00+01:00"]


@pytest.mark.parametrize(
    ("start", "zone"), [("2021-03-27", "Europe/Berlin"), ("2021-03-13", "America/New_York"), ("2021-03-06", None)]
)
def test_the_hour_when_clocks_are_put_forward_is_told_from_a_hole(tmp_path, start, zone):
    hours = pd.date_range(start, periods=60, freq="h", tz=zone)
    stamps = hours.tz_localize(None) if zone else hours.delete(26)  # the same night, a week before
    words = "is not there because clocks were put forward" if zone else "1 rows are missing"
    with pytest.raises(DataError, match=words) as caught:
        timeseries.read_csv(write(tmp_path, lines(stamps)))
    frame = run(tmp_path, str(caught.value).partition("In pandas:\n")[2])
    assert list(frame.index) == list(hours.tz_convert("UTC") if zone else hours)


def test_offsets_that_change_need_the_name_of_the_zone_which_the_error_gives(tmp_path):
    path = write(tmp_path, lines([s.isoformat() for s in LOCAL]))
    with pytest.raises(DataError, match=r"offset from UTC changes here, from \+02:00 to \+01:00[\s\S]*Europe/Berlin"):
        timeseries.read_csv(path)
    frame = timeseries.read_csv(path, zone="Europe/Berlin")
    assert [s.isoformat() for s in frame.index] == [s.isoformat() for s in LOCAL]
    assert frame.index.freq == pd.tseries.frequencies.to_offset("h")


def test_days_of_a_zone_are_its_days_across_a_clock_change(tmp_path):
    days = pd.date_range("2021-10-25", periods=20, freq="D", tz="Europe/Berlin")
    frame = timeseries.read_csv(write(tmp_path, lines([f"{d:%Y-%m-%d}" for d in days])), zone="Europe/Berlin")
    assert list(frame.index) == list(days)
    assert timeseries.period_of(frame.index) == 7


@pytest.mark.parametrize("zone", ["Europe/Atlantis", "", "../etc"])
def test_an_unknown_zone_raises(tmp_path, zone):
    with pytest.raises(ArgumentError, match="no such time zone"):
        timeseries.read_csv(write(tmp_path, lines(HOURS)), zone=zone)


def test_a_fixed_offset_stays_through_windows(tmp_path):
    stamps = pd.date_range("2021-12-20", periods=30, freq="h", tz="+05:30")
    frame = timeseries.read_csv(write(tmp_path, lines([s.isoformat() for s in stamps])))
    samples = timeseries.windows(frame, "load", window=4, horizon=2)
    assert samples.times[0, 0].isoformat() == "2021-12-20T04:00:00+05:30"
