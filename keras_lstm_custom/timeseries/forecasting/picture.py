"""The picture of a judgement: forecasts with intervals, the error by step, and the backtest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from keras_lstm_custom.timeseries.forecasting.judging import Judgement
from keras_lstm_custom.timeseries.forecasting.plan import Plan
from keras_lstm_custom.writing import new_file

#: Okabe and Ito's colours, told apart by the colour-blind too.
_NETWORKS, _BASELINE, _OTHERS = ("#0072B2", "#D55E00", "#CC79A7", "#56B4E9"), "#009E73", "0.75"


def draw(judgement: Judgement, plan: Plan, path: Path, *, unit: str = "") -> None:
    """Write the picture of a judgement, as PNG. Needs matplotlib.

    Args:
        judgement: what to show; of several series the first.
        plan: its plan.
        path: the file to write.
        unit: of the target.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 8.5), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(2, 2, height_ratios=(3, 2))
    label = f"{plan.target} [{unit}]" if unit else plan.target
    _forecasts(figure.add_subplot(grid[0, :]), judgement, plan, label)
    _by_step(figure.add_subplot(grid[1, 0]), judgement, unit)
    _by_origin(figure.add_subplot(grid[1, 1]), judgement, unit)
    with new_file(path) as file:
        figure.savefig(file, dpi=110)


def _styles(judgement: Judgement) -> dict[str, dict[str, Any]]:
    """Return how each line looks: the networks, the best of the others, and the rest in grey."""
    networks = dict(zip(judgement.networks, _NETWORKS * len(judgement.networks), strict=False))
    styles: dict[str, dict[str, Any]] = {}
    for name in judgement.forecasts:
        if name in networks:
            line = "-" if name == judgement.best else "--"
            styles[name] = {"color": networks[name], "linewidth": 1.8, "linestyle": line, "zorder": 3}
        elif name == judgement.verdict["baseline"]:
            styles[name] = {"color": _BASELINE, "linewidth": 1.6, "linestyle": "-.", "zorder": 2}
        else:
            styles[name] = {"color": _OTHERS, "linewidth": 1.0, "linestyle": "-", "zorder": 1}
    return styles


def _forecasts(axes: Any, judgement: Judgement, plan: Plan, label: str) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    count, horizon = judgement.of_first, plan.horizon
    middle = max(0, count // 2 - 3 * horizon)
    shown = np.arange(middle, min(middle + 6 * horizon, count), horizon)
    stamps = pd.DatetimeIndex(judgement.stamps[shown].ravel())
    times = (stamps.tz_localize(None) if stamps.tz is not None else stamps).to_numpy().reshape(len(shown), horizon)
    styles, best = _styles(judgement), judgement.networks[judgement.best]
    marker = "o" if horizon == 1 else None  # one step is no line
    for k, (row, when) in enumerate(zip(shown, times, strict=True)):
        for shade, (level, (lower, upper)) in enumerate(sorted(best.intervals.items(), reverse=True)):
            color = styles[judgement.best]["color"]
            name = f"{level:g} % interval" if k == 0 else None
            if horizon == 1:
                axes.vlines(when, lower[row], upper[row], color=color, alpha=0.25 + 0.2 * shade, label=name)
            else:
                axes.fill_between(
                    when, lower[row], upper[row], color=color, alpha=0.12 + 0.1 * shade, linewidth=0, label=name
                )
        for name in (judgement.verdict["baseline"], judgement.best):
            text = name if k == 0 else None
            axes.plot(when, judgement.forecasts[name][row], marker=marker, label=text, **styles[name])
        axes.plot(when, judgement.truth[row], color="black", linewidth=2, marker=marker, label=None if k else "truth")
        axes.axvline(when[0], color="0.85", linewidth=0.8, zorder=0)
    locator = AutoDateLocator()
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    zone = f" (time zone {plan.zone})" if plan.zone else ""
    series = f", series {plan.series[judgement.samples.series[0]]}" if plan.series else ""
    ahead = "the next step" if horizon == 1 else f"the next {horizon} steps"
    axes.set(ylabel=label, xlabel=f"time{zone}")
    axes.set_title(f"Held-out data{series}: {ahead}, forecast at each grey line", pad=30)
    axes.legend(ncols=6, frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0))


def _by_step(axes: Any, judgement: Judgement, unit: str) -> None:
    from matplotlib.ticker import MaxNLocator

    ahead = np.arange(1, judgement.truth.shape[1] + 1)
    grey = False
    for name, values in judgement.forecasts.items():
        style = _styles(judgement)[name]
        rmse = np.sqrt(np.nanmean(np.square(judgement.truth - values), axis=0))
        other = style["color"] == _OTHERS
        text = ("other simple forecasts" if not grey else None) if other else name
        grey = grey or other
        axes.plot(ahead, rmse, marker="o", markersize=3, label=text, **style)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="steps ahead", ylabel=f"RMSE [{unit}]" if unit else "RMSE", ylim=(0, None))
    axes.set_title(f"Error over all {judgement.windows} held-out windows")
    axes.legend(frameon=False, fontsize="small")


def _by_origin(axes: Any, judgement: Judgement, unit: str) -> None:
    parts = judgement.by_origin(6)
    names = [judgement.verdict["baseline"], *judgement.networks]
    width = 0.8 / len(names)
    for k, name in enumerate(names):
        where = np.arange(len(parts)) + (k - (len(names) - 1) / 2) * width
        axes.bar(where, parts[name], width=0.92 * width, color=_styles(judgement)[name]["color"], label=name)
    axes.set(xlabel="part of the held-out data, in time order", ylabel=f"RMSE [{unit}]" if unit else "RMSE")
    axes.set_ylim(0, 1.35 * np.nanmax(parts[names].to_numpy()))  # room for the legend
    axes.set_xticks(range(len(parts)), [str(k + 1) for k in range(len(parts))])
    axes.set_title("Backtest: error by origin, without fitting again")
    axes.legend(frameon=False, fontsize="small", ncols=len(names), loc="upper center")
