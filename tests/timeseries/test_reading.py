"""Reading takes no long time and says no more than needed, whatever the file; separators."""

import pytest

from keras_lstm_custom import timeseries
from keras_lstm_custom.errors import ArgumentError, DataError
from tests.timeseries.csv_files import HOURS, VALUES, lines, write


@pytest.mark.parametrize("cell", ["1" * 60_000 + "x", "1." + "0" * 60_000 + "e", "+" * 60_000, "9" * 60_000])
@pytest.mark.parametrize("column", ["time", "load"])
def test_a_cell_of_any_length_is_refused_at_once_and_briefly(tmp_path, cell, column):
    """A search that went back over the digits would take half a minute for each."""
    good = lines(HOURS)
    bad = f"{cell},1\n" if column == "time" else f"{HOURS[-1] + HOURS.freq},{cell}\n"
    with pytest.raises(DataError, match="line 62") as caught:
        timeseries.read_csv(write(tmp_path, good + bad))
    assert len(str(caught.value)) < 2500


def test_messages_stay_short_however_wide_the_table(tmp_path):
    names = [f"column_{k}" for k in range(20_000)]
    text = "\n".join([",".join(["t", *names]), *(",".join([f"2020-01-0{d}", *["1"] * 20_000]) for d in range(1, 5))])
    path = write(tmp_path, text)
    for call in (
        lambda: timeseries.read_csv(path, "colum_7"),
        lambda: timeseries.windows(timeseries.read_csv(path), "colum_7", window=1),
        lambda: timeseries.Scaler.fit(timeseries.read_csv(path)),
        lambda: timeseries.read_csv(write(tmp_path, text + "\n2020-01-05,1", name="ragged.csv")),
    ):
        with pytest.raises(DataError) as caught:
            call()
        assert len(str(caught.value)) < 2000
    with pytest.raises(DataError, match="'column_7'"):
        timeseries.read_csv(path, "colum_7")


@pytest.mark.parametrize("separator", ["\t", "\\t", "tab"])
def test_a_tab_is_a_tab_as_a_shell_passes_it(tmp_path, separator):
    path = write(tmp_path, lines(HOURS, header="time\tload", separator="\t"))
    assert timeseries.read_csv(path, separator=separator)["load"].tolist() == VALUES.tolist()


@pytest.mark.parametrize("separator", ["", ";;", "\n", '"'])
def test_what_is_no_separator_is_refused(tmp_path, separator):
    with pytest.raises(ArgumentError, match="separator"):
        timeseries.read_csv(write(tmp_path, lines(HOURS)), separator=separator)
