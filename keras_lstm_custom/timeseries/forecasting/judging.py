"""Is a forecast any good? Networks against all simple forecasts and a statistical model, on held-out data."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from keras_lstm_custom.errors import ArgumentError, DataError, InputError
from keras_lstm_custom.timeseries.baselines import simple_forecasts
from keras_lstm_custom.timeseries.checks import check_size, names_shown, shown
from keras_lstm_custom.timeseries.forecasting import statistical
from keras_lstm_custom.timeseries.forecasting.forecaster import Forecaster, Forecasts
from keras_lstm_custom.timeseries.forecasting.plan import Frames, Plan
from keras_lstm_custom.timeseries.forecasting.samples import Samples, bounds, part_samples
from keras_lstm_custom.timeseries.forecasting.table import Table
from keras_lstm_custom.timeseries.forecasting.verdict import verdict
from keras_lstm_custom.timeseries.measures import MIN_BLOCKS, coverage, naive_scale


@dataclass
class Judgement:
    """What was measured on the held-out part.

    Attributes:
        errors: by the name of the forecast: "mae", "rmse" in the data's units, "mase", "coverage" by level, and of a
            network how the training went.
        verdict: "better" (bool), "network", "baseline" (the best of the others), "reason" (a sentence), "gain" and
            "standard_error" (of the squared error, as shares of the baseline's), "blocks", "windows_per_block".
        windows: how many held-out windows, all series together.
        apart: how many of them do not overlap.
        samples, truth, forecasts, networks: the windows, (windows, horizon), and by name what was forecast.
        stamps: (windows, horizon), the times of the truth; series after series, as all of these.
        remarks: what the user must be told.
    """

    errors: dict[str, dict[str, Any]]
    verdict: dict[str, Any]
    windows: int
    apart: int
    samples: Samples
    truth: np.ndarray
    forecasts: dict[str, np.ndarray]
    networks: dict[str, Forecasts]
    stamps: np.ndarray
    remarks: list[str] = field(default_factory=list)

    @property
    def best(self) -> str:
        """The network with the least loss on the validation part."""
        return str(self.verdict["network"])

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers as plain values, for `metrics.json`."""
        best = self.errors[self.best]
        times = self.stamps.ravel()
        return {
            "verdict": self.verdict,
            "mase": best["mase"],
            "coverage": best["coverage"],
            "windows": {"held_out": self.windows, "without_overlap": self.apart},
            "held_out": {"from": stamp(times.min()), "to": stamp(times.max())},
            "errors": self.errors,
            "best": self.best,
            "remarks": self.remarks,
        }

    @property
    def of_first(self) -> int:
        """How many of the windows are of the first series."""
        return int((self.samples.series == self.samples.series[0]).sum())

    def by_origin(self, origins: int = 4) -> pd.DataFrame:
        """Return the held-out part as parts, consecutive in time: how many windows each has, and the RMSE of all there.

        That is a rolling-origin backtest without fitting again; `backtest` fits again. A part without truth has NaN.

        Raises:
            ArgumentError: `origins` is no positive integer.
        """
        check_size("origins", origins, "says how many parts to make")
        order = np.argsort(self.stamps[:, 0], kind="stable")
        rows = []
        for part in np.array_split(order, min(origins, len(order))):
            known = np.isfinite(self.truth[part])
            errors = {
                name: float(np.sqrt(np.mean(np.square(self.truth[part] - values[part])[known])))
                if known.any()
                else np.nan
                for name, values in self.forecasts.items()
            }
            rows.append({"windows": len(part), **errors})
        return pd.DataFrame(rows)

    def __str__(self) -> str:
        levels = list(self.errors[self.best]["coverage"])
        width = max(len(name) for name in self.errors) + 2
        head = f"{'':{width}}{'MAE':>11}{'RMSE':>11}{'MASE':>8}" + "".join(f"{f'in {level} %':>11}" for level in levels)
        lines = [head + f"{'epochs':>9}{'seconds':>9}"]
        for name, row in self.errors.items():
            inside = [row.get("coverage", {}).get(level) for level in levels]
            text = "".join(f"{'' if share is None else f'{share:.1%}':>11}" for share in inside)
            mase = "" if row["mase"] is None else f"{row['mase']:.3f}"
            fitted = f"{row['epochs']:>9}{row['seconds']:>9.1f}" if "epochs" in row else ""
            lines.append(f"{name:{width}}{row['mae']:>11.4g}{row['rmse']:>11.4g}{mase:>8}{text}{fitted}")
        return "\n".join([*lines, "", self.verdict["reason"], *self.remarks])


def judge(
    forecasters: Mapping[str, Forecaster] | Forecaster, data: pd.DataFrame | Frames, *, statistics: bool = True
) -> Judgement:
    """Compare forecasters with every simple forecast, and with exponential smoothing, on the held-out part.

    A network is better only if its gain over the best of the others exceeds twice its standard error, in squared and in
    absolute error alike. The standard error is that of the means of blocks of windows (see `gain`), since windows
    overlap. Of several series, errors are scaled by each one's naive scale, and averaged over the series first.

    Args:
        forecasters: by name, fitted on this data, with the same target, horizon, window and shares.
        data: what they were fitted on.
        statistics: whether to compare with exponential smoothing, where statsmodels is installed.

    Raises:
        ArgumentError: the forecasters do not forecast the same, or one is not fitted.
        DataError: the target has no value in the held-out part, or a network gives no numbers.
    """
    forecasters = {"network": forecasters} if isinstance(forecasters, Forecaster) else dict(forecasters)
    for one in forecasters.values():
        one.check_fitted()
    first = _same(forecasters)
    plan, tables = first.plan, first.tables(data)
    samples = part_samples(tables, plan, "test", first.shares)
    networks = {
        name: one.forecast(part_samples(one.tables(data), one.plan, "test", one.shares))
        for name, one in forecasters.items()
    }
    _check_numbers(networks)
    remarks: list[str] = []
    baselines = _baselines(tables, plan, samples, first.shares, statistics, remarks)
    forecasts = {**baselines, **{name: result.mean for name, result in networks.items()}}
    scales = _scales(tables, plan, first.shares)[samples.series][:, None]
    unscaled = [plan.series[k] for k in np.unique(samples.series[np.isnan(scales[:, 0])])] if plan.series else []
    if unscaled:
        remarks.append(
            f"MASE leaves out {names_shown(unscaled)}, which never changes from season to season in the training part; "
            "therefore the verdict adds up the errors of all series as they are, and not each by its own scale."
        )
    errors = {name: _measured(samples.y, values, scales) for name, values in forecasts.items()}
    for name, one in forecasters.items():
        errors[name]["coverage"] = {
            f"{level:g}": coverage(samples.y, *bounds) for level, bounds in networks[name].intervals.items()
        }
        errors[name] |= one.history
    for name, one in forecasters.items():
        if one.history.get("kept", {}).get("mean") == 0.0:
            remarks.append(
                f"{name}: nothing that it learnt held on the validation part, so it forecasts as before training: "
                f"{one.anchor_used}" + (" with a linear correction." if one.penalty is not None else ".")
            )
    best = min(forecasters, key=lambda name: forecasters[name].history["validation_loss"])
    ahead = samples.origins[:, None] + np.arange(1, plan.horizon + 1)
    times = {k: tables[name].times.to_numpy() for k, name in enumerate(plan.series or ("",)) if name in tables}
    stamps = np.concatenate([times[k][ahead[samples.series == k]] for k in np.unique(samples.series)])
    found = verdict(samples, forecasts, list(baselines), best, scales, tables, plan)
    apart = sum(-(-int((samples.series == k).sum()) // plan.horizon) for k in np.unique(samples.series))
    if found["blocks"] < MIN_BLOCKS:
        text = (
            f"Few held-out windows: {len(samples)}, of which {apart} do not overlap. That is too few to tell a gain"
            " from chance; a backtest with several origins, or a longer record, tells more."
        )
        warnings.warn(text, stacklevel=2)
        remarks.insert(0, text)
    return Judgement(errors, found, len(samples), apart, samples, samples.y, forecasts, networks, stamps, remarks)


def stamp(time: Any) -> str:
    """Return a time as text, with its offset if it has one."""
    text = f"{pd.Timestamp(time):%Y-%m-%d %H:%M%z}"
    return text if pd.Timestamp(time).tzinfo is None else f"{text[:-2]}:{text[-2:]}"


def _same(forecasters: dict[str, Forecaster]) -> Forecaster:
    keys = {
        name: (one.plan.target, one.plan.horizon, one.plan.window, one.shares, one.plan.series)
        for name, one in forecasters.items()
    }
    if len(set(keys.values())) != 1:
        raise ArgumentError(
            "The forecasters cannot be compared.",
            expected="at least one, all with the same target, horizon, window, shares and series",
            received=str(keys)[:300],
            remedy="Fit all of them on the same data with the same sizes.",
        )
    return next(iter(forecasters.values()))


def _check_numbers(networks: Mapping[str, Forecasts]) -> None:
    """Raise `DataError` if a network gives NaN: such windows would count as those without truth."""
    for name, result in networks.items():
        wrong = int((~np.isfinite(result.mean)).any(axis=1).sum())
        if wrong:
            raise DataError(
                f"The network {shown(name)} gives no numbers.",
                expected="finite numbers for all held-out windows",
                received=f"NaN or infinity in {wrong} of {len(result.mean)} windows",
                remedy="Fit it again, at a lower learning rate; and look for huge values in the data.",
            )


def _baselines(
    tables: dict[str, Table],
    plan: Plan,
    samples: Samples,
    shares: tuple[float, float],
    statistics: bool,
    remarks: list[str],
) -> dict[str, np.ndarray]:
    """Return the forecasts without a network, by name, (windows, horizon); those that all series allow."""
    parts: list[dict[str, np.ndarray]] = []
    statistics_here = statistics and statistical.installed()
    if statistics and not statistics_here:
        remarks.append(f"Not compared with {statistical.NAME}: pip install statsmodels for that.")
    for k, name in enumerate(plan.series or ("",)):
        origins = samples.origins[samples.series == k]
        if not len(origins):
            continue
        values = tables[name].values[:, 0]
        part = simple_forecasts(values, origins, horizon=plan.horizon, window=plan.window, periods=plan.periods)
        if statistics_here:
            fitted = bounds(len(values), shares)[1]
            options = {"horizon": plan.horizon, "fitted": fitted}
            try:
                period = plan.period if plan.period <= fitted // 3 else 1
                part[statistical.NAME] = statistical.exponential_smoothing(values, origins, period=period, **options)
            except InputError as error:
                remarks.append(f"Not compared with {statistical.NAME}: {str(error).splitlines()[0]}")
        parts.append(part)
    common = [name for name in parts[0] if all(name in part for part in parts)]
    return {name: np.concatenate([part[name] for part in parts]) for name in common}


def _scales(tables: dict[str, Table], plan: Plan, shares: tuple[float, float]) -> np.ndarray:
    """Return what MASE divides by, for each series; NaN where the training part has no seasonal change."""
    scales = np.full(max(len(plan.series), 1), np.nan)
    for k, name in enumerate(plan.series or ("",)):
        if name in tables:
            learnt = tables[name].truth[: bounds(len(tables[name].values), shares)[0]]
            scales[k] = naive_scale(learnt, period=plan.period)
    return scales


def _measured(truth: np.ndarray, values: np.ndarray, scales: np.ndarray) -> dict[str, Any]:
    error = truth - values
    scaled = float(np.nanmean(np.abs(error) / scales)) if np.isfinite(scales).any() else None
    return {
        "mae": float(np.nanmean(np.abs(error))),
        "rmse": float(np.sqrt(np.nanmean(np.square(error)))),
        "mase": scaled,
    }
