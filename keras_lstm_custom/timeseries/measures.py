"""How far a forecast is from the truth, and whether one forecast is better than another."""

from __future__ import annotations

from numbers import Real
from typing import Any, NamedTuple

import numpy as np

from keras_lstm_custom.errors import ArgumentError
from keras_lstm_custom.timeseries.checks import check_size, shown

#: Fewer blocks than this say nothing about how much their mean varies.
MIN_BLOCKS = 4
#: Upper 97.7 % points of Student's t, those of two standard errors of a normal: by degrees of freedom, 3 to 10; of
#: more, 2 + 2.8 / degrees is right within 0.01.
_TWO_ERRORS = {3: 3.31, 4: 2.87, 5: 2.65, 6: 2.52, 7: 2.43, 8: 2.37, 9: 2.32, 10: 2.28}


def mae(truth: Any, forecast: Any) -> float:
    """Return the mean absolute error, mean |truth - forecast|, in the units of the data; NaN if anything is missing.

    Args:
        truth, forecast: arrays of one shape.

    Raises:
        ArgumentError: the shapes differ, or there is nothing in them.
    """
    return float(np.mean(np.abs(_difference(truth, forecast))))


def rmse(truth: Any, forecast: Any) -> float:
    """Return the root of the mean squared error, √ mean (truth - forecast)², in the units of the data.

    Args and errors are those of `mae`.
    """
    return float(np.sqrt(np.mean(np.square(_difference(truth, forecast)))))


def naive_scale(values: Any, *, period: int = 1) -> float:
    """Return the mean absolute difference of values one season apart, by which MASE divides; NaN if there is none.

    Args:
        values: (rows,), the training part of the target; missing values are left out.
        period: steps in a season.

    Raises:
        ArgumentError: `values` has more axes, or `period` is no positive integer.
    """
    check_size("period", period)
    values = np.asarray(values, dtype="float64")
    if values.ndim != 1:
        raise ArgumentError(
            "The scale of MASE is that of one series.",
            expected="values of shape (rows,)",
            received=f"values of shape {values.shape}",
            remedy="Take the column of the target; of several series, each one's own scale.",
        )
    change = np.abs(values[period:] - values[:-period]) if len(values) > period else np.array([])
    change = change[np.isfinite(change)]
    return float(change.mean()) if change.size and change.any() else float("nan")


def mase(truth: Any, forecast: Any, *, scale: float) -> float:
    """Return the mean absolute scaled error: below 1 is better than the seasonal-naive forecast was in training.

    Source: Hyndman & Koehler 2006, Another look at measures of forecast accuracy.

    Args:
        truth, forecast: arrays of one shape.
        scale: `naive_scale` of the training part; the result is NaN where that is.

    Raises:
        ArgumentError: as `mae`; or `scale` is not above 0.
    """
    if not isinstance(scale, Real) or scale <= 0:
        raise ArgumentError(
            "`scale` is what errors are divided by.",
            expected="a number above 0, or NaN where there is none",
            received=shown(scale),
            remedy="Pass naive_scale(training, period=...).",
        )
    return mae(truth, forecast) / scale


def pinball(truth: Any, forecast: Any, quantile: float) -> float:
    """Return the mean pinball loss max(q e, (q - 1) e), e = truth - forecast, of a quantile forecast.

    Its mean is least where the forecast is the q-quantile of the truth.

    Source: Koenker & Bassett 1978, Regression Quantiles.

    Args:
        truth, forecast: arrays of one shape.
        quantile: q, in (0, 1).

    Raises:
        ArgumentError: as `mae`; or `quantile` is no share.
    """
    if not isinstance(quantile, Real) or not 0 < quantile < 1:
        raise ArgumentError(
            "`quantile` is the share of the truth that lies below the forecast.",
            expected="a number between 0 and 1",
            received=shown(quantile),
            remedy="Pass e.g. quantile=0.95 for 95 %.",
        )
    error = _difference(truth, forecast)
    return float(np.mean(np.maximum(quantile * error, (quantile - 1) * error)))


def coverage(truth: Any, lower: Any, upper: Any) -> float:
    """Return the share of the truth that lies in [lower, upper]; missing truth is left out, and all missing it is NaN.

    Args:
        truth, lower, upper: arrays of one shape; nothing lies within a bound that is NaN.

    Raises:
        ArgumentError: as `mae`.
    """
    _difference(truth, lower), _difference(truth, upper)
    truth, lower, upper = (np.asarray(a, dtype="float64") for a in (truth, lower, upper))
    known = ~np.isnan(truth)
    return float(np.mean((truth >= lower)[known] & (truth <= upper)[known])) if known.any() else float("nan")


class Gain(NamedTuple):
    """How much smaller one forecast's loss is than another's, and how sure that is.

    Attributes:
        mean: the mean over windows of loss(other) - loss(this).
        error: its standard error, of block means; NaN with fewer than `MIN_BLOCKS` blocks.
        blocks, block: how many consecutive blocks, and of how many windows.
        needed: how many standard errors the gain must exceed, 2 for many blocks.
    """

    mean: float
    error: float
    blocks: int
    block: int
    needed: float

    @property
    def sure(self) -> bool:
        """Whether the gain exceeds twice its standard error (more with few blocks, by Student's t)."""
        return bool(self.mean > self.needed * self.error)


def gain(loss: Any, other: Any, *, horizon: int) -> Gain:
    """Return how much `loss` is below `other`, with a standard error that knows that windows overlap.

    Windows that start one step apart share all but one step, so their losses are nearly the same number, and errors
    of real data go on for longer still. The windows are cut into consecutive blocks of max(2 · horizon, √n) windows,
    and the standard error is that of the means of the blocks ("batch means"), which are nearly independent.

    Args:
        loss, other: (windows,), the mean loss of each window, in time order; NaN (no truth) is left out.
        horizon: steps of a window that the next one shares, and one more.

    Raises:
        ArgumentError: the shapes differ or are no (windows,), there is nothing in them, or `horizon` is no size.
    """
    check_size("horizon", horizon)
    _difference(other, loss, axes=1)
    loss, other = np.asarray(loss, dtype="float64"), np.asarray(other, dtype="float64")
    known = ~(np.isnan(loss) | np.isnan(other))
    with np.errstate(invalid="ignore"):  # where both are infinite neither is better: NaN, and nothing is sure
        change = (other - loss)[known]
    block = max(2 * horizon, int(np.ceil(np.sqrt(len(change))))) if horizon > 1 else int(np.ceil(np.sqrt(len(change))))
    blocks = len(change) // block if block else 0
    mean = float(change.mean()) if change.size else float("nan")
    if blocks < MIN_BLOCKS:
        return Gain(mean, float("nan"), blocks, block, float("nan"))
    means = change[len(change) - blocks * block :].reshape(blocks, block).mean(axis=1)
    with np.errstate(invalid="ignore"):  # of an infinite loss
        error = float(means.std(ddof=1) / np.sqrt(blocks))
    return Gain(mean, error, blocks, block, _TWO_ERRORS.get(blocks - 1, 2.0 + 2.8 / (blocks - 1)))


def _difference(truth: Any, forecast: Any, axes: int | None = None) -> np.ndarray:
    truth, forecast = np.asarray(truth, dtype="float64"), np.asarray(forecast, dtype="float64")
    if truth.shape != forecast.shape or truth.size == 0 or axes not in (None, truth.ndim):
        raise ArgumentError(
            "Truth and forecast cannot be compared.",
            expected="two arrays of the same shape" + (" (windows,)" if axes else "") + ", not empty",
            received=f"{truth.shape} and {forecast.shape}",
            remedy="Cut both from the same windows.",
        )
    with np.errstate(invalid="ignore"):
        return truth - forecast
