"""Windows of a table: what the network sees, and what it must forecast."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from keras_lstm_custom.errors import DataError
from keras_lstm_custom.timeseries.checks import check_columns, check_size
from keras_lstm_custom.timeseries.spacing import regular


class Windows(NamedTuple):
    """Samples of one table.

    Attributes:
        x: float32 (samples, window, features), what is known.
        y: float32 (samples, horizon), the target in the steps that follow, what a network learns.
        past: float32 (samples, window), the target in the steps of x.
        times: (samples, horizon), the index values of y.
    """

    x: np.ndarray
    y: np.ndarray
    past: np.ndarray
    times: np.ndarray


def windows(
    frame: pd.DataFrame,
    target: str,
    *,
    window: int,
    horizon: int = 1,
    stride: int = 1,
    features: Sequence[str] | None = None,
    relative: bool = False,
) -> Windows:
    """Cut a table into overlapping windows and what follows each.

    Sample k starts at row r = k * stride: x[k] and past[k] hold the features and the target of rows
    r ... r + window - 1, y[k] the target of rows r + window ... r + window + horizon - 1. There are
    (rows - window - horizon) // stride + 1 samples.

    With `relative`, the target counts from its last known value: past[k, -1] is taken off the target's
    column of x[k] and off y[k]; `past` stays as it is, and a forecast is past[:, -1:] + what the network
    gives. A series that leaves the range seen in training can be followed that way.

    Args:
        frame: one row per time step, in time order and equal steps.
        target: the column to forecast.
        window: how many steps the network sees.
        horizon: how many steps it forecasts.
        stride: how many rows lie between the starts of two samples.
        features: the columns it sees; None means all, the target's past included.
        relative: count the target from its last known value.

    Raises:
        ArgumentError: a size is not a positive integer.
        DataError: a column is missing or not finite numbers, or the table is too short for one sample.
    """
    for name, size in (("window", window), ("horizon", horizon), ("stride", stride)):
        check_size(name, size)
    last = _last_start(frame, window + horizon)
    return _cut(frame, target, np.arange(0, last + 1, stride), window, horizon, features, relative)


def latest(
    frame: pd.DataFrame,
    target: str,
    *,
    window: int,
    features: Sequence[str] | None = None,
    relative: bool = False,
) -> Windows:
    """Return the last `window` rows as one sample, for a forecast beyond the table; its y and times are (1, 0).

    Args and errors are those of `windows`.
    """
    check_size("window", window)
    return _cut(frame, target, np.array([_last_start(frame, window)]), window, 0, features, relative)


def next_times(index: pd.DatetimeIndex, horizon: int) -> pd.DatetimeIndex:
    """Return the `horizon` time stamps that follow `index`.

    Args:
        index: of a table, in equal steps.
        horizon: how many stamps.

    Raises:
        ArgumentError: `horizon` is not a positive integer.
        DataError: the steps of the index are not equal, or too few to tell.
    """
    check_size("horizon", horizon)
    index = regular(index)
    return pd.date_range(index[-1], periods=horizon + 1, freq=index.freq)[1:]


def dataset(samples: Windows, *, batch_size: int = 32, shuffle: bool = False, seed: int | None = None) -> Any:
    """Return `samples` as a `tf.data.Dataset` of batches (x, y). Needs TensorFlow.

    Args:
        samples: what `windows` returned.
        batch_size: samples in a batch; the last batch may have fewer.
        shuffle: draw the samples in a new random order in each epoch.
        seed: makes that order repeatable.

    Raises:
        ArgumentError: `batch_size` is not a positive integer.
    """
    import tensorflow as tf

    check_size("batch_size", batch_size)
    data = tf.data.Dataset.from_tensor_slices((samples.x, samples.y))
    if shuffle:
        data = data.shuffle(len(samples.x), seed=seed)
    return data.batch(batch_size).prefetch(tf.data.AUTOTUNE)


def _last_start(frame: pd.DataFrame, rows: int) -> int:
    """Return the last row at which a sample of `rows` rows can start."""
    if len(frame) < rows:
        raise DataError(
            "The table is too short for one sample.",
            expected=f"at least {rows} rows (the window and what follows it)",
            received=f"{len(frame)} rows",
            remedy="Use a longer record, or a shorter window or horizon.",
        )
    return len(frame) - rows


def _cut(
    frame: pd.DataFrame,
    target: str,
    starts: np.ndarray,
    window: int,
    horizon: int,
    features: Sequence[str] | None,
    relative: bool,
) -> Windows:
    features = list(frame.columns) if features is None else list(features)
    check_columns(frame, [*features, target])
    seen, future = (starts[:, None] + steps for steps in (np.arange(window), np.arange(window, window + horizon)))
    values = frame[target].to_numpy("float32")
    x, y, past = frame[features].to_numpy("float32")[seen], values[future], values[seen]
    if relative:
        y = y - past[:, -1:]
        for column in (k for k, name in enumerate(features) if name == target):
            x[:, :, column] -= past[:, -1:]
    return Windows(x, y, past, frame.index.to_numpy()[future])
