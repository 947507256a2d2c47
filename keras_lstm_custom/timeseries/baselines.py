"""The forecast every model must beat, and how far a forecast is from the truth."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from keras_lstm_custom.errors import ArgumentError, DataError, InputError
from keras_lstm_custom.timeseries.checks import check_size

#: Steps in the season that one expects at a spacing of days or more, by the name of the spacing.
_CALENDAR = {"D": 7, "B": 5, "W": 52, "MS": 12, "ME": 12, "QS": 4, "QE": 4, "YS": 1, "YE": 1}


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


def period_of(index: pd.DatetimeIndex) -> int:
    """Return how many steps one expects in a season.

    That is a day of hours or minutes, a week of days, a year of weeks, months or quarters.

    Raises:
        DataError: the spacing is not one of these, or `index.freq` is not set.
    """
    frequency: Any = getattr(index, "freq", None)
    name = "" if frequency is None else frequency.name.split("-")[0]
    if name in _CALENDAR and frequency.n == 1:
        return _CALENDAR[name]
    if isinstance(frequency, pd.tseries.offsets.Tick):
        day, step = pd.Timedelta(days=1), pd.Timedelta(frequency)
        if step < day and day % step == pd.Timedelta(0):
            return day // step
    raise DataError(
        "The length of a season cannot be told from the spacing of the rows.",
        expected="a spacing that divides a day, or days, business days, weeks, months, quarters or years",
        received=f"freq {frequency}",
        remedy="Pass the number of steps in a season yourself.",
    )


def mae(truth: Any, forecast: Any) -> float:
    """Return the mean absolute error, in the units of the data."""
    return float(np.mean(np.abs(_difference(truth, forecast))))


def rmse(truth: Any, forecast: Any) -> float:
    """Return the root of the mean squared error, in the units of the data."""
    return float(np.sqrt(np.mean(np.square(_difference(truth, forecast)))))


def _difference(truth: Any, forecast: Any) -> np.ndarray:
    truth, forecast = np.asarray(truth, dtype="float64"), np.asarray(forecast, dtype="float64")
    if truth.shape != forecast.shape or truth.size == 0:
        raise ArgumentError(
            "Truth and forecast cannot be compared.",
            expected="two arrays of the same shape, not empty",
            received=f"{truth.shape} and {forecast.shape}",
            remedy="Cut both from the same windows.",
        )
    return truth - forecast
