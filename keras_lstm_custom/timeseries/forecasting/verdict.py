"""Whether a network is better than the best forecast without one, and how sure that is."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from keras_lstm_custom.timeseries.forecasting.plan import Plan
from keras_lstm_custom.timeseries.forecasting.samples import Samples
from keras_lstm_custom.timeseries.forecasting.table import Table
from keras_lstm_custom.timeseries.measures import MIN_BLOCKS, Gain, gain


def verdict(
    samples: Samples,
    forecasts: dict[str, np.ndarray],
    baselines: list[str],
    network: str,
    scales: np.ndarray,
    tables: dict[str, Table],
    plan: Plan,
) -> dict[str, Any]:
    """Return the verdict, as in `Judgement`.

    Args:
        samples: the held-out windows.
        forecasts: by name, (windows, horizon).
        baselines: the names of those without a network.
        network: the name of the one that is judged.
        scales: (windows, 1), by which errors of several series are divided.
        tables, plan: for the times of the origins.
    """
    weights = scales if np.isfinite(scales).all() and len(plan.series) > 1 else np.ones_like(scales)
    gains: dict[str, tuple[str, float, Gain]] = {}
    names = plan.series or ("",)
    times = np.array([tables[names[k]].times[r].value for k, r in zip(samples.series, samples.origins, strict=True)])
    for measure, power in (("squared", 2), ("absolute", 1)):
        losses = {
            name: _by_origin(np.abs((samples.y - forecasts[name]) / weights) ** power, times)
            for name in (*baselines, network)
        }
        best = min(baselines, key=lambda name: np.nanmean(losses[name]))
        gains[measure] = (
            best,
            float(np.nanmean(losses[best])),
            gain(losses[network], losses[best], horizon=plan.horizon),
        )
    (baseline, loss, one), (_, _, other) = gains["squared"], gains["absolute"]
    better = one.sure and other.sure
    return {
        "better": better,
        "network": network,
        "baseline": baseline,
        "reason": _reason(better, network, gains),
        "gain": one.mean / loss if loss else 0.0,
        "standard_error": None if np.isnan(one.error) or not loss else one.error / loss,
        "blocks": one.blocks,
        "windows_per_block": one.block,
    }


def _by_origin(loss: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Return the mean loss of the windows of each origin, over steps and series, in time order."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of windows with no truth at all: they stay NaN
        each = np.nanmean(loss, axis=1)
    known = ~np.isnan(each)
    stamps, place = np.unique(times, return_inverse=True)
    counts = np.bincount(place, weights=known, minlength=len(stamps))
    sums = np.bincount(place, weights=np.where(known, each, 0.0), minlength=len(stamps))
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def _reason(better: bool, network: str, gains: dict[str, tuple[str, float, Gain]]) -> str:
    baseline, loss, one = gains["squared"]
    if one.blocks < MIN_BLOCKS:
        return (
            f"{network} is no better than the best simple forecast ({baseline}) as far as so few windows can tell: they"
            f" make {one.blocks} blocks of {one.block}, and it takes {MIN_BLOCKS} to measure how much the gain varies."
        )
    numbers = f"{baseline} makes no error"
    if loss:
        numbers = (
            f"its squared error is {abs(one.mean) / loss:.1%} {'less' if one.mean > 0 else 'more'}, with a standard"
            f" error of {one.error / loss:.1%} over {one.blocks} blocks of {one.block} windows"
        )
    if better:
        return f"{network} is better than the best simple forecast ({baseline}): {numbers}."
    if one.sure:
        numbers += f"; but its absolute error is not surely less than that of {gains['absolute'][0]}"
    return (
        f"{network} is no better than the best simple forecast ({baseline}): {numbers}. Use that one, or give the"
        " network more data or inputs."
    )
