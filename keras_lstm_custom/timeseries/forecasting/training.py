"""How a network is fitted: the scales, the simple forecast it starts from, and the training itself."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from keras_lstm_custom.errors import DataError
from keras_lstm_custom.layers.forecasting import QuantileLoss, free_numbers
from keras_lstm_custom.timeseries.baselines import LAST, MEAN, seasonal_name, simple_kernel
from keras_lstm_custom.timeseries.checks import shown
from keras_lstm_custom.timeseries.forecasting.network import Network, Scales
from keras_lstm_custom.timeseries.forecasting.plan import Plan
from keras_lstm_custom.timeseries.forecasting.samples import Samples, bounds
from keras_lstm_custom.timeseries.forecasting.table import Table

#: Steps of windows in one epoch; of a longer series, only every so many windows are learnt from.
STEPS_PER_EPOCH = 1_000_000
#: An epoch of a long record is enough to learn from in 15; a short one needs as many batches.
EPOCHS, BATCHES = 15, 1500
#: float32 has 24 bits: of a value this many deviations from zero, less than three digits of the deviation are left.
FAR = 1e4


def stride_for(rows: int, window: int, period: int) -> int:
    """Return the rows between windows to learn from: no more steps than an epoch has, and every time of day."""
    stride = math.ceil(rows * window / STEPS_PER_EPOCH)
    while math.gcd(stride, period) > 1:  # a stride that divides the season would show one time of day only
        stride += 1
    return stride


def fit_scales(tables: Mapping[str, Table], plan: Plan, shares: tuple[float, float]) -> Scales:
    """Return mean and standard deviation of each series' training part.

    Raises:
        DataError: a column is constant there in every series.
    """
    means, stds = [], []
    for table in tables.values():
        part = np.where(table.known, table.values, np.nan)[: bounds(len(table.values), shares)[0]]
        if not np.isfinite(part).any(axis=0).all():
            column = plan.columns[int(np.flatnonzero(~np.isfinite(part).any(axis=0))[0])]
            raise DataError(
                f"The column {shown(column)} has no value in the training part.",
                expected="values to learn from",
                received=f"{len(part)} missing values",
                remedy="Leave the column out, or use a longer record.",
            )
        means.append(np.nanmean(part, axis=0))
        stds.append(np.nanstd(part, axis=0))
    mean, std = np.array(means), np.array(stds)
    constant = std <= 1e-12 * np.maximum(np.abs(mean), 1e-300)
    if constant.all(axis=0).any():
        column = plan.columns[int(np.flatnonzero(constant.all(axis=0))[0])]
        raise DataError(
            f"The column {shown(column)} is constant, so it says nothing about time and cannot be scaled.",
            expected="at least two different values in the training part",
            received=f"{mean[0, plan.columns.index(column)]:g} in all rows",
            remedy="Leave the column out; a target that does not change needs no forecast.",
        )
    std = np.where(constant, 1.0, std)  # of one series among several: its deviations are what they are
    if (np.abs(mean) > FAR * std).any():
        row, k = np.argwhere(np.abs(mean) > FAR * std)[0]
        warnings.warn(
            f"The column {shown(plan.columns[k])} varies by {std[row, k]:.3g} around {mean[row, k]:.6g}: in float32"
            " little of that is left. Subtract a constant from it first.",
            stacklevel=4,
        )
    static = np.array([table.static for table in tables.values()])
    spread = static.std(axis=0)
    return Scales(mean, std, (static.mean(axis=0), np.where(spread > 0, spread, 1.0)))


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


def deviations(samples: Samples, simple: np.ndarray, std: np.ndarray) -> np.ndarray:
    """Return how far the truth is from the simple forecast, (samples, horizon), in standard deviations."""
    base = samples.x["past"][:, :, 0].astype("float64") @ simple
    return (samples.y - base) / std[samples.series][:, None]


def start_of(change: np.ndarray, quantiles: tuple[float, ...]) -> np.ndarray:
    """Return what the untrained network says: no change, and the quantiles that the simple forecast's errors have."""
    spread = np.nanquantile(change, quantiles) if quantiles else np.zeros(0)
    return np.concatenate([[0.0], free_numbers(spread) if quantiles else spread])


def train(
    network: Network,
    train: tuple[Samples, np.ndarray],
    validation: tuple[Samples, np.ndarray],
    *,
    quantiles: tuple[float, ...],
    epochs: int | None,
    batch_size: int | None,
    learning_rate: float,
    verbose: Any,
) -> dict[str, Any]:
    """Fit the network's core to deviations from the simple forecast, and return how it went.

    Args:
        network: what is trained.
        train, validation: samples, and their deviations; the second decides when to stop.
        quantiles: those of the network.
        epochs: at most; None: 15, or for a short record as many as make 1500 batches.
        batch_size: None: 64, fewer for a short record.
        learning_rate: of Adam.
        verbose: as in `model.fit`.

    Returns:
        "validation_loss", "epochs", "seconds".
    """
    count = len(train[0])
    batch_size = batch_size or int(np.clip(2 ** int(np.log2(max(count / 16, 1))), 8, 64))
    batches = math.ceil(count / batch_size)
    most = epochs or int(np.clip(math.ceil(BATCHES / batches), EPOCHS, 150))
    losses: dict[str, Any] = {"mean": "mse"} | ({"quantiles": QuantileLoss(quantiles)} if quantiles else {})
    network.core.compile(keras.optimizers.Adam(learning_rate), losses)
    y, weights = _targets(train[1], losses)
    start = time.perf_counter()
    history = network.core.fit(
        train[0].x,
        y,
        sample_weight=weights,
        validation_data=(validation[0].x, *_targets(validation[1], losses)),
        epochs=most,
        batch_size=batch_size,
        callbacks=[keras.callbacks.EarlyStopping(patience=max(4, most // 6), restore_best_weights=True)],
        verbose=verbose,
    ).history
    return {
        "validation_loss": min(history["val_loss"]),
        "epochs": len(history["loss"]),
        "seconds": round(time.perf_counter() - start, 1),
    }


def _targets(
    change: np.ndarray, losses: Mapping[str, Any]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray] | None]:
    """Return what to learn for each output, and weights that leave out what is missing (None: nothing is)."""
    known = np.isfinite(change)
    y = np.where(known, change, 0.0)[:, :, None].astype("float32")
    weights = None if known.all() else {name: known.astype("float32") for name in losses}
    return dict.fromkeys(losses, y), weights
