"""Exponential smoothing by statsmodels, the statistical model that a network is compared with."""

from __future__ import annotations

import warnings
from itertools import product
from typing import Any

import numpy as np

from keras_lstm_custom.errors import InputError

NAME = "exponential smoothing"
#: Rows to fit the few smoothing parameters on; more change them little and take long.
FIT_ROWS = 3000


def installed() -> bool:
    """Whether statsmodels is there."""
    try:
        import statsmodels.tsa.exponential_smoothing.ets  # noqa: F401
    except ImportError:
        return False
    return True


def exponential_smoothing(values: Any, origins: Any, *, horizon: int, period: int, fitted: int) -> np.ndarray:
    """Return forecasts by the ETS model with the least AIC, its parameters fitted once, its states carried on.

    The candidates have additive errors; no trend or a damped one; no season, an additive or (of positive values) a
    multiplicative one. At each origin the states are those after the last known value.

    Source: Hyndman et al. 2008, Forecasting with Exponential Smoothing; `statsmodels.tsa.ETSModel`.

    Args:
        values: (rows,), without holes.
        origins: (samples,), the rows of the last known values, all at or after `fitted`.
        horizon: steps to forecast.
        period: steps in a season; 1 for none.
        fitted: how many first rows may be known to the parameters.

    Returns:
        (samples, horizon)

    Raises:
        InputError: there are too few rows to fit on.
        ImportError: statsmodels is not installed.
    """
    from statsmodels.tsa.exponential_smoothing.ets import ETSModel

    values, origins = np.asarray(values, dtype="float64"), np.asarray(origins)
    # Fitted on the newest of the rows that may be known; the states start there too.
    first = max(0, fitted - max(FIT_ROWS, 4 * period))
    values, origins = values[first:], origins - first
    known = values[: fitted - first]
    if len(known) < 10 + 2 * period:
        raise InputError(
            "There are too few rows for exponential smoothing.",
            expected=f"at least {10 + 2 * period} rows before the held-out part (two seasons and ten)",
            received=f"{len(known)}",
            remedy="Compare without it, or use a longer record.",
        )
    seasons: list[str | None] = [None] if period == 1 else [None, "add", *(["mul"] if known.min() > 0 else [])]
    best: Any = None
    for trend, season in product((None, "add"), seasons):
        options = {
            **{"error": "add", "trend": trend, "damped_trend": trend is not None, "seasonal": season},
            **{"seasonal_periods": period if season else None, "initialization_method": "heuristic"},
        }
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of convergence: the AIC decides
            fit = ETSModel(known, **options).fit(disp=False, maxiter=100)
        if np.isfinite(fit.aic) and (best is None or fit.aic < best[0]):
            best = (fit.aic, options, fit)
    _, options, fit = best
    whole = ETSModel(values, **{**options, **_initial(fit, options)}).smooth(fit.params)
    return _from_states(whole, options, origins, horizon, period)


def _initial(fit: Any, options: dict[str, Any]) -> dict[str, Any]:
    """Return the initial states of a fit, so that the states over more rows go through the same values."""
    model = fit.model
    initial = {"initialization_method": "known", "initial_level": model.initial_level}
    if options["trend"]:
        initial["initial_trend"] = model.initial_trend
    if options["seasonal"]:
        initial["initial_seasonal"] = model.initial_seasonal
    return initial


def _from_states(whole: Any, options: dict[str, Any], origins: np.ndarray, horizon: int, period: int) -> np.ndarray:
    """Return ŷ_{T+k} = l_T + (φ + ... + φ^k) b_T, plus or times the season of T + k."""
    steps = np.arange(1, horizon + 1)
    forecast = np.repeat(np.asarray(whole.level)[origins][:, None], horizon, axis=1)
    if options["trend"]:
        damping = np.cumsum(whole.damping_trend ** steps.astype("float64"))
        forecast = forecast + damping * np.asarray(whole.slope)[origins][:, None]
    if options["seasonal"]:
        season = np.asarray(whole.season)[origins[:, None] + 1 - period + (steps - 1) % period]
        forecast = forecast + season if options["seasonal"] == "add" else forecast * season
    return forecast
