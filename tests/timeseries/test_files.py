"""The strict reading of CSV files."""

import pandas as pd
import pytest

from keras_lstm_custom import timeseries
from keras_lstm_custom.errors import DataError, RecurrentError


def write(tmp_path, text, encoding="utf-8"):
    path = tmp_path / "load.csv"
    path.write_bytes(text.encode(encoding))
    return path


def csv_lines(rows=6, start="2013-01-01", freq="h"):
    times = pd.date_range(start, periods=rows, freq=freq)
    return ["time,load,wind"] + [f"{time:%Y-%m-%d %H:%M},{k}.5,{-k}" for k, time in enumerate(times)]


def test_a_good_file_is_read_as_it_is(tmp_path):
    frame = timeseries.read_csv(write(tmp_path, "\n".join(csv_lines())), target="load")
    assert list(frame.columns) == ["load", "wind"]
    assert frame["load"].tolist() == [k + 0.5 for k in range(6)]
    assert frame.index.name == "time"
    assert frame.index.freq == pd.tseries.frequencies.to_offset("h")
    assert frame.index[-1] == pd.Timestamp("2013-01-01 05:00")


@pytest.mark.parametrize("frequency", ["h", "10min", "D", "W-WED", "MS", "ME", "QS", "YE", "B", "7h"])
def test_every_regular_spacing_is_read(tmp_path, frequency):
    frame = timeseries.read_csv(write(tmp_path, "\n".join(csv_lines(40, freq=frequency))))
    expected = pd.date_range("2013-01-01", periods=40, freq=frequency)
    assert list(frame.index) == list(expected)
    assert list(timeseries.next_times(frame.index, 3)) == list(expected.union(expected + 3 * expected.freq)[-3:])


def test_other_separator_time_column_offset_quotes_and_byte_order_mark(tmp_path):
    lines = ['"a, b";note;when'] + [f"{k};x;2013-01-01T0{k}:00:00+01:00" for k in range(4)] + ["", ""]
    path = write(tmp_path, "\r\n".join(lines), encoding="utf-8-sig")
    frame = timeseries.read_csv(path, target="a, b", columns=[], time="when", separator=";")
    assert list(frame.columns) == ["a, b"]
    assert frame.index[0].isoformat() == "2013-01-01T00:00:00+01:00"


def replaced(number, line):
    """Return a good file with one line (1 is the header) replaced, or removed by None."""
    lines = csv_lines(8)
    lines[number - 1 : number] = [] if line is None else [line]
    return "\n".join(lines)


BAD = {
    "missing column": (replaced(1, "time,power,wind"), r"no column 'load'[\s\S]*\['time', 'power', 'wind'\]"),
    "text in numbers": (
        replaced(4, "2013-01-01 02:00,many,1"),
        r"line 4, column 'load': this is not a number[\s\S]*'many'",
    ),
    "decimal comma": (
        replaced(4, '2013-01-01 02:00,"2,5",1'),
        r"line 4, column 'load'[\s\S]*decimal point[\s\S]*'2,5'",
    ),
    "empty cell": (replaced(5, "2013-01-01 03:00,1,"), r"line 5, column 'wind': the value is missing"),
    "NaN": (replaced(5, "2013-01-01 03:00,NaN,1"), r"line 5, column 'load': the value is missing[\s\S]*'NaN'"),
    "infinite": (replaced(5, "2013-01-01 03:00,inf,1"), r"line 5, column 'load': this is not a number[\s\S]*'inf'"),
    "too large": (replaced(5, "2013-01-01 03:00,1e400,1"), r"line 5, column 'load'[\s\S]*too large"),
    "gap": (replaced(5, None), r"line 5, column 'time': the spacing[\s\S]*2013-01-01 03:00[\s\S]*'2013-01-01 04:00'"),
    "duplicate": (
        replaced(5, "2013-01-01 02:00,1,1"),
        r"line 5, column 'time'[\s\S]*not come after[\s\S]*rise, each once",
    ),
    "unsorted": (replaced(5, "2012-01-01 03:00,1,1"), r"line 5, column 'time'[\s\S]*not come after"),
    "not a time": (replaced(3, "yesterday,1,1"), r"line 3, column 'time': this is not a time stamp[\s\S]*ISO 8601"),
    "day first": (replaced(3, "31.01.2013 01:00,1,1"), r"line 3, column 'time': this is not a time stamp"),
    "some offsets": (replaced(3, "2013-01-01 01:00Z,1,1"), r"line 2, column 'time': some time stamps have an offset"),
    "time missing": (replaced(3, ",1,1"), r"line 3, column 'time': the value is missing"),
    "row of separators": (replaced(5, ",,"), r"line 5, column 'time': the value is missing"),
    "ragged row": (replaced(6, "2013-01-01 04:00,1"), r"line 6: the row does not fit[\s\S]*3 cells[\s\S]*2 cells"),
    "too short": ("\n".join(csv_lines(2)), r"too short[\s\S]*2 rows"),
    "header only": ("time,load", r"too short[\s\S]*0 rows"),
    "empty file": ("", r"header[\s\S]*empty file"),
    "other separator": ("\n".join(csv_lines()).replace(",", ";"), r"line 1[\s\S]*'time;load;wind'[\s\S]*`separator`"),
    "name twice": (replaced(1, "time,load,load"), r"line 1: the header"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_files_are_refused_with_line_and_column(tmp_path, kind):
    text, words = BAD[kind]
    with pytest.raises(DataError, match=words) as caught:
        timeseries.read_csv(write(tmp_path, text), target="load")
    assert isinstance(caught.value, RecurrentError)
    assert all(part in str(caught.value) for part in ("Expected:", "Received:", "What to do:"))


def test_the_line_is_that_of_the_file_even_after_blank_lines_and_line_breaks_in_quotes(tmp_path):
    lines = (
        ["time,load,note"] + [f'2013-01-01 0{k}:00,{k},"two\nlines"' for k in range(4)] + ["", "2013-01-01 04:00,x,y"]
    )
    with pytest.raises(DataError, match="line 11, column 'load'"):
        timeseries.read_csv(write(tmp_path, "\n".join(lines)), target="load", columns=["load"])


def test_further_faults_of_the_same_kind_are_counted(tmp_path):
    lines = csv_lines(8)
    lines[3:6] = [line.replace(".5", " kW") for line in lines[3:6]]
    with pytest.raises(DataError, match=r"line 4, [\s\S]*'2 kW' \(and 2 more"):
        timeseries.read_csv(write(tmp_path, "\n".join(lines)), target="load")


def test_files_that_are_no_text_and_no_files(tmp_path):
    with pytest.raises(DataError, match=r"cannot be read[\s\S]*FileNotFoundError"):
        timeseries.read_csv(tmp_path / "nowhere.csv")
    with pytest.raises(DataError, match=r"cannot be read[\s\S]*UnicodeDecodeError"):
        timeseries.read_csv(write(tmp_path, "time,last\nä,1", encoding="latin-1"))


def test_the_time_column_is_no_target(tmp_path):
    with pytest.raises(DataError, match="no column of numbers"):
        timeseries.read_csv(write(tmp_path, "\n".join(csv_lines())), target="time")
