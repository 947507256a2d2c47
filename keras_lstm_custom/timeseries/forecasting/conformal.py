"""Intervals that hold what they promise: split conformal calibration, for the forecasts of any model."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_lstm_custom.errors import ArgumentError, DataError


def check_levels(levels: Any) -> tuple[float, ...]:
    """Return levels in per cent as a rising tuple, or raise ArgumentError."""
    try:
        values = tuple(sorted({float(level) for level in levels}))
    except (TypeError, ValueError):
        values = (math.nan,)
    if not all(1 < level < 100 for level in values):
        raise ArgumentError(
            "A level says how many per cent of the truth an interval shall hold.",
            expected="numbers between 1 and 100, such as (80, 95)",
            received=repr(levels)[:200],
            remedy="Pass e.g. levels=(80, 95), or levels=() for no intervals.",
        )
    return values


def windows_needed(level: float) -> int:
    """Return the least number of calibration windows for a level in per cent: n with ⌈(n + 1) level⌉ ≤ n."""
    return math.ceil(round(level / (100 - level), 9))


def levels_to_calibrate(
    asked: tuple[float, ...] | None, windows: int, *, default: Sequence[float]
) -> tuple[float, ...]:
    """Return the levels for which so many windows are enough; one of the default that is left out is told.

    Args:
        asked: in per cent; None: the default.
        windows: with known truth, to calibrate with.
        default: levels that nobody asked for.

    Raises:
        DataError: there are too few windows for a level that was asked for.
    """
    levels = tuple(default) if asked is None else asked
    few = [level for level in levels if windows < windows_needed(level)]
    if few and asked is not None:
        raise DataError(
            f"There are too few windows to calibrate an interval of {few[0]:g} %.",
            expected=f"at least {windows_needed(few[0])} windows in the validation part",
            received=f"{windows} windows",
            remedy="Use a longer record, a larger share for validation, a shorter horizon, or a lower level.",
        )
    if few:
        warnings.warn(
            f"No interval of {', '.join(f'{level:g} %' for level in few)}: to calibrate it takes "
            f"{windows_needed(few[0])} windows, and the validation part has {windows}.",
            stacklevel=3,
        )
    return tuple(level for level in levels if level not in few)


def conformal_margin(truth: Any, lower: Any, upper: Any, *, level: float) -> np.ndarray:
    """Return how far an interval must be widened at each step to hold `level` per cent of the truth.

    The score of a window is s = max(lower - y, y - upper), and the margin is its ⌈(n + 1) level⌉-th smallest value over
    the n windows: [lower - margin, upper + margin] holds the next truth with at least that probability, if it is
    exchangeable with those of calibration. It may be negative. With lower = upper = a point forecast the score is the
    absolute error, so any model can be calibrated.

    Source: Romano, Patterson & Candès 2019, Conformalized Quantile Regression, theorem 1.

    Args:
        truth: (windows, horizon), not used for learning; NaN where it is missing.
        lower, upper: (windows, horizon), the forecasts.
        level: in per cent.

    Returns:
        (horizon,)

    Raises:
        DataError: there are too few windows for this level at some step.
    """
    (level,) = check_levels([level])
    truth, lower, upper = (np.asarray(values, dtype="float64") for values in (truth, lower, upper))
    if truth.ndim != 2 or truth.shape != lower.shape or truth.shape != upper.shape:
        raise ArgumentError(
            "Truth and interval cannot be compared.",
            expected="three arrays of one shape (windows, horizon)",
            received=f"{truth.shape}, {lower.shape} and {upper.shape}",
            remedy="Cut all from the same windows.",
        )
    scores = np.sort(np.maximum(lower - truth, truth - upper), axis=0)  # NaN last
    known = np.isfinite(scores).sum(axis=0)
    needed = windows_needed(level)
    if known.min(initial=len(truth)) < needed:
        raise DataError(
            f"There are too few windows to calibrate an interval of {level:g} %.",
            expected=f"at least {needed} windows with known truth at every step",
            received=f"{known.min(initial=len(truth))} windows",
            remedy="Use a longer record, a larger share for validation, a shorter horizon, or a lower level.",
        )
    rank = np.ceil(np.round((known + 1) * level / 100, 9)).astype(int) - 1
    return scores[rank, np.arange(truth.shape[1])]


def intervals(
    quantiles: dict[float, tuple[np.ndarray, np.ndarray]], margins: dict[float, np.ndarray]
) -> dict[float, tuple[np.ndarray, np.ndarray]]:
    """Return calibrated intervals, lower and upper (windows, horizon) by level, each within the next.

    Args:
        quantiles: what the model says, by level.
        margins: what calibration adds, (horizon,) by level.
    """
    result: dict[float, tuple[np.ndarray, np.ndarray]] = {}
    inner: tuple[np.ndarray, np.ndarray] | None = None
    for level in sorted(margins):
        lower, upper = quantiles[level]
        lower, upper = lower - margins[level], upper + margins[level]
        middle = (lower + upper) / 2  # a negative margin may be more than half of the interval
        lower, upper = np.minimum(lower, middle), np.maximum(upper, middle)
        if inner is not None:
            lower, upper = np.minimum(lower, inner[0]), np.maximum(upper, inner[1])
        inner = result[level] = (lower, upper)
    return result
