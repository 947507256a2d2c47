"""Missing values and rows: refused, filled or kept as asked."""

import warnings

import numpy as np
import pandas as pd
import pytest

from keras_lstm_custom import timeseries
from keras_lstm_custom.errors import ArgumentError, DataError
from tests.timeseries.csv_files import HOURS, lines, run, write


def with_holes():
    cells = [f"{v}" for v in np.arange(60.0)]
    cells[5] = "NA"
    rows = lines(HOURS, cells).splitlines()
    return "\n".join(rows[:20] + rows[22:])


def test_holes_are_refused_filled_or_kept_as_asked(tmp_path):
    cell_only = with_holes().partition(f"\n{HOURS[10]}")[0]
    with pytest.raises(DataError, match=r"the value is missing[\s\S]*missing='fill'[\s\S]*# 1 values are") as caught:
        timeseries.read_csv(write(tmp_path, cell_only))
    assert run(tmp_path, str(caught.value).partition("In pandas:\n")[2])["load"].tolist() == list(range(10))
    path = write(tmp_path, with_holes())
    with pytest.raises(DataError, match="the spacing is not regular"):
        timeseries.read_csv(path)
    with pytest.warns(UserWarning, match=r"3 missing values \(2 of 60 rows were not there\), filled by straight"):
        filled = timeseries.read_csv(path, missing="fill")
    assert filled["load"].tolist() == list(range(60))
    with pytest.warns(UserWarning, match="left as NaN"):
        kept = timeseries.read_csv(path, missing="keep")
    assert np.flatnonzero(kept["load"].isna()).tolist() == [5, 19, 20]
    assert kept.index.freq == filled.index.freq == pd.tseries.frequencies.to_offset("h")
    with pytest.raises(ArgumentError, match=r"\['refuse', 'fill', 'keep'\]|'refuse', 'fill', 'keep'"):
        timeseries.read_csv(path, missing="guess")


def test_a_whole_file_is_no_hole_and_warns_of_nothing(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        frame = timeseries.read_csv(write(tmp_path, lines(HOURS)), missing="fill")
    assert len(frame) == 60


@pytest.mark.parametrize("frequency", ["MS", "ME", "W-SUN", "D", "B", "15min"])
def test_missing_rows_are_found_on_every_calendar(tmp_path, frequency):
    stamps = pd.date_range("2021-01-31", periods=40, freq=frequency).delete([7, 8])
    with pytest.warns(UserWarning, match="2 of 40 rows"):
        frame = timeseries.read_csv(write(tmp_path, lines(stamps)), missing="keep")
    assert frame["load"].isna().sum() == 2
    assert list(frame.dropna().index) == list(stamps)


def test_stamps_on_no_grid_are_refused_whatever_may_be_missing(tmp_path):
    stamps = [*HOURS[:30], *(HOURS[30:] + pd.Timedelta(minutes=7))]
    with pytest.raises(DataError, match="the spacing is not regular"):
        timeseries.read_csv(write(tmp_path, lines(stamps)), missing="fill")
