"""What every table and every size must satisfy before it is used."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from keras_lstm_custom.errors import ArgumentError, DataError

#: Longest piece of a file that a message repeats, and how many names it lists.
SHOWN, NAMES = 120, 12
#: The largest number in a column: float32 ends at 3.4e38, and what is added up on the way needs room.
LARGEST = 1e30


def shown(value: Any) -> str:
    """Return `value` as it stands in a message: its repr, cut where it is too long to be read."""
    text = repr(value[: 2 * SHOWN] if isinstance(value, str) else value)
    if len(text) <= SHOWN and (not isinstance(value, str) or len(value) <= SHOWN):
        return text
    return f"{text[:SHOWN]}... ({len(value) if isinstance(value, str) else len(text):,} characters)"


def names_shown(names: Iterable[Any], near: Any = None) -> str:
    """Return a list of names for a message: all of a few; of many the nearest to what was asked for, and the number."""
    names = [str(name) for name in names]
    if len(names) <= NAMES:
        return "[" + ", ".join(shown(name) for name in names) + "]"
    # Among so many that comparing all of them would take seconds, the first ones are compared.
    nearest = difflib.get_close_matches(str(near)[:SHOWN], names[:2000], n=3) if near is not None else []
    first = nearest + [name for name in names[:NAMES] if name not in nearest]
    return "[" + ", ".join(shown(name) for name in first[:NAMES]) + f", ...] ({len(names):,} in all)"


def check_table(frame: Any) -> None:
    """Raise DataError unless `frame` is a table."""
    if not isinstance(frame, pd.DataFrame):
        raise DataError(
            "The time series must be a table with named columns.",
            expected="a pandas.DataFrame, one row per time step",
            received=type(frame).__name__,
            remedy="Wrap it, e.g. pandas.DataFrame({'load': values}), or use timeseries.read_csv.",
        )


def check_columns(frame: pd.DataFrame, columns: Sequence[str]) -> None:
    """Raise DataError unless `frame` has each of `columns` once, and in all of them finite numbers that fit float32."""
    check_table(frame)
    for column in columns:
        if column not in frame.columns:
            raise DataError(
                f"There is no column {shown(column)}.",
                expected=f"one of {names_shown(frame.columns, column)}",
                received=shown(column),
                remedy="Check the spelling, capitals included.",
            )
        values = frame[column]
        if isinstance(values, pd.DataFrame):
            raise DataError(
                f"The column {shown(column)} is there more than once.",
                expected="a name of its own for each column",
                received=f"{values.shape[1]} columns of this name",
                remedy="Rename them, or leave out all but one: frame.loc[:, ~frame.columns.duplicated()].",
            )
        if not pd.api.types.is_numeric_dtype(values) or pd.api.types.is_complex_dtype(values):
            raise DataError(
                f"The column {shown(column)} does not hold numbers.",
                expected="a dtype of real numbers",
                received=str(values.dtype),
                remedy="Convert it with pandas.to_numeric, or leave it out of the features.",
            )
        wrong = np.flatnonzero(~np.isfinite(values.to_numpy(dtype=float, na_value=np.nan)))
        if wrong.size:
            raise DataError(
                f"The column {shown(column)} is not finite everywhere.",
                expected="a number in every row",
                received=f"{values.iloc[wrong[0]]} at {frame.index[wrong[0]]} ({wrong.size} rows in all)",
                remedy="Fill or leave out these rows, knowing how; e.g. frame.interpolate() for short holes.",
            )
        huge = np.flatnonzero(np.abs(values.to_numpy(dtype=float)) > LARGEST)
        if huge.size:
            raise DataError(
                f"The column {shown(column)} holds numbers that are too large for a network's float32.",
                expected=f"sizes up to {LARGEST:g}",
                received=f"{values.iloc[huge[0]]:g} at {frame.index[huge[0]]} ({huge.size} rows in all)",
                remedy="Check these rows, or use another unit.",
            )


def check_size(name: str, value: Any, what: str = "counts time steps") -> None:
    """Raise ArgumentError unless `value` is a positive whole number."""
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value <= 0:
        raise ArgumentError(
            f"`{name}` {what}.",
            expected="a positive integer",
            received=repr(value),
            remedy=f"Pass e.g. {name}=4.",
        )
