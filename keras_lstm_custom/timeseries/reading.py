"""A CSV file with a time column as a regular table of numbers; anything doubtful raises with its line and column."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from keras_lstm_custom.errors import DataError

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_OFFSET = re.compile(r"(Z|[+-]\d\d:?\d\d)$")
_MISSING = {"", "na", "n/a", "nan", "null", "none", "-", "?"}


class _Sheet(NamedTuple):
    """The cells of a file as text; `lines[k]` is the line of the file on which row k ends."""

    name: str
    columns: dict[str, list[str]]
    lines: list[int]

    def wrong(self, column: str, rows: Sequence[int], what: str, *, expected: str, remedy: str) -> DataError:
        """Return the error about `rows` of `column`: it shows the first and counts the others."""
        first, others = rows[0], len(rows) - 1
        more = f" (and {others} more of this kind in the column)" if others else ""
        return DataError(
            f"{self.name}, line {self.lines[first]}, column {column!r}: {what}",
            expected=expected,
            received=repr(self.columns[column][first]) + more,
            remedy=remedy,
        )


def read_csv(
    path: str | Path,
    target: str | None = None,
    *,
    columns: Sequence[str] | None = None,
    time: str | None = None,
    separator: str = ",",
) -> pd.DataFrame:
    """Return the table in a CSV file, with its time stamps as index.

    The first line names the columns. Time stamps are ISO 8601 (`2013-01-31 18:00`), rise in equal
    steps (or by calendar months, quarters, years or business days) and appear once each; those with
    an offset are turned into UTC. All other cells are numbers with a decimal point. Nothing is
    guessed, filled, sorted or left out: what does not fit raises.

    Args:
        path: the file, UTF-8.
        target: a column that must be there, usually the one to forecast.
        columns: which columns to read; None reads all. `target` is always read.
        time: the column of time stamps; None takes the file's first column.
        separator: what stands between the cells.

    Returns:
        float64 columns over a DatetimeIndex whose `freq` is set.

    Raises:
        DataError: the file is not such a table; the message names the line or the column.
    """
    sheet = _sheet(Path(path), separator)
    time = next(iter(sheet.columns)) if time is None else time
    wanted = list(columns) if columns is not None else [c for c in sheet.columns if c != time]
    if target is not None and target not in wanted:
        wanted.insert(0, target)
    for column in (time, *wanted):
        _check_present(sheet, column)
    if target == time or not wanted:
        raise DataError(
            f"{sheet.name} has no column of numbers to use.",
            expected=f"a column besides the time stamps ({time!r})",
            received=f"target {target!r}; columns {list(sheet.columns)}",
            remedy="Name a column of measurements as the target, or say which column holds the time stamps.",
        )
    index = _index(sheet, time)
    return pd.DataFrame({column: _numbers(sheet, column) for column in wanted}, index=index)


def _sheet(path: Path, separator: str) -> _Sheet:
    """Read all cells as text, and check that every row has as many as the header."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter=separator)
            rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{path} cannot be read as a CSV file.",
            expected="a text file in UTF-8, cells separated by a comma",
            received=f"{type(error).__name__}: {error}",
            remedy="Check the path, and save the table as CSV in UTF-8.",
        ) from error
    header = rows[0][1] if rows else []
    if len(header) < 2 or len(set(header)) < len(header) or "" in header:
        raise DataError(
            f"{path.name}, line 1: the header does not name the columns.",
            expected=f"at least two different names, separated by {separator!r}, the first for the time stamps",
            received=repr(separator.join(header)) if header else "an empty file",
            remedy="Write one line with a name for each column; with another separator, pass it as `separator`.",
        )
    if len(rows) < 4:
        raise DataError(
            f"{path.name} is too short to be a time series.",
            expected="a header and at least 3 rows",
            received=f"{max(len(rows) - 1, 0)} rows",
            remedy="Use a longer record; a forecast needs hundreds of rows.",
        )
    for line, cells in rows[1:]:
        if len(cells) != len(header):
            raise DataError(
                f"{path.name}, line {line}: the row does not fit the header.",
                expected=f"{len(header)} cells, as in {separator.join(header)!r}",
                received=f"{len(cells)} cells: {separator.join(cells)!r}",
                remedy="Mend the line; a comma inside a number or a text needs quotes around the cell.",
            )
    columns = dict(zip(header, (list(c) for c in zip(*(cells for _, cells in rows[1:]), strict=True)), strict=True))
    return _Sheet(path.name, columns, [line for line, _ in rows[1:]])


def _check_present(sheet: _Sheet, column: str) -> None:
    if column not in sheet.columns:
        raise DataError(
            f"{sheet.name} has no column {column!r}.",
            expected=f"one of {list(sheet.columns)}",
            received=repr(column),
            remedy="Check the spelling, capitals included.",
        )


def _numbers(sheet: _Sheet, column: str) -> list[float]:
    cells = sheet.columns[column]
    _refuse_missing(sheet, column)
    text = [k for k, cell in enumerate(cells) if not _NUMBER.fullmatch(cell)]
    if text:
        raise sheet.wrong(
            column,
            text,
            "this is not a number.",
            expected="digits with a decimal point, such as -12.5 or 1.2e3",
            remedy="Mend the cell, or leave the column out by naming the ones to use.",
        )
    numbers = [float(cell) for cell in cells]
    huge = [k for k, number in enumerate(numbers) if abs(number) > 1e30]
    if huge:
        raise sheet.wrong(
            column,
            huge,
            "this number is too large for a network's float32.",
            expected="a size below 1e30",
            remedy="Check the cell, or use another unit.",
        )
    return numbers


def _refuse_missing(sheet: _Sheet, column: str) -> None:
    missing = [k for k, cell in enumerate(sheet.columns[column]) if cell.lower() in _MISSING]
    if missing:
        raise sheet.wrong(
            column,
            missing,
            "the value is missing.",
            expected="a value in every row",
            remedy="Fill it, knowing how (e.g. pandas' interpolate() for short holes), or leave the column out.",
        )


def _index(sheet: _Sheet, time: str) -> pd.DatetimeIndex:
    """Return the time stamps, proved to rise in equal steps, with their `freq`."""
    _refuse_missing(sheet, time)
    cells = sheet.columns[time]
    offsets = [bool(_OFFSET.search(cell)) for cell in cells]
    if any(offsets) and not all(offsets):
        raise sheet.wrong(
            time,
            [offsets.index(False)],
            "some time stamps have an offset from UTC, this one has none.",
            expected="an offset in every row, or in none",
            remedy="Write all time stamps alike.",
        )
    stamps = pd.to_datetime(pd.Series(cells, dtype=object), format="ISO8601", errors="coerce", utc=True)
    unread = [int(k) for k in stamps.index[stamps.isna()]]
    if unread:
        raise sheet.wrong(
            time,
            unread,
            "this is not a time stamp.",
            expected="ISO 8601, such as 2013-01-31 or 2013-01-31 18:00",
            remedy="Write the time stamps that way, or say which column holds them.",
        )
    index = pd.DatetimeIndex(stamps.dt.tz_localize(None), name=time)
    steps = index[1:] - index[:-1]
    backwards = [int(k) + 1 for k in (steps <= pd.Timedelta(0)).nonzero()[0]]
    if backwards:
        raise sheet.wrong(
            time,
            backwards,
            f"the time stamp does not come after the one before it ({index[backwards[0] - 1]}).",
            expected="time stamps that rise, each once",
            remedy="Sort the rows by time and remove those that are there twice.",
        )
    spacing = steps[0] if (steps == steps[0]).all() else None
    frequency = pd.infer_freq(index) or spacing
    if frequency is None:
        usual = pd.Series(steps).mode()[0]
        rows = [int(k) + 1 for k in (steps != usual).nonzero()[0]]
        before, after = index[rows[0] - 1], index[rows[0]]
        raise sheet.wrong(
            time,
            rows,
            f"the spacing is not regular: {after - before} after {before}.",
            expected=f"{before + usual}, since most rows are {usual} apart",
            remedy="Insert the missing rows or bring the table to equal steps, e.g. with pandas' resample() and "
            "interpolate(), knowing how the holes are filled.",
        )
    return pd.DatetimeIndex(index, freq=pd.tseries.frequencies.to_offset(frequency))
