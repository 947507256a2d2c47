"""Time stamps as text to a regular index that keeps their zone and offset."""

from __future__ import annotations

import re
import zoneinfo

import numpy as np
import pandas as pd

from keras_lstm_custom.errors import ArgumentError, DataError
from keras_lstm_custom.timeseries.checks import shown
from keras_lstm_custom.timeseries.sheets import Sheet
from keras_lstm_custom.timeseries.spacing import frequency_of, usual_step

_OFFSET = re.compile(r"\d(Z|[+-]\d\d:?\d\d)$")
_DIGITS = re.compile(r"\d+", re.ASCII)
#: Four digits alone are a year in this range: since the Gregorian calendar. 1000, 1001 ... count rows.
YEARS = (1583, 2200)
#: A time stamp is no longer than this; one that is need not be parsed.
_LONGEST = 64
#: Zones to name first where several fit the offsets of a file.
_COMMON = ("Europe/London", "Europe/Berlin", "America/New_York", "America/Chicago", "America/Los_Angeles")


def time_index(sheet: Sheet, time: str, *, zone: str | None = None, regular: bool = True) -> pd.DatetimeIndex:
    """Return the column `time` as stamps that rise, with their zone and (where `regular`) their `freq`.

    Args:
        sheet: the cells.
        time: the column of time stamps.
        zone: the name of the time zone, such as "Europe/Berlin", for local times or changing offsets.
        regular: False accepts steps that differ, and leaves `freq` unset where they do.

    Raises:
        DataError: a cell is no ISO 8601 time stamp, the stamps do not rise, their steps differ, or their offsets do.
    """
    stamps = _parsed(sheet, time, zone)
    index = pd.DatetimeIndex(stamps, name=time)
    steps = np.diff(index.asi8)
    backwards = (np.flatnonzero(steps <= 0) + 1).tolist()
    if backwards:
        raise sheet.wrong(
            time,
            backwards,
            f"the time stamp does not come after the one before it ({index[backwards[0] - 1]}).",
            expected="time stamps that rise, each once",
            remedy="Sort the rows by time and remove those that are there twice.",
        )
    frequency = frequency_of(index)
    if frequency is not None:
        return pd.DatetimeIndex(index, freq=frequency)
    if not regular:
        return index
    between = index[1:] - index[:-1]
    usual = usual_step(index)
    rows = (np.flatnonzero(between != usual) + 1).tolist()
    before, after = index[rows[0] - 1], index[rows[0]]
    raise sheet.wrong(
        time,
        rows,
        f"the spacing is not regular: {after - before} after {before}.",
        expected=f"{before + usual}, since most rows are {usual} apart",
        remedy="Insert the missing rows, or say what shall be done with them: missing='fill' draws straight lines, "
        "missing='keep' leaves holes for a forecaster that masks them.",
    )


def _parsed(sheet: Sheet, time: str, zone: str | None) -> pd.DatetimeIndex:
    """Return the stamps of a column, none of them missing, in the zone they came with or the one that is named."""
    cells = sheet.columns[time]
    offsets = [found[1] if (found := _OFFSET.search(cell[-7:])) and len(cell) > 10 else "" for cell in cells]
    if any(offsets) and not all(offsets):
        raise sheet.wrong(
            time,
            [offsets.index("")],
            "some time stamps have an offset from UTC, this one has none.",
            expected="an offset in every row, or in none",
            remedy="Write all time stamps alike.",
        )
    _refuse_counts(sheet, time)
    text = pd.Series([cell if len(cell) <= _LONGEST else None for cell in cells], dtype=object)
    stamps = pd.to_datetime(text, format="ISO8601", errors="coerce", utc=True)
    unread = np.flatnonzero(stamps.isna()).tolist()
    if unread:
        raise sheet.wrong(
            time,
            unread,
            "this is not a time stamp.",
            expected="ISO 8601, such as 2013-01-31 or 2013-01-31 18:00",
            remedy="Write the time stamps that way, or say which column holds them.",
        )
    index = pd.DatetimeIndex(stamps)
    if zone is not None:
        return _in_zone(sheet, time, index, zone, has_offsets=bool(offsets[0]))
    if not offsets[0]:
        return index.tz_localize(None)
    kinds = {"+0000" if offset == "Z" else offset.replace(":", "") for offset in offsets}
    if len(kinds) == 1:
        return pd.DatetimeIndex(pd.to_datetime(text, format="ISO8601"))
    row = next(k for k, offset in enumerate(offsets) if offset != offsets[0])
    fitting = _fitting(index, offsets)
    raise sheet.wrong(
        time,
        [row],
        f"the offset from UTC changes here, from {offsets[0]} to {offsets[row]}, and does not say which zone it is.",
        expected="one offset in all rows, or the name of the time zone",
        remedy=f"Name the zone; zone={fitting!r} has these offsets."
        if fitting
        else "Name the zone; no zone has these offsets, zone='UTC' serves if the local time does not matter.",
    )


def _in_zone(sheet: Sheet, time: str, index: pd.DatetimeIndex, zone: str, has_offsets: bool) -> pd.DatetimeIndex:
    try:
        zoneinfo.ZoneInfo(zone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError, TypeError) as error:
        raise ArgumentError(
            "There is no such time zone.",
            expected="a name of the IANA data base, such as 'Europe/Berlin' or 'UTC'",
            received=shown(zone),
            remedy="Check the spelling.",
        ) from error
    if has_offsets:
        return index.tz_convert(zone)
    try:
        return index.tz_localize(None).tz_localize(zone, ambiguous="infer")
    except ValueError as error:
        raise DataError(
            f"{sheet.name}: the column {shown(time)} is not local time of {zone}.",
            expected="local times that exist there; the hour when clocks are put back is there twice",
            received=str(error)[:200],
            remedy="Check the zone; for times that know no summer time leave it out, or write offsets into the file.",
        ) from error


def _refuse_counts(sheet: Sheet, time: str) -> None:
    """Refuse bare numbers that count rows or seconds: pandas would take 1000 for a year."""
    cells = sheet.columns[time]
    counts = [
        k
        for k, cell in enumerate(cells)
        if _DIGITS.fullmatch(cell) and not (len(cell) == 8 or (len(cell) == 4 and YEARS[0] <= int(cell) <= YEARS[1]))
    ]
    if counts:
        raise sheet.wrong(
            time,
            counts,
            "this is not a time stamp but a bare number.",
            expected=f"ISO 8601, such as 2013-01-31 18:00, or a year from {YEARS[0]} to {YEARS[1]}",
            remedy="Write time stamps, or say which column holds them.",
        )


def _fitting(index: pd.DatetimeIndex, offsets: list[str]) -> str | None:
    """Return a time zone that has these offsets at these stamps, or None."""
    changes = [k for k in range(1, len(offsets)) if offsets[k] != offsets[k - 1]]
    rows = sorted({0, len(offsets) - 1, *changes[:20], *(k - 1 for k in changes[:20])})
    wanted = [pd.Timedelta(hours=int(o[:3]), minutes=int(o[0] + o[-2:])) for o in (_signed(offsets[k]) for k in rows)]
    for name in (*_COMMON, *sorted(zoneinfo.available_timezones())):
        zone = zoneinfo.ZoneInfo(name)
        if all(index[k].astimezone(zone).utcoffset() == w for k, w in zip(rows, wanted, strict=True)):
            return name
    return None


def _signed(offset: str) -> str:
    return "+00:00" if offset == "Z" else offset
