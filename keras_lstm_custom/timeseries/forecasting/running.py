"""How a trained network is run: all steps at once, or one after the other."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from keras_lstm_custom.timeseries.forecasting.plan import Plan
from keras_lstm_custom.timeseries.forecasting.samples import Samples

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


def _run(model: keras.Model, x: dict[str, np.ndarray]) -> dict[str, Any]:
    return {name: np.asarray(v, "float64") for name, v in model.predict(x, batch_size=1024, verbose=0).items()}
