"""The simple forecasts that every model must beat."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from keras_lstm_custom.errors import DataError, InputError
from keras_lstm_custom.timeseries.checks import check_size
from keras_lstm_custom.timeseries.spacing import frequency_of

#: Steps in the seasons that one expects at a spacing of days or more, by the name of the spacing, shortest first.
_CALENDAR = {
    "D": (7, 365),
    "B": (5, 261),
    "W": (52,),
    "MS": (12,),
    "ME": (12,),
    "QS": (4,),
    "QE": (4,),
    "YS": (1,),
    "YE": (1,),
}
LAST, MEAN, DRIFT = "last value", "window mean", "drift"


def seasonal_naive(past: Any, *, horizon: int, period: int) -> np.ndarray:
    """Forecast that every season repeats the last one: ŷ_{T+k} = y_{T+k-m·period}, m the least with k ≤ m·period.

    Source: Hyndman & Athanasopoulos, Forecasting: Principles and Practice, section 5.2.

    Args:
        past: (samples, window), the target up to now.
        horizon: how many steps to forecast.
        period: steps in a season; 1 repeats the last value.

    Returns:
        (samples, horizon), in the units and dtype of `past`.

    Raises:
        InputError: `past` is not a matrix with at least `period` steps.
    """
    check_size("horizon", horizon)
    check_size("period", period)
    past = np.asarray(past)
    if past.ndim != 2 or past.shape[1] < period:
        raise InputError(
            "The past must show one whole season.",
            expected=f"shape (samples, window) with window >= period = {period}",
            received=f"shape {past.shape}",
            remedy="Use a longer window or a shorter period.",
        )
    return past[:, past.shape[1] - period + np.arange(horizon) % period]


def simple_forecasts(
    values: Any, origins: Any, *, horizon: int, window: int, periods: Sequence[int] = ()
) -> dict[str, np.ndarray]:
    """Return what one forecasts without a model, at each origin, from all that is known there.

    With y_T the value at the origin, for k = 1 ... horizon:

    - last value: y_T;
    - window mean: the mean of the last `window` values;
    - drift: y_T + k (y_T - y_1) / (T - 1), the line through the first value of the record and the last;
    - seasonal naive: see `seasonal_naive`; one for each period that is known to its full length at every origin.

    Source: Hyndman & Athanasopoulos, Forecasting: Principles and Practice, section 5.2.

    Args:
        values: (rows,), the whole record of the target, without holes.
        origins: (samples,), the row of the last known value of each forecast.
        horizon, window, periods: counts of steps.

    Returns:
        Name to (samples, horizon), float64.

    Raises:
        InputError: an origin is no row of the record or has fewer than `window` values up to it, or a value is missing.
    """
    check_size("horizon", horizon)
    check_size("window", window)
    values, origins = np.asarray(values, dtype="float64"), np.asarray(origins)
    rows = origins.ndim == 1 and origins.size > 0 and np.issubdtype(origins.dtype, np.integer)
    first, last_row = (int(origins.min()), int(origins.max())) if rows else (-1, -1)
    if values.ndim != 1 or not window - 1 <= first <= last_row < len(values):
        raise InputError(
            "A simple forecast looks back over a whole window.",
            expected=f"values (rows,), and whole numbers (samples,) from {window - 1} to the last row as origins",
            received=f"values of shape {values.shape}, origins of shape {origins.shape}"
            + (f" from row {first} to {last_row}" if rows else f" and type {origins.dtype}"),
            remedy="Leave out the first origins, or use a shorter window.",
        )
    missing = np.flatnonzero(~np.isfinite(values))
    if missing.size:
        raise InputError(
            "A simple forecast looks back on values that are all there.",
            expected="finite numbers",
            received=f"{missing.size} others, the first at row {missing[0]}",
            remedy="Fill the holes, knowing how, e.g. by the value before.",
        )
    ahead, last = np.arange(1, horizon + 1), values[origins][:, None]
    # From the first value: a mean over the whole record would overflow no earlier, but lose digits.
    sums = np.concatenate([[0.0], np.cumsum(values - values[0])])
    mean = values[0] + (sums[origins + 1] - sums[origins + 1 - window]) / window
    slope = (values[origins] - values[0]) / np.maximum(origins, 1)
    forecasts = {
        LAST: np.repeat(last, horizon, axis=1),
        MEAN: np.repeat(mean[:, None], horizon, axis=1),
        DRIFT: last + slope[:, None] * ahead,
    }
    for period in periods:
        if 1 < period <= first + 1:
            forecasts[seasonal_name(period)] = values[origins[:, None] + 1 - period + (ahead - 1) % period]
    return forecasts


def seasonal_name(period: int) -> str:
    """Return what the table calls the seasonal-naive forecast of a period."""
    return f"seasonal naive ({period})"


def simple_kernel(name: str, *, horizon: int, window: int) -> np.ndarray:
    """Return the matrix K, (window, horizon), with forecast = past @ K, for a simple forecast by its name.

    Last value, window mean and seasonal naive are such linear maps of the window, so a network can have one inside.

    Raises:
        InputError: the forecast needs more than the window.
    """
    kernel = np.zeros((window, horizon))
    if name == LAST:
        kernel[-1] = 1.0
    elif name == MEAN:
        kernel[:] = 1.0 / window
    else:
        period = int(name.rpartition("(")[2].rstrip(")")) if name.startswith("seasonal naive (") else window + 1
        if period > window:
            raise InputError(
                f"The forecast {name!r} does not follow from a window.",
                expected=f"{LAST!r}, {MEAN!r} or {seasonal_name(window)!r} with a period of at most {window}",
                received=repr(name),
                remedy="Use a longer window.",
            )
        kernel[window - period + np.arange(horizon) % period, np.arange(horizon)] = 1.0
    return kernel


def periods_of(index: pd.DatetimeIndex) -> tuple[int, ...]:
    """Return the lengths in steps of all seasons that the spacing suggests, shortest first; () if it suggests none.

    A day and a week of hours or minutes, a week and a year of days, a year of weeks, months or quarters.
    """
    frequency: Any = getattr(index, "freq", None)
    if frequency is None and isinstance(index, pd.DatetimeIndex):
        frequency = frequency_of(index)
    name = "" if frequency is None else frequency.name.split("-")[0]
    if name in _CALENDAR and frequency.n == 1:
        return _CALENDAR[name]
    if isinstance(frequency, pd.tseries.offsets.Tick):
        day, step = pd.Timedelta(days=1), pd.Timedelta(frequency)
        if step in (day, 7 * day):
            return _CALENDAR["D" if step == day else "W"]
        if step < day and day % step == pd.Timedelta(0):
            return day // step, 7 * (day // step)
    return ()


def period_of(index: pd.DatetimeIndex) -> int:
    """Return how many steps one expects in the shortest season.

    That is a day of hours or minutes, a week of days, a year of weeks, months or quarters.

    Raises:
        DataError: the spacing is not one of these, or the steps are not equal.
    """
    periods = periods_of(index)
    if periods:
        return periods[0]
    raise DataError(
        "The length of a season cannot be told from the spacing of the rows.",
        expected="a spacing that divides a day, or days, business days, weeks, months, quarters or years",
        received=f"freq {getattr(index, 'freq', None)}",
        remedy="Pass the number of steps in a season yourself.",
    )
