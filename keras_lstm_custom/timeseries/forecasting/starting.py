"""What a network starts from: the best simple forecast, and a linear correction of it."""

from __future__ import annotations

import numpy as np

from keras_lstm_custom.timeseries.baselines import LAST, MEAN, seasonal_name, simple_kernel
from keras_lstm_custom.timeseries.forecasting.plan import Plan
from keras_lstm_custom.timeseries.forecasting.samples import Samples

#: Ridge penalties that are tried, as shares of the regressors' mean square.
PENALTIES = (1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0)
#: A window of more steps makes the regression slow, and the network has it all the same.
MOST_REGRESSORS = 1500


def best_simple(samples: Samples, plan: Plan, std: np.ndarray, name: str | None) -> tuple[str, np.ndarray]:
    """Return the simple forecast with the least squared error on the windows to learn from, and its matrix.

    Args:
        samples: of the training part.
        plan: its window and periods.
        std: (series,), by which errors are scaled.
        name: the one to take; None chooses.
    """
    periods = [period for period in plan.periods if 1 < period <= plan.window]
    names = [LAST, MEAN, *map(seasonal_name, periods)] if name is None else [name]
    errors = {}
    for one in names:
        change = deviations(samples, simple_kernel(one, horizon=samples.y.shape[1], window=plan.window), std)
        errors[one] = float(np.nanmean(np.square(change)))
    best = min(errors, key=lambda one: errors[one])
    return best, simple_kernel(best, horizon=samples.y.shape[1], window=plan.window)


def linear_start(
    learnt: Samples, stop: Samples, simple: np.ndarray, std: np.ndarray
) -> tuple[np.ndarray, float | None]:
    """Return the simple forecast with a linear correction that sees the target's window, and its ridge penalty.

    ŷ = past S + (past - y_T) K, where K minimises the squared error with a penalty on K that is chosen on the
    validation part; None: no penalty of those tried made the simple forecast better, and K is zero. Both together are
    one matrix M = S + K - e_T 1ᵀK whose columns sum to 1, so the forecast follows any level and unit.

    Source: Zeng et al. 2023, Are Transformers Effective for Time Series Forecasting? (NLinear), with ridge regression.

    Args:
        learnt, stop: samples to fit on, and to choose the penalty on.
        simple: S, (window, horizon).
        std: (series,), by which errors are scaled.

    Returns:
        M, (window, horizon), and the penalty as a share of the regressors' mean square.
    """
    (r, d), (r_stop, d_stop) = (_regression(samples, simple, std) for samples in (learnt, stop))
    best, penalty = float(np.mean(np.square(d_stop))), None
    kernel = np.zeros_like(simple)
    if len(simple) > MOST_REGRESSORS or len(r) < 2 or not len(r_stop):
        return simple, None
    values, vectors = np.linalg.eigh(r.T @ r / len(r))
    cross = vectors.T @ (r.T @ d / len(r))
    for share in PENALTIES:
        k = vectors @ (cross / (values + share * max(values.mean(), 1e-12))[:, None])
        error = float(np.mean(np.square(d_stop - r_stop @ k)))
        if error < best:
            best, penalty, kernel = error, share, k
    whole = simple + kernel
    whole[-1] -= kernel.sum(axis=0)
    return whole, penalty


def _regression(samples: Samples, simple: np.ndarray, std: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the window relative to its last value, and the deviations; samples with missing truth are left out."""
    past = samples.x["past"][:, :, 0].astype("float64")
    d = deviations(samples, simple, std)
    known = np.isfinite(d).all(axis=1)
    return ((past - past[:, -1:]) / std[samples.series][:, None])[known], d[known]


def deviations(samples: Samples, simple: np.ndarray, std: np.ndarray) -> np.ndarray:
    """Return how far the truth is from the simple forecast, (samples, horizon), in standard deviations."""
    base = samples.x["past"][:, :, 0].astype("float64") @ simple
    return (samples.y - base) / std[samples.series][:, None]
