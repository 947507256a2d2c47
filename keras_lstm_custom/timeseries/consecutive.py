"""Truncated backpropagation through time: long series in consecutive windows, for stateful layers."""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
import numpy as np

from keras_lstm_custom.errors import ArgumentError, DataError
from keras_lstm_custom.models.state import start_again
from keras_lstm_custom.models.walk import recurrent_layers
from keras_lstm_custom.timeseries.checks import check_size


class ConsecutiveWindows(NamedTuple):
    """Windows in the order in which a stateful layer must read them; batch k holds window k of every series.

    Attributes:
        x: (windows * series, window, ...), for `model.fit(x, y, batch_size=series, shuffle=False)`.
        y: the same of the targets, or None.
        batch_size: the number of series.
    """

    x: np.ndarray
    y: np.ndarray | None
    batch_size: int


def consecutive_windows(x: Any, y: Any = None, *, window: int) -> ConsecutiveWindows:
    """Cut long series into windows such that row r of each batch goes on where row r of the batch before ended.

    A layer with `stateful=True` carries its state from batch to batch, and no gradient flows from a batch into the
    one before: truncated backpropagation through time, with k1 = k2 = `window` in the terms of Williams & Peng 1990.
    Start every epoch from a state of zeros with `ResetStates`.

    Args:
        x: (series, timesteps, features).
        y: (series, timesteps, ...), a target for each step; None for x alone.
        window: steps in a window; must divide the number of steps.

    Raises:
        ArgumentError: `window` is not a positive integer.
        DataError: x or y has not these axes, or the window does not divide the steps.
    """
    check_size("window", window)
    x, y = np.asarray(x), None if y is None else np.asarray(y)
    if x.ndim != 3 or x.size == 0 or (y is not None and y.shape[:2] != x.shape[:2]):
        raise DataError(
            "Consecutive windows are cut from whole series with a target for each step.",
            expected="x (series, timesteps, features) and y (series, timesteps, ...), not empty",
            received=f"x of shape {x.shape}" + ("" if y is None else f" and y of shape {y.shape}"),
            remedy="For one series add an axis: x[None], y[None]; cut a very long one into several first.",
        )
    series, timesteps = x.shape[:2]
    left = timesteps % window
    if left:
        raise DataError(
            "The windows do not cover the series.",
            expected=f"a number of steps that {window} divides",
            received=f"{timesteps} steps: {left} would be left out",
            remedy=f"Leave out the first ones yourself, x[:, {left}:] (y alike), or choose another window.",
        )

    def cut(values):
        rest = values.shape[2:]
        windows = values.reshape(series, timesteps // window, window, *rest)
        return windows.swapaxes(0, 1).reshape(-1, window, *rest)

    return ConsecutiveWindows(cut(x), None if y is None else cut(y), series)


class ResetStates(keras.callbacks.Callback):
    """Sets the states of a model's stateful layers to zero where the series start again.

    That is at the start of each epoch, of each evaluation (also that on validation data, after an epoch) and of
    each `predict` that is given this callback.

    Raises:
        ArgumentError: when training starts, if no layer of the model is stateful.
    """

    def on_train_begin(self, logs=None):
        if not self._stateful():
            raise ArgumentError(
                f"No layer of {self.model.name!r} keeps a state between batches.",
                expected="a recurrent layer with stateful=True",
                received=f"layers {[layer.name for layer in self.model.layers]}",
                remedy="Build the recurrent layers with stateful=True, or leave this callback out.",
            )

    def on_epoch_begin(self, epoch, logs=None):
        self._reset()

    def on_test_begin(self, logs=None):
        self._reset()

    def on_predict_begin(self, logs=None):
        self._reset()

    def _reset(self):
        for layer in self._stateful():
            start_again(layer)

    def _stateful(self) -> list[keras.layers.RNN]:
        return [layer for layer in recurrent_layers(self.model).values() if layer.stateful]
