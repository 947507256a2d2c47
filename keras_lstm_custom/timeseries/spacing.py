"""How far apart the stamps of an index are: the spacing of a regular one, and what is wrong with any other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from keras_lstm_custom.errors import DataError
from keras_lstm_custom.timeseries.checks import shown

#: How the rows of a table get time stamps, by the kind of index that they have.
_TO_STAMPS: tuple[tuple[type[pd.Index], str], ...] = (
    (pd.PeriodIndex, "frame = frame.to_timestamp()."),
    (
        pd.MultiIndex,
        "Give several series as a dictionary by id: {id: part.droplevel(0) for id, part in frame.groupby(level=0)}.",
    ),
    (
        pd.RangeIndex,
        "Make the column of time stamps the index: frame = frame.set_index('time'); or, without one, put in the first "
        "time and the spacing: frame.index = pandas.date_range('2020-01-01', periods=len(frame), freq='h').",
    ),
    (pd.Index, "frame.index = pandas.to_datetime(frame.index)."),
)


def regular(index: Any, of: str = "", *, like: str | None = None) -> pd.DatetimeIndex:
    """Return an index in equal steps with its `freq` set, which pandas drops where it reads or joins tables.

    Args:
        index: of a table.
        of: which table it is, for errors, such as " of the series 'a'".
        like: the spacing to try first, by its name: five days in a row may be business days, too.

    Raises:
        DataError: these are no stamps, or none in equal steps; the message says where, and what to do.
    """
    if not isinstance(index, pd.DatetimeIndex):
        raise DataError(
            f"The rows{of} have no time stamps.",
            expected="a pandas.DatetimeIndex",
            received=type(index).__name__ + (f" that begins with {shown(index[0])}" if len(index) else ""),
            remedy=next(remedy for kind, remedy in _TO_STAMPS if isinstance(index, kind)),
        )
    _check_order(index, of)
    if index.freq is not None:
        return index
    if like is not None:
        try:
            return pd.DatetimeIndex(index, freq=like)
        except ValueError:  # it is not like that
            pass
    frequency = frequency_of(index)
    if frequency is None:
        raise _irregular(index, of)
    return pd.DatetimeIndex(index, freq=frequency)


def _check_order(index: pd.DatetimeIndex, of: str) -> None:
    """Raise DataError unless there are stamps, all of them known, that rise, each once."""
    if not len(index):
        raise DataError(
            f"The table{of} has no rows.",
            expected="a row for each time step",
            received=f"{len(index)} rows",
            remedy="Look at how it was selected; of several series, leave it out.",
        )
    unknown = np.flatnonzero(index.isna())
    if unknown.size:
        raise DataError(
            f"Time stamps{of} are missing.",
            expected="a time stamp for each row",
            received=f"NaT in row {unknown[0]} ({unknown.size} rows in all)",
            remedy="Fill them, or leave these rows out: frame = frame[frame.index.notna()].",
        )
    twice = index[index.duplicated()]
    if len(twice):
        raise DataError(
            f"Time stamps{of} are there more than once.",
            expected="each time stamp once",
            received=f"{twice[0]} again ({len(twice)} rows in all)",
            remedy="Several series in one table become a dictionary by id: dict(list(frame.groupby('id'))). Rows that "
            "are there twice go by frame = frame[~frame.index.duplicated(keep='last')].",
        )
    if not index.is_monotonic_increasing:
        row = int(np.flatnonzero(np.diff(index.asi8) < 0)[0])
        raise DataError(
            f"The time runs backwards{of}.",
            expected="rows in the order of time",
            received=f"{index[row]} before {index[row + 1]}",
            remedy="Sort them: frame = frame.sort_index().",
        )


def _irregular(index: pd.DatetimeIndex, of: str) -> DataError:
    """Return the error of stamps that rise, but in no equal steps: of so few, of holes, or of any steps."""
    if len(index) < 3:
        return DataError(
            f"How far apart the time steps{of} are cannot be told from so few rows.",
            expected="at least 3 rows, or an index with a `freq`",
            received=f"{len(index)} rows",
            remedy="Give a longer record, or say it, e.g. frame = frame.asfreq('h').",
        )
    grid = on_a_grid(index)
    if grid is not None:
        holes = grid.difference(index)
        return DataError(
            f"Time steps{of} have no row.",
            expected=f"a row for every step of {grid.freqstr}",
            received=f"none for {holes[0]} ({len(holes)} of {len(grid)} steps in all)",
            remedy=f"frame = frame.asfreq({grid.freqstr!r}) puts them in without values. Fill these, knowing how, or "
            "let a forecaster mask them: missing='mask'.",
        )
    usual = usual_step(index)
    row = int(np.flatnonzero(index[1:] - index[:-1] != usual)[0])
    return DataError(
        f"The time steps{of} are not equal.",
        expected=f"{index[row] + usual} after {index[row]}, since most rows are {usual} apart",
        received=str(index[row + 1]),
        remedy="Bring them to equal steps: frame = frame.resample('h').mean(), or another spacing that suits.",
    )


def usual_step(index: pd.DatetimeIndex) -> pd.Timedelta:
    """Return the most frequent distance of neighbouring stamps."""
    return pd.Series(index[1:] - index[:-1]).mode()[0]


def on_a_grid(index: pd.DatetimeIndex) -> pd.DatetimeIndex | None:
    """Return the regular index of which the stamps of `index` are the largest part; None if there is none."""
    if index.freq is not None:
        return index
    step = usual_step(index)
    found: list[pd.DatetimeIndex] = []
    most = 2 * len(index)  # a grid of which the file has few rows is not the file's
    # Of two that fit the calendar's comes first: 24 hours have no season, a day has.
    for frequency in ("D", "B", "W", "MS", "ME", "QS", "QE", "YS", "YE", step):
        if isinstance(frequency, str) and step < pd.Timedelta(days=0.9):
            continue
        if not isinstance(frequency, str) and not 0 < (index[-1] - index[0]) / frequency < most:
            continue
        offset: Any = pd.tseries.frequencies.to_offset(frequency)
        if isinstance(frequency, str) and frequency == "W":
            offset = pd.tseries.offsets.Week(weekday=index[0].weekday())
        grid = pd.date_range(index[0], index[-1], freq=offset)
        if len(grid) <= most and index.isin(grid).all():
            found.append(pd.DatetimeIndex(grid, name=index.name))
    return min(found, key=len, default=None)


def frequency_of(index: pd.DatetimeIndex) -> Any:
    """Return the spacing of `index` if it is regular, else None."""
    if len(index) < 3:
        return None
    steps = np.diff(index.asi8)
    # Days, months and years are those of the local clock, hours and less those of UTC.
    if (steps == steps[0]).all() and index[1] - index[0] < pd.Timedelta(days=1):
        return pd.tseries.frequencies.to_offset(index[1] - index[0])
    inferred = pd.infer_freq(index) or ((index[1] - index[0]) if (steps == steps[0]).all() else None)
    return None if inferred is None else pd.tseries.frequencies.to_offset(inferred)
