"""CSV files for the tests of reading: hours and values, written in any dialect."""

import numpy as np
import pandas as pd

from keras_lstm_custom import timeseries

HOURS = pd.date_range("2021-01-01", periods=60, freq="h")
VALUES = np.round(1000 + 100 * np.sin(np.arange(60)), 1)


def write(tmp_path, text, encoding="utf-8", name="load.csv"):
    path = tmp_path / name
    path.write_bytes(text.encode(encoding))
    return path


def lines(stamps, values=VALUES, header="time,load", separator=","):
    return "\n".join([header, *(f"{s}{separator}{v}" for s, v in zip(stamps, values, strict=False))]) + "\n"


LOCAL = pd.date_range("2021-10-30", periods=60, freq="h", tz="Europe/Berlin")


def run(tmp_path, code, **options):
    """Run the advice, and read what it writes."""
    exec("\n".join(line[4:] for line in code.splitlines()), {})
    return timeseries.read_csv(tmp_path / "load-tidy.csv", **options)
