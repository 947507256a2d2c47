"""A rolling-origin backtest: how much a forecast's error varies over time and over seeds."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from keras_lstm_custom.errors import ArgumentError, DataError
from keras_lstm_custom.timeseries.checks import check_size, shown
from keras_lstm_custom.timeseries.forecasting.forecaster import Forecaster
from keras_lstm_custom.timeseries.forecasting.judging import judge
from keras_lstm_custom.timeseries.forecasting.plan import Frames, as_frames


def backtest(
    forecaster: Forecaster,
    data: pd.DataFrame | Frames,
    *,
    origins: int = 4,
    seeds: Sequence[int] = (1,),
    share: float = 0.4,
    statistics: bool = True,
    **training: Any,
) -> pd.DataFrame:
    """Fit again at several origins with several seeds, and measure each on what comes next.

    The last `share` of the record is cut into `origins` parts of equal length. Before each part a forecaster is fitted
    on all that is known by then, and judged on the part.

    Args:
        forecaster: whose arguments are taken; it need not be fitted.
        data: a table, or several by id, of the same length.
        origins: how many times to start.
        seeds: to fit with at each origin.
        share: of the record that is forecast.
        statistics: see `judge`.
        training: arguments of `Forecaster.fit`, e.g. epochs.

    Returns:
        One row for each origin and seed: "origin" (the first stamp that is forecast), "seed", "windows", "mae", "rmse",
        "mase", the name and RMSE of the best of the other forecasts there ("baseline", "baseline_rmse"), "gain" (of
        RMSE, as a share), and the measured coverage by level.

    Raises:
        ArgumentError: `origins`, `seeds` or `share` is not usable.
        DataError: the parts are shorter than the horizon.
    """
    _check_times(seeds, share)
    part, frames = part_of(forecaster, data, origins, share), as_frames(data)
    results = []
    for k in range(origins):
        cut = {name: frame.iloc[: len(frame) - (origins - 1 - k) * part] for name, frame in frames.items()}
        length = min(len(frame) for frame in cut.values())
        for seed in seeds:
            one = forecaster.fresh(test=part / length)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # of few windows: the parts together tell
                one.fit(cut if list(cut) != [""] else cut[""], seed=seed, **training)
                found = judge({"network": one}, cut if list(cut) != [""] else cut[""], statistics=statistics)
            others = {name: row["rmse"] for name, row in found.errors.items() if name != "network"}
            baseline = min(others, key=lambda name: others[name])
            row = found.errors["network"]
            results.append(
                {
                    "origin": found.stamps.min(),
                    "seed": seed,
                    "windows": found.windows,
                    **{name: row[name] for name in ("mae", "rmse", "mase")},
                    "baseline": baseline,
                    "baseline_rmse": others[baseline],
                    "gain": 1 - row["rmse"] / others[baseline] if others[baseline] else np.nan,
                    **{f"coverage_{level}": inside for level, inside in row["coverage"].items()},
                }
            )
    return pd.DataFrame(results)


def part_of(forecaster: Forecaster, data: pd.DataFrame | Frames, origins: int, share: float = 0.4) -> int:
    """Return how many rows each part of a backtest has.

    Raises:
        ArgumentError: `origins` is no positive integer.
        DataError: that is fewer than the horizon.
    """
    check_size("origins", origins, "says how many times to start")
    rows = min(len(frame) for frame in as_frames(data).values())
    part, horizon = int(rows * share) // origins, forecaster.fresh().prepare(data).horizon
    if part < horizon:
        raise DataError(
            "The parts of the backtest are shorter than the horizon.",
            expected=f"at least {horizon} rows in each",
            received=f"{origins} parts of {part} rows",
            remedy="Use fewer origins, a larger share, or a shorter horizon.",
        )
    return part


def _check_times(seeds: Any, share: Any) -> None:
    if isinstance(seeds, int) or not len(list(seeds)):
        raise ArgumentError(
            "`seeds` are what to fit with at each origin.",
            expected="at least one, such as (1, 2, 3)",
            received=shown(seeds),
            remedy="Pass seeds=range(3) for three of them.",
        )
    if not 0 < share < 0.85:
        raise ArgumentError(
            "`share` is how much of the record is forecast.",
            expected="a number above 0 and below 0.85, since something must be learnt from",
            received=shown(share),
            remedy="Pass e.g. share=0.4.",
        )


def spread(results: pd.DataFrame) -> str:
    """Return in words how a backtest's gain over the best simple forecast varies."""
    by_origin = results.groupby("origin")["gain"].mean()
    within = results.groupby("origin")["gain"].std().mean()
    seeds = results["seed"].nunique()
    text = (
        f"Backtest: {len(by_origin)} origins, {seeds} seed{'s' if seeds > 1 else ''}: RMSE {by_origin.mean():.1%} below"
        f" the best simple forecast of each origin (from {by_origin.min():.1%} to {by_origin.max():.1%}"
    )
    return text + (f"; ± {within:.1%} between seeds)." if seeds > 1 else ").")
