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
from keras_lstm_custom.timeseries.checks import shown
from keras_lstm_custom.timeseries.forecasting.network import Network, Scales
from keras_lstm_custom.timeseries.forecasting.plan import Plan
from keras_lstm_custom.timeseries.forecasting.samples import Samples, bounds
from keras_lstm_custom.timeseries.forecasting.table import Table

#: Steps of windows in one epoch; of a longer series, only every so many windows are learnt from.
STEPS_PER_EPOCH = 1_000_000
#: An epoch of a long record is enough to learn from in 15; a short one needs as many batches.
EPOCHS, BATCHES = 15, 1500
#: Shares of what was learnt that are tried on the validation part, and into how many blocks that is cut for it.
KEPT, KEPT_BLOCKS = (0.0, 0.25, 0.5, 0.75, 1.0), 4
#: float32 has 24 bits: of a value this many deviations from zero, less than three digits of the deviation are left.
FAR = 1e4
#: Up to this share of the values may be outliers; they are told of where without them the standard deviation is so many
#: times less: scaled by it, the network sees less than 0.01 of all others.
OUTLIERS, LESS = 0.01, 100


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
        _tell_of_outliers(part, table, plan)
        means.append(np.nanmean(part, axis=0))
        stds.append(np.nanstd(part, axis=0))
    mean, std = np.array(means), np.array(stds)
    constant = std <= 1e-12 * np.maximum(np.abs(mean), 1e-300)
    if constant.all(axis=0).any():
        column = plan.columns[int(np.flatnonzero(constant.all(axis=0))[0])]
        raise DataError(
            f"The column {shown(column)} is constant, so it says nothing about time and cannot be scaled.",
            expected="at least two different values in the training part",
            received=f"{mean[0, plan.columns.index(column)]:g} in all rows of it",
            remedy="Leave the column out; a target that does not change needs no forecast.",
        )
    std = np.where(constant, 1.0, std)  # of one series among several: its deviations are what they are
    if (np.abs(mean) > FAR * std).any():
        row, k = np.argwhere(np.abs(mean) > FAR * std)[0]
        warnings.warn(
            f"The column {shown(plan.columns[k])} varies by {std[row, k]:.3g} around {mean[row, k]:.6g}: in float32"
            " little of that is left. Subtract a constant from it first.",
            stacklevel=3,
        )
    static = np.array([table.static for table in tables.values()])
    spread = static.std(axis=0)
    return Scales(mean, std, (static.mean(axis=0), np.where(spread > 0, spread, 1.0)))


def _tell_of_outliers(part: np.ndarray, table: Table, plan: Plan) -> None:
    """Warn of the few values of a column, such as a -9999 for a missing one, that alone make its scale."""
    for k, column in enumerate(plan.columns):
        values = part[:, k]
        off = np.abs(values - np.nanmedian(values))
        rows = np.argsort(np.nan_to_num(off))[::-1][: max(round(OUTLIERS * len(values)), 1)]
        rest = np.nanstd(np.delete(values, rows))
        if 0 < LESS * rest < np.nanstd(values):
            warnings.warn(
                f"The column {shown(column)} has values that hide all others, such as {values[rows[0]]:g} at "
                f"{table.times[rows[0]]}: without at most {len(rows)} of {len(values)} its standard deviation would be "
                f"{rest:.3g} instead of {np.nanstd(values):.3g}. If they are no measurements, leave them out (NaN).",
                stacklevel=4,
            )


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
        "validation_loss", "kept" (see `_keep`), "epochs", "seconds".
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
    kept = _keep(network, validation, quantiles)
    return {
        "validation_loss": min(history["val_loss"]),
        "kept": kept,
        "epochs": len(history["loss"]),
        "seconds": round(time.perf_counter() - start, 1),
    }


def _keep(network: Network, validation: tuple[Samples, np.ndarray], quantiles: tuple[float, ...]) -> dict[str, float]:
    """Shrink what was learnt towards the start, as far as the validation part does not support it, and say how far.

    On a random walk, a network finds in a few hundred overlapping windows what is not there. Of each output, the share
    of the learnt weights is kept whose gain over the start, less its standard error over blocks, is greatest.
    """
    samples, change = validation
    layers = [layer for layer in network.core.layers if layer.name in ("head", "step_head")]
    outputs = 1 + len(quantiles)
    learnt = {layer: layer.get_weights() for layer in layers}
    start = {layer: network.start_weights[layer.name] for layer in layers}

    def keep(shares: np.ndarray) -> None:
        for layer, weights in learnt.items():
            whole = np.tile(shares, weights[0].shape[-1] // outputs)
            layer.set_weights([s + whole * (w - s) for s, w in zip(start[layer], weights, strict=True)])

    some = np.isfinite(change).any(axis=1)  # windows of which something is known
    losses: dict[str, list[np.ndarray]] = {"mean": [], "quantiles": []}
    for share in KEPT:
        keep(np.full(outputs, share))
        said = network.core.predict(samples.x, batch_size=1024, verbose=0)
        error = change[some] - np.asarray(said["mean"], "float64")[some, :, 0]
        losses["mean"].append(np.nanmean(np.square(error), axis=1))
        if quantiles:
            q, error = np.array(quantiles), change[some, :, None] - np.asarray(said["quantiles"], "float64")[some]
            losses["quantiles"].append(np.nanmean(np.maximum(q * error, (q - 1) * error), axis=(1, 2)))
    kept = {name: _best_share(one) for name, one in losses.items() if one}
    keep(np.array([kept["mean"], *[kept.get("quantiles", 0.0)] * len(quantiles)]))
    return kept


def _best_share(losses: list[np.ndarray]) -> float:
    """Return the share with the greatest gain over none, less its standard error over consecutive blocks."""
    gains = np.array([losses[0] - loss for loss in losses])
    gains = gains[:, np.isfinite(gains).all(axis=0)]
    blocks = [part.mean(axis=1) for part in np.array_split(gains, min(KEPT_BLOCKS, gains.shape[1]), axis=1)]
    error = np.std(blocks, axis=0, ddof=1) / np.sqrt(len(blocks)) if len(blocks) > 1 else 0.0
    return KEPT[int(np.argmax(np.mean(blocks, axis=0) - error))]


def _targets(
    change: np.ndarray, losses: Mapping[str, Any]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray] | None]:
    """Return what to learn for each output, and weights that leave out what is missing (None: nothing is)."""
    known = np.isfinite(change)
    y = np.where(known, change, 0.0)[:, :, None].astype("float32")
    weights = None if known.all() else {name: known.astype("float32") for name in losses}
    return dict.fromkeys(losses, y), weights
