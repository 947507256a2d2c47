"""What every table and every size must satisfy before it is used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from keras_lstm_custom.errors import ArgumentError, DataError


def check_columns(frame: pd.DataFrame, columns: Sequence[str]) -> None:
    """Raise DataError unless `frame` has each of `columns`, and finite numbers in all of them."""
    if not isinstance(frame, pd.DataFrame):
        raise DataError(
            "The time series must be a table with named columns.",
            expected="a pandas.DataFrame, one row per time step",
            received=type(frame).__name__,
            remedy="Wrap it, e.g. pandas.DataFrame({'load': values}), or use timeseries.read_csv.",
        )
    for column in columns:
        if column not in frame.columns:
            raise DataError(
                f"There is no column {column!r}.",
                expected=f"one of {list(frame.columns)}",
                received=repr(column),
                remedy="Check the spelling, capitals included.",
            )
        values = frame[column]
        if not pd.api.types.is_numeric_dtype(values):
            raise DataError(
                f"The column {column!r} does not hold numbers.",
                expected="a numeric dtype",
                received=str(values.dtype),
                remedy="Convert it with pandas.to_numeric, or leave it out of the features.",
            )
        wrong = np.flatnonzero(~np.isfinite(values.to_numpy(dtype=float, na_value=np.nan)))
        if wrong.size:
            raise DataError(
                f"The column {column!r} is not finite everywhere.",
                expected="a number in every row",
                received=f"{values.iloc[wrong[0]]} at {frame.index[wrong[0]]} ({wrong.size} rows in all)",
                remedy="Fill or leave out these rows, knowing how; e.g. frame.interpolate() for short holes.",
            )


def check_size(name: str, value: Any) -> None:
    """Raise ArgumentError unless `value` is a positive whole number."""
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value <= 0:
        raise ArgumentError(
            f"`{name}` counts time steps.",
            expected="a positive integer",
            received=repr(value),
            remedy=f"Pass e.g. {name}=24.",
        )
