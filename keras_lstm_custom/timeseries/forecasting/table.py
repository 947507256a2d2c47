"""The columns of one series as arrays: checked, without holes, with the calendar."""

from __future__ import annotations

import warnings
from typing import NamedTuple, cast

import numpy as np
import pandas as pd

from keras_lstm_custom.errors import ArgumentError, DataError
from keras_lstm_custom.timeseries.checks import check_columns, names_shown, shown
from keras_lstm_custom.timeseries.forecasting.calendar import calendar_columns
from keras_lstm_custom.timeseries.forecasting.plan import Frames, Plan, as_frames, of_series, on_steps, spacing
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


def make_tables(data: pd.DataFrame | Frames, plan: Plan, future: pd.DataFrame | Frames | None) -> dict[str, Table]:
    """Return the arrays of one series or several by id, in the order of the plan.

    Args:
        data: one table, or several by id.
        plan: says which series and columns.
        future: the columns known in advance, for the steps after the last row; a table, or several by id.

    Raises:
        ArgumentError: `future` is given, and the plan knows no such columns.
        DataError: a series is not of the plan; or as for `make_table`.
    """
    frames = on_steps(data, like=plan.frequency)
    _check_series(frames, plan)
    if future is not None and not plan.future:
        raise ArgumentError(
            "The forecaster takes no columns that are known in advance.",
            expected="no `future` table (--ahead at the command line)",
            received="one",
            remedy="Leave it out; or name its columns when the forecaster is made: future=[...] (--known).",
        )
    ahead = {} if future is None else as_frames(future)
    order = [name for name in plan.series or ("",) if name in frames]
    return {name: make_table(frames[name], plan, ahead=ahead.get(name), name=name) for name in order}


def _check_series(frames: Frames, plan: Plan) -> None:
    unknown = [name for name in frames if name not in (plan.series or ("",))]
    if unknown == [""]:
        raise DataError(
            "Which series this is must be said.",
            expected=f"a dictionary of tables with ids among {names_shown(plan.series)}",
            received="one table",
            remedy=f"Pass e.g. {{{shown(plan.series[0])}: frame}}.",
        )
    if unknown:
        raise DataError(
            f"The forecaster does not know the series {shown(unknown[0])}.",
            expected=f"ids among {names_shown(plan.series)}" if plan.series else "one table without an id",
            received=names_shown(frames),
            remedy="Train with this series too; each has its own scale.",
        )


def make_table(frame: pd.DataFrame, plan: Plan, *, ahead: pd.DataFrame | None = None, name: str = "") -> Table:
    """Return the arrays of one series.

    Args:
        frame: the columns of the plan over a regular index, see `on_steps`.
        plan: says which columns, and what to do about missing values.
        ahead: the future columns of the steps after the last row.
        name: the series' id, for errors.

    Raises:
        DataError: a column is not there or has holes that the plan refuses, or spacing or zone are not the plan's.
    """
    times = cast(pd.DatetimeIndex, frame.index)
    got = spacing(times)
    if got != (plan.frequency, plan.zone):
        raise DataError(
            f"The time steps{of_series(name)} are not those the forecaster was trained on.",
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
            f"The column {shown(empty[0])}{of_series(name)} has no value at all.",
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
            f"Nothing of {shown(plan.target)}{of_series(name)} is known in the window of {plan.window} steps: the "
            f"forecast starts from the value of {table.times[-1 - since]}, {since} steps before the end.",
            stacklevel=3,
        )


def _ahead(frame: pd.DataFrame, plan: Plan, ahead: pd.DataFrame | None) -> np.ndarray | None:
    if ahead is None:
        return None
    steps = next_times(cast(pd.DatetimeIndex, frame.index), plan.horizon)
    columns = list(plan.future)
    check_columns(ahead, columns)
    got = ahead.index
    if not isinstance(got, pd.DatetimeIndex) or (got.tz is None) != (steps.tz is None):
        raise DataError(
            "The columns known in advance are not over time stamps like those of the data.",
            expected=f"an index from {steps[0]} to {steps[-1]}",
            received=f"{type(got).__name__} that begins with {shown(str(got[0]))}" if len(got) else "no rows",
            remedy="Set it: future.index = pandas.DatetimeIndex(...); tz_localize or tz_convert set its zone.",
        )
    twice = got[got.duplicated() & got.isin(steps)]
    if len(twice):
        raise DataError(
            "A step to come has more than one row of the columns known in advance.",
            expected=f"one row for each of the {plan.horizon} steps",
            received=f"{twice[0]} again ({len(twice)} rows in all)",
            remedy="Keep one: future = future[~future.index.duplicated(keep='last')].",
        )
    missing = steps[~steps.isin(got)]
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
            f"The static column {shown(changing[0])} changes within the series{name and ' ' + shown(name)}.",
            expected="one value in all rows of a series",
            received=f"{frame[changing[0]].nunique()} different values",
            remedy="Make it a past or a future column.",
        )
    return frame[list(plan.static)].iloc[0].to_numpy("float64") if plan.static else np.zeros(0)
