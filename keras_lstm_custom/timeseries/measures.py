"""How far a forecast is from the truth, and whether one forecast is better than another."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from keras_lstm_custom.errors import ArgumentError

#: Fewer blocks than this say nothing about how much their mean varies.
MIN_BLOCKS = 4
#: Upper 97.7 % points of Student's t, those of two standard errors of a normal: by degrees of freedom, 3 to 10.
_TWO_ERRORS = {3: 3.31, 4: 2.87, 5: 2.65, 6: 2.52, 7: 2.43, 8: 2.37, 9: 2.32, 10: 2.28}


def mae(truth: Any, forecast: Any) -> float:
    """Return the mean absolute error, mean |truth - forecast|, in the units of the data.

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
    """
    values = np.asarray(values, dtype="float64")
    change = np.abs(values[period:] - values[:-period]) if len(values) > period else np.array([])
    change = change[np.isfinite(change)]
    return float(change.mean()) if change.size and change.any() else float("nan")


def mase(truth: Any, forecast: Any, *, scale: float) -> float:
    """Return the mean absolute scaled error: below 1 is better than the seasonal-naive forecast was in training.

    Source: Hyndman & Koehler 2006, Another look at measures of forecast accuracy.

    Args:
        truth, forecast: arrays of one shape.
        scale: `naive_scale` of the training part.

    Raises:
        ArgumentError: as `mae`.
    """
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
    if not 0 < quantile < 1:
        raise ArgumentError(
            "`quantile` is the share of the truth that lies below the forecast.",
            expected="a number between 0 and 1",
            received=repr(quantile),
            remedy="Pass e.g. quantile=0.95 for 95 %.",
        )
    error = _difference(truth, forecast)
    return float(np.mean(np.maximum(quantile * error, (quantile - 1) * error)))


def coverage(truth: Any, lower: Any, upper: Any) -> float:
    """Return the share of the truth that lies in [lower, upper]; missing truth is left out.

    Args:
        truth, lower, upper: arrays of one shape.

    Raises:
        ArgumentError: as `mae`.
    """
    _difference(truth, lower), _difference(truth, upper)
    truth, lower, upper = (np.asarray(a, dtype="float64") for a in (truth, lower, upper))
    known = np.isfinite(truth)
    return float(np.mean((truth >= lower)[known] & (truth <= upper)[known]))


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
    """
    change = np.asarray(other, dtype="float64") - np.asarray(loss, dtype="float64")
    change = change[np.isfinite(change)]
    block = max(2 * horizon, int(np.ceil(np.sqrt(len(change))))) if horizon > 1 else int(np.ceil(np.sqrt(len(change))))
    blocks = len(change) // block if block else 0
    mean = float(change.mean()) if change.size else float("nan")
    if blocks < MIN_BLOCKS:
        return Gain(mean, float("nan"), blocks, block, float("nan"))
    means = change[len(change) - blocks * block :].reshape(blocks, block).mean(axis=1)
    error = float(means.std(ddof=1) / np.sqrt(blocks))
    return Gain(mean, error, blocks, block, _TWO_ERRORS.get(blocks - 1, 2.0 + 2.8 / blocks))


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
