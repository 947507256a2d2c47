"""The columns of one series as arrays: checked, without holes, with the calendar."""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
import pandas as pd

from keras_lstm_custom.errors import DataError
from keras_lstm_custom.timeseries.checks import check_columns, shown
from keras_lstm_custom.timeseries.forecasting.calendar import calendar_columns
from keras_lstm_custom.timeseries.forecasting.plan import Plan, spacing, stamps_of
from keras_lstm_custom.timeseries.windowing import next_times


class Table(NamedTuple):
    """One series as arrays; row k is time step k.

    Attributes:
        values: (rows, columns), the target, the past and the future columns, float64; holes hold the value before.
        known: (rows, columns), whether the value was there.
        calendar: (rows + horizon, features), also of the steps to come.
        times: the stamps of the rows.
        ahead: (horizon, future columns) of the steps to come, or None.
        static: (static columns,)
    """

    values: np.ndarray
    known: np.ndarray
    calendar: np.ndarray
    times: pd.DatetimeIndex
    ahead: np.ndarray | None
    static: np.ndarray

    @property
    def truth(self) -> np.ndarray:
        """The target, (rows,); NaN where it is missing."""
        return np.where(self.known[:, 0], self.values[:, 0], np.nan)


def make_table(frame: pd.DataFrame, plan: Plan, *, ahead: pd.DataFrame | None = None, name: str = "") -> Table:
    """Return the arrays of one series.

    Args:
        frame: the columns of the plan over a regular index.
        plan: says which columns, and what to do about missing values.
        ahead: the future columns of the steps after the last row.
        name: the series' id, for errors.

    Raises:
        DataError: a column is not there or has holes that the plan refuses, or spacing or zone are not the plan's.
    """
    times = stamps_of(frame)
    got = spacing(times)
    if got != (plan.frequency, plan.zone):
        raise DataError(
            f"The time steps{_of(name)} are not those the forecaster was trained on.",
            expected=f"spacing {plan.frequency}, " + (f"time zone {plan.zone}" if plan.zone else "no time zone"),
            received=f"spacing {got[0]}, " + (f"time zone {got[1]}" if got[1] else "no time zone"),
            remedy="Bring the table to these steps; read_csv(..., zone=...) or frame.tz_convert(...) set the zone.",
        )
    columns = list(plan.columns)
    if plan.missing == "refuse":
        check_columns(frame, columns)
    else:
        check_columns(frame.fillna(0.0), columns)
    values = frame[columns].to_numpy("float64")
    known = np.isfinite(values)
    empty = [column for column, some in zip(columns, known.any(axis=0), strict=True) if not some]
    if empty:
        raise DataError(
            f"The column {shown(empty[0])}{_of(name)} has no value at all.",
            expected="some numbers",
            received=f"{len(frame)} missing values",
            remedy="Leave the column or the series out.",
        )
    seen = pd.DatetimeIndex(times.append(next_times(times, plan.horizon)))
    calendar = calendar_columns(seen, plan.calendar, plan.holidays).to_numpy()
    filled = frame[columns].ffill().bfill().to_numpy("float64")
    return Table(filled, known, calendar, times, _ahead(frame, plan, ahead), _static(frame, plan, name))


def tell_of_age(table: Table, plan: Plan, name: str = "") -> None:
    """Warn where nothing of the target is known in the window that a forecast starts from."""
    since = len(table.known) - 1 - int(np.flatnonzero(table.known[:, 0])[-1])
    if since >= plan.window:
        warnings.warn(
            f"Nothing of {shown(plan.target)}{_of(name)} is known in the window of {plan.window} steps: the forecast "
            f"starts from the value of {table.times[-1 - since]}, {since} steps before the end.",
            stacklevel=4,
        )


def _of(name: str) -> str:
    return f" of the series {shown(name)}" if name else ""


def _ahead(frame: pd.DataFrame, plan: Plan, ahead: pd.DataFrame | None) -> np.ndarray | None:
    if ahead is None:
        return None
    steps = next_times(stamps_of(frame), plan.horizon)
    columns = list(plan.future)
    check_columns(ahead, columns)
    got = ahead.index if isinstance(ahead.index, pd.DatetimeIndex) else pd.DatetimeIndex([])
    missing = steps[~steps.isin(got)] if (got.tz is None) == (steps.tz is None) else steps
    if len(missing):
        raise DataError(
            "The columns known in advance do not reach as far as the forecast.",
            expected=f"a row for each of the {plan.horizon} steps from {steps[0]} to {steps[-1]}",
            received=f"{plan.horizon - len(missing)} of them; the first that is missing is {missing[0]}",
            remedy=f"Give {columns} for these steps, or train with a shorter horizon.",
        )
    return ahead.loc[steps, columns].to_numpy("float64")


def _static(frame: pd.DataFrame, plan: Plan, name: str) -> np.ndarray:
    if plan.static:
        check_columns(frame, list(plan.static))
    changing = [c for c in plan.static if frame[c].nunique() > 1]
    if changing:
        raise DataError(
            f"The static column {shown(changing[0])} changes within the series {shown(name)}.",
            expected="one value in all rows of a series",
            received=f"{frame[changing[0]].nunique()} different values",
            remedy="Make it a past or a future column.",
        )
    return frame[list(plan.static)].iloc[0].to_numpy("float64") if plan.static else np.zeros(0)
