"""What the clock and the calendar say about a time step, as columns that are known for every step to come."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from keras_lstm_custom.errors import ArgumentError
from keras_lstm_custom.installation import installing
from keras_lstm_custom.timeseries.checks import shown

#: The cycles by name: how long one is, from what spacing on it is no cycle any more, and where in it a stamp is.
_CYCLES: dict[str, tuple[pd.Timedelta, pd.Timedelta, Any]] = {
    "hour": (pd.Timedelta(days=1), pd.Timedelta(hours=12), lambda t: (t.hour * 60 + t.minute) / 1440),
    "weekday": (pd.Timedelta(days=7), pd.Timedelta(days=3.5), lambda t: (t.dayofweek + t.hour / 24) / 7),
    "month": (pd.Timedelta(days=365.25), pd.Timedelta(days=180), lambda t: (t.dayofyear - 1) / 365.25),
}
HOLIDAY = "holiday"
#: A cycle that was seen fewer times cannot be told from chance or from a trend.
SEEN = 4


def cycles_for(index: pd.DatetimeIndex) -> tuple[str, ...]:
    """Return the cycles that a record shows at least four times and resolves: of "hour", "weekday", "month"."""
    if len(index) < 2:
        return ()
    span, step = index[-1] - index[0], index[1] - index[0]
    return tuple(name for name, (length, coarse, _) in _CYCLES.items() if step < coarse and span >= SEEN * length)


def calendar_columns(index: pd.DatetimeIndex, cycles: tuple[str, ...], holidays: str | None = None) -> pd.DataFrame:
    """Return the cycles as sine and cosine, and holidays as 0 or 1, by the local time of `index`.

    Args:
        index: the stamps.
        cycles: of "hour", "weekday" and "month" (the place in the year).
        holidays: a country code of the package `holidays` ("US", or "US-NY" for a part of it), or None.

    Returns:
        Columns `hour_sin`, `hour_cos` and so on, and `holiday`.

    Raises:
        ArgumentError: an unknown cycle or country.
        ImportError: `holidays` is asked for and not installed.
    """
    columns = {}
    for name in cycles:
        if name not in _CYCLES:
            raise ArgumentError(
                "There is no such calendar feature.",
                expected=f"some of {list(_CYCLES)}",
                received=shown(name),
                remedy="Leave it out, or add a column of your own that is known in advance.",
            )
        angle = 2 * np.pi * np.asarray(_CYCLES[name][2](index), dtype="float64")
        columns[f"{name}_sin"], columns[f"{name}_cos"] = np.sin(angle), np.cos(angle)
    if holidays is not None:
        columns[HOLIDAY] = _holidays(index, holidays)
    return pd.DataFrame(columns, index=index)


def _holidays(index: pd.DatetimeIndex, country: str) -> np.ndarray:
    try:
        import holidays
    except ImportError as error:
        raise ImportError(f"Holidays need the package `holidays`: {installing('forecast')}") from error
    code, _, part = country.partition("-")
    try:
        days = holidays.country_holidays(code, subdiv=part or None, years=sorted(set(index.year)))
    except NotImplementedError as error:
        raise ArgumentError(
            "There is no calendar of holidays for this country.",
            expected="a country code of the package `holidays`, such as 'US', or 'US-NY' for a part of it",
            received=shown(country),
            remedy="See https://holidays.readthedocs.io, or add a column of your own that is known in advance.",
        ) from error
    return np.fromiter((day in days for day in index.date), dtype="float64", count=len(index))
