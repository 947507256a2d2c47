"""How a trained network is run, all steps at once or one after the other, and its forecasts as a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import pandas as pd

from keras_lstm_custom.errors import DataError
from keras_lstm_custom.timeseries.checks import names_shown, shown
from keras_lstm_custom.timeseries.forecasting.plan import Plan
from keras_lstm_custom.timeseries.forecasting.samples import Samples
from keras_lstm_custom.timeseries.forecasting.table import Table
from keras_lstm_custom.timeseries.windowing import next_times

#: Lower and upper, (samples, horizon) each, by level in per cent.
Bounds = dict[float, tuple[np.ndarray, np.ndarray]]


def at_once(
    model: keras.Model, samples: Samples, levels: tuple[float, ...], quantiles: tuple[float, ...]
) -> tuple[np.ndarray, Bounds]:
    """Return the mean forecast, (samples, horizon), and the bounds of each level as the network says them."""
    outputs = _run(model, samples.x)
    place = {quantile: k for k, quantile in enumerate(quantiles)}
    below = {level: (100 - level) / 200 for level in levels}
    said = {
        level: (outputs["quantiles"][..., place[b]], outputs["quantiles"][..., place[1 - b]])
        for level, b in below.items()
    }
    return outputs["mean"], said


def step_by_step(model: keras.Model, samples: Samples, plan: Plan) -> np.ndarray:
    """Return the mean forecast of a network of one step, (samples, horizon): each step ends the next window."""
    x, steps = dict(samples.x), []
    for k in range(plan.horizon):
        now = {**x, **({"future": x["future"][:, k : k + 1]} if "future" in x else {})}
        step = _run(model, now)["mean"]
        steps.append(step)
        row = [step, x["future"][:, k, : len(plan.future)]] if plan.future else [step]
        if plan.missing != "refuse":
            row.append(np.ones((len(step), len(plan.columns))))
        last = np.concatenate(row, axis=1)[:, None].astype("float32")
        x["past"] = np.concatenate([x["past"][:, 1:], last], axis=1)
    return np.concatenate(steps, axis=1)


def as_table(mean: np.ndarray, intervals: Bounds, tables: Mapping[str, Table], plan: Plan) -> pd.DataFrame:
    """Return the forecasts of the newest sample of each series over the stamps of the steps to come.

    Args:
        mean: (series, horizon).
        intervals: lower and upper, (series, horizon) each, by level.
        tables: the series, in that order.
        plan: of the forecaster.

    Returns:
        Columns with the target's name, `lower_80`, `upper_80` and so on; of several series also `series`, the id.
    """
    parts = []
    for k, (name, table) in enumerate(tables.items()):
        columns: dict[str, Any] = {"series": [name] * plan.horizon} if plan.series else {}
        columns[plan.target] = mean[k]
        for level, (lower, upper) in intervals.items():
            columns[f"lower_{level:g}"], columns[f"upper_{level:g}"] = lower[k], upper[k]
        parts.append(pd.DataFrame(columns, index=next_times(table.times, plan.horizon)))
    return pd.concat(parts)


def check_names(plan: Plan, levels: tuple[float, ...]) -> None:
    """Raise DataError if the target's name is that of another column of the forecast, which would take its place."""
    others = [f"{side}_{level:g}" for level in levels for side in ("lower", "upper")]
    if plan.series:
        others.append("series")
    if plan.target in others:
        raise DataError(
            f"The target has a name that the table of the forecast needs: {shown(plan.target)}.",
            expected=f"another name than {names_shown(others)}",
            received=shown(plan.target),
            remedy=f"Rename the column: frame = frame.rename(columns={{{shown(plan.target)}: 'value'}}).",
        )


def _run(model: keras.Model, x: dict[str, np.ndarray]) -> dict[str, Any]:
    return {name: np.asarray(v, "float64") for name, v in model.predict(x, batch_size=1024, verbose=0).items()}
