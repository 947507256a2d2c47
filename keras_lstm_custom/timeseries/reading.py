"""A CSV file with a time column as a regular table of numbers; anything doubtful raises with its line and column."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from keras_lstm_custom.errors import ArgumentError, DataError
from keras_lstm_custom.timeseries.checks import LARGEST, names_shown, shown
from keras_lstm_custom.timeseries.dialects import tidying_call
from keras_lstm_custom.timeseries.sheets import MISSING_CELLS, Sheet, read_sheet
from keras_lstm_custom.timeseries.spacing import on_a_grid
from keras_lstm_custom.timeseries.stamps import time_index

# Possessive, so that a cell of many digits and a letter is refused in one pass.
_NUMBER = re.compile(r"[+-]?(?:\d++(?:\.\d*+)?|\.\d++)(?:[eE][+-]?\d++)?", re.ASCII)
#: What may be done about rows and cells that are not there.
MISSING = ("refuse", "fill", "keep")


def read_csv(
    path: str | Path,
    target: str | None = None,
    *,
    columns: Sequence[str] | None = None,
    time: str | None = None,
    separator: str = ",",
    zone: str | None = None,
    missing: str = "refuse",
) -> pd.DataFrame:
    r"""Return the table in a CSV file, with its time stamps as index.

    The first line names the columns. Time stamps are ISO 8601 (`2013-01-31 18:00`), rise in equal
    steps (or by calendar months, quarters, years or business days) and appear once each; their offset
    from UTC stays. All other cells are numbers with a decimal point. Nothing is guessed, filled, sorted
    or left out unless you say so: what does not fit raises, with the pandas call that would tidy the file.

    Args:
        path: the file, UTF-8.
        target: a column that must be there, usually the one to forecast.
        columns: which columns to read; None reads all. `target` is always read.
        time: the column of time stamps; None takes the file's first column.
        separator: what stands between the cells; `\t` is a tab, as a shell passes it too.
        zone: the name of the time zone ("Europe/Berlin") of local times, or of offsets that change with summer time.
        missing: what to do about cells and rows that are not there. "refuse" raises; "fill" draws straight lines
            between the known values; "keep" leaves NaN, for a `Forecaster` that masks or marks them. The last two
            warn, with the number.

    Returns:
        float64 columns over a DatetimeIndex whose `freq` is set.

    Raises:
        ArgumentError: `separator`, `zone` or `missing` is not usable.
        DataError: the file is not such a table; the message names the line or the column.
    """
    _check_missing(missing)
    path = Path(path)
    try:
        sheet = read_sheet(path, separator)
        stamps, wanted = _columns(sheet, target, columns, time, without=None)
        frame = _table(sheet, stamps, wanted, zone, missing)
    except DataError as error:
        raise _with_tidying(error, path, time) from error
    _tell(sheet.name, frame, len(sheet.lines), missing)
    return _filled(frame, missing)


def read_series(
    path: str | Path,
    target: str | None = None,
    *,
    id: str,
    columns: Sequence[str] | None = None,
    time: str | None = None,
    separator: str = ",",
    zone: str | None = None,
    missing: str = "refuse",
) -> dict[str, pd.DataFrame]:
    """Return the tables of a CSV file that holds several series, told apart by the column `id`.

    The rows of one series are in time order; the series may follow each other or alternate.

    Args:
        path, target, columns, time, separator, zone, missing: see `read_csv`.
        id: the column that says which series a row belongs to, any text.

    Returns:
        The id to its table, in the order of the file.

    Raises:
        ArgumentError, DataError: see `read_csv`.
    """
    _check_missing(missing)
    path = Path(path)
    frames: dict[str, pd.DataFrame] = {}
    try:
        sheet = read_sheet(path, separator)
        sheet.check_present(id)
        stamps, wanted = _columns(sheet, target, columns, time, without=id)
        rows: dict[str, list[int]] = {}
        for k, name in enumerate(sheet.columns[id]):
            rows.setdefault(name, []).append(k)
        few = [name for name, chosen in rows.items() if len(chosen) < 3]
        if few:
            raise DataError(
                f"{sheet.name}: the series {shown(few[0])} is too short to be one.",
                expected="at least 3 rows for each value of the id column",
                received=f"{len(rows[few[0]])} rows ({len(few)} of {len(rows)} series are that short)",
                remedy="Leave these series out, or check that this is the id column.",
            )
        for name, chosen in rows.items():
            part = sheet.rows(chosen)
            frame = _table(part._replace(name=f"{sheet.name} ({shown(name)})"), stamps, wanted, zone, missing)
            _tell(f"{sheet.name} ({shown(name)})", frame, len(chosen), missing)
            frames[name] = _filled(frame, missing)
    except DataError as error:
        raise _with_tidying(error, path, time) from error
    return frames


def _check_missing(missing: str) -> None:
    if missing not in MISSING:
        raise ArgumentError(
            "What shall be done about missing values is not known.",
            expected=f"one of {list(MISSING)}",
            received=shown(missing),
            remedy="'refuse' raises, 'fill' draws straight lines, 'keep' leaves NaN.",
        )


def _with_tidying(error: DataError, path: Path, time: str | None) -> DataError:
    """Return the error, and below it the pandas call that would tidy the file, if one is found."""
    call = tidying_call(path, time)
    return DataError(f"{error}\n  In pandas:\n{call}") if call else error


def _columns(
    sheet: Sheet, target: str | None, columns: Sequence[str] | None, time: str | None, without: str | None
) -> tuple[str, list[str]]:
    """Return the column of the time stamps and those to read."""
    time = next(name for name in sheet.columns if name != without) if time is None else time
    wanted = list(columns) if columns is not None else [c for c in sheet.columns if c not in (time, without)]
    if target is not None and target not in wanted:
        wanted.insert(0, target)
    for column in (time, *wanted):
        sheet.check_present(column)
    if target == time or not wanted:
        raise DataError(
            f"{sheet.name} has no column of numbers to use.",
            expected=f"a column besides the time stamps ({shown(time)})",
            received=f"target {shown(target)}; columns {names_shown(sheet.columns)}",
            remedy="Name a column of measurements as the target, or say which column holds the time stamps.",
        )
    return time, wanted


def _table(sheet: Sheet, time: str, wanted: list[str], zone: str | None, missing: str) -> pd.DataFrame:
    """Return the columns over a regular index; holes are NaN, and raise if `missing` refuses them."""
    _refuse_missing(sheet, time)
    index = time_index(sheet, time, zone=zone, regular=missing == "refuse")
    frame = pd.DataFrame({column: _numbers(sheet, column, missing) for column in wanted}, index=index)
    if index.freq is not None:
        return frame
    grid = on_a_grid(index)
    if grid is None:
        time_index(sheet, time, zone=zone)  # raises: it says where the spacing changes
    return frame.reindex(grid)


def _tell(name: str, frame: pd.DataFrame, rows: int, missing: str) -> None:
    """Warn of what is missing, if it was allowed."""
    holes, cells = len(frame) - rows, int(frame.isna().to_numpy().sum())
    if cells:
        done = {"fill": "filled by straight lines between the known values", "keep": "left as NaN"}[missing]
        warnings.warn(
            f"{name}: {cells} missing values ({holes} of {len(frame)} rows were not there), {done}.", stacklevel=3
        )


def _filled(frame: pd.DataFrame, missing: str) -> pd.DataFrame:
    if missing != "fill":
        return frame
    empty = [column for column in frame.columns if frame[column].isna().all()]
    if empty:
        raise DataError(
            f"The column {shown(empty[0])} has no value at all.",
            expected="some numbers to draw lines between",
            received=f"{len(frame)} missing values",
            remedy="Leave the column out.",
        )
    return frame.interpolate(limit_direction="both")


def _numbers(sheet: Sheet, column: str, missing: str) -> np.ndarray:
    cells = sheet.columns[column]
    if missing == "refuse":
        _refuse_missing(sheet, column)
    else:
        cells = ["" if cell.lower() in MISSING_CELLS else cell for cell in cells]
    text = [k for k, cell in enumerate(cells) if cell and not _NUMBER.fullmatch(cell)]
    if text:
        raise sheet.wrong(
            column,
            text,
            "this is not a number.",
            expected="digits with a decimal point, such as -12.5 or 1.2e3",
            remedy="Mend the cell, or leave the column out by naming the ones to use.",
        )
    numbers = np.array([float(cell) if cell else np.nan for cell in cells])
    huge = np.flatnonzero(np.abs(numbers) > LARGEST).tolist()
    if huge:
        raise sheet.wrong(
            column,
            huge,
            "this number is too large for a network's float32.",
            expected=f"a size up to {LARGEST:g}",
            remedy="Check the cell, or use another unit.",
        )
    return numbers


def _refuse_missing(sheet: Sheet, column: str) -> None:
    missing = [k for k, cell in enumerate(sheet.columns[column]) if cell.lower() in MISSING_CELLS]
    if missing:
        raise sheet.wrong(
            column,
            missing,
            "the value is missing.",
            expected="a value in every row",
            remedy="Fill it, knowing how: missing='fill' draws straight lines, missing='keep' leaves holes for a "
            "forecaster that masks them. Or leave the column out.",
        )
