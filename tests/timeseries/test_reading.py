"""Files as people have them: zones and holes kept, and an error holds the pandas call that tidies the file."""

import gzip
import warnings

import numpy as np
import pandas as pd
import pytest

from keras_lstm_custom import timeseries
from keras_lstm_custom.errors import ArgumentError, DataError

HOURS = pd.date_range("2021-01-01", periods=60, freq="h")
VALUES = np.round(1000 + 100 * np.sin(np.arange(60)), 1)


def write(tmp_path, text, encoding="utf-8", name="load.csv"):
    path = tmp_path / name
    path.write_bytes(text.encode(encoding))
    return path


def lines(stamps, values=VALUES, header="time,load", separator=","):
    return "\n".join([header, *(f"{s}{separator}{v}" for s, v in zip(stamps, values, strict=False))]) + "\n"


def german(value):
    return f"{value:,.1f}".translate(str.maketrans(",.", ".,"))


LOCAL = pd.date_range("2021-10-30", periods=60, freq="h", tz="Europe/Berlin")
MONTHS = pd.date_range("2001-01-01", periods=60, freq="MS")
QUARTERS = pd.date_range("2001-01-01", periods=60, freq="QS")
YEARS = pd.date_range("1901-01-01", periods=60, freq="YS")
WORKDAYS = pd.bdate_range("2021-01-04", periods=60)
HALVES = pd.date_range("2021-01-01", periods=60, freq="30min")
TWO = [(s, name) for s in HOURS[:30] for name in ("north", "south")]

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


def run(tmp_path, code, **options):
    """Run the advice, and read what it writes."""
    exec("\n".join(line[4:] for line in code.splitlines()), {})
    return timeseries.read_csv(tmp_path / "load-tidy.csv", **options)


def test_two_columns_may_tell_several_series_apart(tmp_path):
    rows = [f"{s},{region},{store},{k}" for k, s in enumerate(HOURS[:9]) for region in "NS" for store in (1, 2)]
    path = write(tmp_path, "\n".join(["time,region,store,load", *rows]))
    with pytest.raises(DataError, match="id='series'") as caught:
        timeseries.read_csv(path)
    exec("\n".join(line[4:] for line in str(caught.value).partition("In pandas:\n")[2].splitlines()), {})
    frames = timeseries.read_series(tmp_path / "load-tidy.csv", id="series")
    assert list(frames) == ["N 1", "N 2", "S 1", "S 2"]
    assert all(list(frame["load"]) == list(range(9)) for frame in frames.values())


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


# Several series in one file


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


# Holes


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


def test_a_tidy_file_gets_no_advice_about_tidying(tmp_path):
    with pytest.raises(DataError, match="no column 'lod'") as caught:
        timeseries.read_csv(write(tmp_path, lines(HOURS)), "lod")
    assert "In pandas" not in str(caught.value)


# Counts are no years, and nothing takes long or says much


@pytest.mark.parametrize(("first", "wrong"), [(1000, True), (1, True), (20000, True), (1700, False), (1990, False)])
def test_counted_rows_are_not_taken_for_years(tmp_path, first, wrong):
    path = write(tmp_path, lines(range(first, first + 30)))
    if not wrong:
        assert timeseries.read_csv(path).index[0] == pd.Timestamp(f"{first}-01-01")
        return
    with pytest.raises(DataError, match=r"bare number[\s\S]*date_range") as caught:
        timeseries.read_csv(path)
    assert len(run(tmp_path, str(caught.value).partition("In pandas:\n")[2])) == 30


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
