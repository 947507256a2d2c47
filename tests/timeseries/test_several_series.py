"""Several series in one file."""

import pytest

from keras_lstm_custom import timeseries
from keras_lstm_custom.errors import DataError
from tests.timeseries.csv_files import HOURS, write

TWO = [(s, name) for s in HOURS[:30] for name in ("north", "south")]


def test_two_columns_may_tell_several_series_apart(tmp_path):
    rows = [f"{s},{region},{store},{k}" for k, s in enumerate(HOURS[:9]) for region in "NS" for store in (1, 2)]
    path = write(tmp_path, "\n".join(["time,region,store,load", *rows]))
    with pytest.raises(DataError, match="id='series'") as caught:
        timeseries.read_csv(path)
    exec("\n".join(line[4:] for line in str(caught.value).partition("In pandas:\n")[2].splitlines()), {})
    frames = timeseries.read_series(tmp_path / "load-tidy.csv", id="series")
    assert list(frames) == ["N 1", "N 2", "S 1", "S 2"]
    assert all(list(frame["load"]) == list(range(9)) for frame in frames.values())


def test_an_id_column_is_recognised_and_read(tmp_path):
    text = "\n".join(["time,place,load", *(f"{s},{name},{k}" for k, (s, name) in enumerate(TWO))])
    path = write(tmp_path, text)
    with pytest.raises(DataError, match=r"read_series\([^)]*id='place'\)"):
        timeseries.read_csv(path, "load", columns=[])
    first = write(tmp_path, "\n".join(["place,time,load", *(f"{name},{s},1" for s, name in TWO)]), name="first.csv")
    with pytest.raises(DataError, match=r"read_series\([^)]*id='place'\)"):
        timeseries.read_csv(first)
    frames = timeseries.read_series(path, "load", id="place")
    assert list(frames) == ["north", "south"]
    assert list(frames["south"].index) == list(HOURS[:30])
    assert frames["south"]["load"].tolist() == list(range(1, 60, 2))


def test_a_short_series_among_several_is_named(tmp_path):
    text = "\n".join(["time,place,load", *(f"{s},{name},1" for s, name in TWO), f"{HOURS[0]},west,1"])
    with pytest.raises(DataError, match=r"'west' is too short[\s\S]*1 rows \(1 of 3"):
        timeseries.read_series(write(tmp_path, text), id="place")
