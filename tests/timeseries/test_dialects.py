"""Files as people have them: the error holds the pandas call that tidies the file."""

import gzip

import numpy as np
import pandas as pd
import pytest

from keras_lstm_custom import timeseries
from keras_lstm_custom.errors import DataError
from tests.timeseries.csv_files import HOURS, LOCAL, VALUES, lines, run, write


def german(value):
    return f"{value:,.1f}".translate(str.maketrans(",.", ".,"))


MONTHS = pd.date_range("2001-01-01", periods=60, freq="MS")
QUARTERS = pd.date_range("2001-01-01", periods=60, freq="QS")
YEARS = pd.date_range("1901-01-01", periods=60, freq="YS")
WORKDAYS = pd.bdate_range("2021-01-04", periods=60)
HALVES = pd.date_range("2021-01-01", periods=60, freq="30min")
#: What a file looks like: its text, what the advice must hold, and the stamps and values that the tidy file must have.
DIALECTS = {
    "semicolons and decimal commas": (
        lines(HOURS, [str(v).replace(".", ",") for v in VALUES], "time;load", ";"),
        ["sep=';'", "decimal=','"],
    ),
    "thousands and decimal comma": (
        lines(HOURS, [german(v) for v in VALUES], "time;load", ";"),
        ["sep=';'", "decimal=','", "thousands='.'"],
    ),
    "thousands in quotes": (lines(HOURS, [f'"{v:,.1f}"' for v in VALUES]), ["thousands=','"]),
    "tabs": (lines(HOURS, header="time\tload", separator="\t"), [r"sep='\t'"]),
    "day first, dots": (lines(HOURS.strftime("%d.%m.%Y %H:%M")), ["format='%d.%m.%Y %H:%M'"]),
    "day first, slashes": (lines(HOURS.strftime("%d/%m/%Y %H:%M")), ["format='%d/%m/%Y %H:%M'"]),
    "month first, half days": (lines(HOURS.strftime("%m/%d/%Y %I:%M %p")), ["format='%m/%d/%Y %I:%M %p'"]),
    "epoch seconds": (lines(HOURS.astype("datetime64[s]").asi8), ["unit='s'"]),
    "epoch milliseconds": (lines(HOURS.astype("datetime64[ms]").asi8), ["unit='ms'"]),
    "date and time apart": (
        "\n".join(["date,clock,load", *(f"{s:%d.%m.%Y},{s:%H:%M},{v}" for s, v in zip(HOURS, VALUES, strict=True))]),
        ["table['date'] + ' ' + table['clock']"],
    ),
    "year, month, day, hour": (
        "\n".join(["Year,Month,Day,Hour,load"] + [f"{s:%Y,%m,%d,%H},{v}" for s, v in zip(HOURS, VALUES, strict=True)]),
        ["['Year', 'Month', 'Day', 'Hour']"],
    ),
    "lines above the header": ("Station 7\nmade by hand\n\n" + lines(HOURS), ["skiprows=3"]),
    "no header": (lines(HOURS).partition("\n")[2], ["header=None"]),
    "units below the header": (lines(HOURS).replace("load\n", "load\n,MW\n", 1), ["skiprows=[1]"]),
    "upside down": (lines(HOURS[::-1], VALUES[::-1]), ["sort_values('time')"]),
    "rows twice": (lines(HOURS) + f"{HOURS[-1]},{VALUES[-1]}\n", ["drop_duplicates('time'", "1 stamps"]),
    "time not first": (
        "\n".join(["load,when", *(f"{v},{s:%d.%m.%Y %H:%M}" for s, v in zip(HOURS, VALUES, strict=True))]),
        ["table['when']", "format='%d.%m.%Y %H:%M'"],
    ),
    "numbered rows": (
        "\n".join([",time,load", *(f"{k},{s},{v}" for k, (s, v) in enumerate(zip(HOURS, VALUES, strict=True)))]),
        ["[['load']]"],
    ),
    "a separator at the end": (
        "\n".join(["time,load,", *(f"{s},{v}," for s, v in zip(HOURS, VALUES, strict=True))]),
        ["[['load']]"],
    ),
    "epoch seconds with a point": (lines([f"{t}.0" for t in HOURS.astype("datetime64[s]").asi8]), ["unit='s'"]),
    "units in the cells": (lines(HOURS, [f"{v} kW" for v in VALUES]), ["removesuffix(' kW')"]),
    "blanks": (lines(HOURS.strftime("%Y-%m-%dT%H:%M"), header="time load", separator="  "), ["sep='\\\\s+'"]),
    "stamps beside the hour": (
        lines([HOURS[k] + pd.Timedelta(seconds=5 * (k % 3) - 4) for k in range(60)]),
        ["dt.round('h')"],
    ),
    "a column of words": (
        lines(HOURS, [f"{v},sunny" for v in VALUES], "time,load,sky"),
        ["hold text: sky", "[['load']]"],
    ),
    "compact months": (lines(MONTHS.strftime("%Y%m")), ["format='%Y%m'"], MONTHS),
    "comments": ("# by hand\n" + lines(HOURS).replace(f"{HOURS[9]}", f"# cleaned\n{HOURS[9]}"), ["comment='#'"]),
    "a sum below": (lines(HOURS) + "\nSum,60000\nSource: me\n", ["skipfooter=3", "engine='python'"]),
    "Excel's note of the separator": ("sep=;\n" + lines(HOURS, header="time;load", separator=";"), ["skiprows=1"]),
    "blanks in the stamps": (
        "time                load\n" + "".join(f"{s}  {v:8}\n" for s, v in zip(HOURS, VALUES, strict=True)),
        ["header=None", "table['time'] + ' ' + table['value1']"],
    ),
    "apostrophes": (
        lines(HOURS, [f"{v:,}".replace(",", "'") for v in VALUES], "time;load", ";"),
        ["""str.replace("'", '')"""],
    ),
    "blanks in numbers": (
        lines(HOURS, [f"{v:,}".replace(",", "\u202f").replace(".", ",") for v in VALUES], "time;load", ";"),
        ["str.replace('\\u202f', '').str.replace(',', '.')"],
    ),
    "a currency before": (lines(HOURS, [f'"${v:,}"' for v in VALUES]), ["str.replace('$', '').str.replace(',', '')"]),
    "another minus": (lines(HOURS, [f"\u2212{v}" for v in VALUES]), ["str.replace('\u2212', '-')"], HOURS, -VALUES),
    "losses in brackets": (
        lines(HOURS, [f"({v})" if k % 3 == 0 else v for k, v in enumerate(VALUES)]),
        ["regex=True"],
        HOURS,
        np.where(np.arange(60) % 3 == 0, -VALUES, VALUES),
    ),
    "powers of ten with commas": (
        lines(HOURS, [f"{v:.4E}".replace(".", ",") for v in VALUES], "time;load", ";"),
        ["decimal=','"],
    ),
    "a word for no value": (
        lines(HOURS, ["bad" if k == 5 else v for k, v in enumerate(VALUES)]),
        ["na_values=['bad']", "'bad' (1 times)", "interpolate"],
        HOURS,
        np.where(np.arange(60) == 5, (VALUES[4] + VALUES[6]) / 2, VALUES),
    ),
    "month first, clocks put back": (
        lines(pd.date_range("2021-11-06", periods=60, freq="h", tz="America/New_York").strftime("%m/%d/%Y %H:%M")),
        ["format='%m/%d/%Y %H:%M'", "tz_localize('America/New_York'"],
        pd.date_range("2021-11-06 04:00", periods=60, freq="h"),
    ),
    "months, month first": (lines(MONTHS.strftime("%m/%d/%Y")), ["format='%m/%d/%Y'"], MONTHS),
    "letters of the zone": (
        lines([f"{s:%Y-%m-%d %H:%M} {s.tzname()}" for s in LOCAL]),
        ["' CEST$': '+02:00'"],
        LOCAL.tz_convert("UTC").tz_localize(None),
    ),
    "mail dates": (lines([f'"{s:%a, %d %b %Y %H:%M:%S} GMT"' for s in HOURS]), ["' GMT$': '+00:00'", "Mon|Tue"]),
    "midnight as 24:00": (
        lines([f"{s - pd.Timedelta('1min'):%d.%m.%Y} {s.hour or 24:02}:00" for s in HOURS]),
        ["str.contains(' 24')"],
    ),
    "from and to": (lines([f"{s:%d.%m.%Y %H:%M} - {s:%d.%m.%Y %H}:59" for s in HOURS]), ["str.split(' - ').str[0]"]),
    "date and hour": (
        lines(
            HOURS.strftime("%m/%d/%Y"), [f"{s.hour},{v}" for s, v in zip(HOURS, VALUES, strict=True)], "day,hour,load"
        ),
        ["table['hour'].astype('int')) * 60"],
    ),
    "date and period": (
        lines(HALVES.strftime("%d/%m/%Y"), [f"{s.hour * 2 + s.minute // 30 + 1},5" for s in HALVES], "day,period,load"),
        ["'period' 1 is taken for the first 30 minutes", "- 1) * 30"],
        HALVES,
        np.full(60, 5.0),
    ),
    "year and month": (
        lines(MONTHS.strftime("%Y,%b"), header="Year,Month,load"),
        ["table['Year'] + '-' + table['Month'], format='%Y-%b'"],
        MONTHS,
    ),
    "year and quarter": (
        lines([f"{s.year},{s.quarter}" for s in QUARTERS], header="year,quarter,load"),
        ["PeriodIndex"],
        QUARTERS,
    ),
    "quarter first": (lines([f"Q{s.quarter} {s.year}" for s in QUARTERS]), ["PeriodIndex"], QUARTERS),
    "years with a point": (lines([f"{1901 + k}.0" for k in range(60)]), ["format='%Y'"], YEARS),
    "Excel's days": (
        lines([f"{(s - pd.Timestamp('1899-12-30')) / pd.Timedelta('1D'):.6f}" for s in HOURS]),
        ["origin='1899-12-30'"],
    ),
    "hours without a separator": (lines(HOURS.strftime("%Y%m%d%H")), ["format='%Y%m%d%H'"]),
    "days of the year": (lines(HOURS.strftime("%Y-%j %H:%M")), ["format='%Y-%j %H:%M'"]),
    "business days": (lines(WORKDAYS.strftime("%d/%m/%Y")), ["format='%d/%m/%Y'"], WORKDAYS),
    "months with a hole": (
        lines(MONTHS.delete(5).strftime("%m.%Y"), np.delete(VALUES, 5)),
        ["1 rows are missing", "asfreq('MS')"],
        MONTHS,
        np.where(np.arange(60) == 5, (VALUES[4] + VALUES[6]) / 2, VALUES),
    ),
    "no equal steps": (
        lines(
            HOURS[0] + pd.to_timedelta(np.arange(120) * 30 + np.tile([3, 11, 4, 9, 6, 1], 20), unit="min"),
            np.repeat(VALUES, 2),
        ),
        ["no equal steps", "resample('1h').mean(numeric_only=True)"],
    ),
    "two lines of names": (lines(HOURS).replace("time,load", "time,load\n,mean", 1), ["skiprows=[1]"]),
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_call_in_the_error_tidies_the_file(tmp_path, dialect):
    text, words, *rest = DIALECTS[dialect]
    stamps, values = (*rest, *(HOURS, VALUES)[len(rest) :])
    with pytest.raises(DataError, match="In pandas:") as caught:
        timeseries.read_csv(write(tmp_path, text), "load")
    code = str(caught.value).partition("In pandas:\n")[2]
    assert all(word in code for word in words), code
    frame = run(tmp_path, code)
    assert list(frame.index.tz_localize(None)) == list(stamps)
    np.testing.assert_allclose(frame.iloc[:, 0], values, rtol=1e-4 if dialect == "powers of ten with commas" else 1e-7)


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"PK\x03\x04" + bytes(99), "read_excel"), (b"PAR1" + bytes(99), "read_parquet"), (b'[{"time": 1}]', "read_json")],
)
def test_a_file_of_another_kind_is_named_with_what_reads_it(tmp_path, content, words):
    path = tmp_path / "load.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"not a CSV file(?s:.*)pandas\.{words}(?s:.*)table = pd\.{words}"):
        timeseries.read_csv(path)


def test_a_compressed_file_is_read_by_the_call_in_the_error(tmp_path):
    (tmp_path / "load.csv.gz").write_bytes(gzip.compress(lines(HOURS).encode()))
    with pytest.raises(DataError, match="compressed by gzip") as caught:
        timeseries.read_csv(tmp_path / "load.csv.gz")
    assert list(run(tmp_path, str(caught.value).partition("In pandas:\n")[2]).index) == list(HOURS)


def test_quarters_are_recognised(tmp_path):
    quarters = [f"{year}-Q{quarter}" for year in range(2001, 2006) for quarter in (1, 2, 3, 4)]
    with pytest.raises(DataError, match="PeriodIndex") as caught:
        timeseries.read_csv(write(tmp_path, lines(quarters)))
    frame = run(tmp_path, str(caught.value).partition("In pandas:\n")[2])
    assert list(frame.index) == list(pd.date_range("2001-01-01", periods=20, freq="QS"))


def test_years_that_count_from_1_are_recognised(tmp_path):
    path = write(tmp_path, lines([f"{1 + k // 12}-{1 + k % 12:02}" for k in range(36)]))
    with pytest.raises(DataError, match="years count from 1, here taken for 2001") as caught:
        timeseries.read_csv(path, "load")
    frame = run(tmp_path, str(caught.value).partition("In pandas:\n")[2])
    assert frame.index.equals(pd.date_range("2001-01-01", periods=36, freq="MS"))
    np.testing.assert_array_equal(frame["load"], VALUES[:36])


def test_weeks_are_recognised(tmp_path):
    mondays = pd.date_range("2020-11-30", periods=20, freq="W-MON")  # over the 53rd week of a year
    with pytest.raises(DataError, match="%G-W%V") as caught:
        timeseries.read_csv(write(tmp_path, lines(mondays.strftime("%G-W%V"))))
    assert list(run(tmp_path, str(caught.value).partition("In pandas:\n")[2]).index) == list(mondays)


def test_latin_1_and_utf_16_are_recognised(tmp_path):
    for encoding in ("cp1252", "utf-16"):
        text = lines(HOURS, header="time,höhe")
        with pytest.raises(DataError, match=f"encoding='{encoding}'") as caught:
            timeseries.read_csv(write(tmp_path, text, encoding))
        assert list(run(tmp_path, str(caught.value).partition("In pandas:\n")[2]).columns) == ["höhe"]


def test_a_tidy_file_gets_no_advice_about_tidying(tmp_path):
    with pytest.raises(DataError, match="no column 'lod'") as caught:
        timeseries.read_csv(write(tmp_path, lines(HOURS)), "lod")
    assert "In pandas" not in str(caught.value)


@pytest.mark.parametrize(("first", "wrong"), [(1000, True), (1, True), (20000, True), (1700, False), (1990, False)])
def test_counted_rows_are_not_taken_for_years(tmp_path, first, wrong):
    path = write(tmp_path, lines(range(first, first + 30)))
    if not wrong:
        assert timeseries.read_csv(path).index[0] == pd.Timestamp(f"{first}-01-01")
        return
    with pytest.raises(DataError, match=r"bare number[\s\S]*date_range") as caught:
        timeseries.read_csv(path)
    assert len(run(tmp_path, str(caught.value).partition("In pandas:\n")[2])) == 30
