"""Layers and a loss for forecasts: scaling inside the model, the pinball loss, and quantiles that do not cross."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import keras
import numpy as np
from keras import ops

from keras_lstm_custom.errors import ArgumentError

PACKAGE = "keras_lstm_custom"


def check_quantiles(quantiles: Sequence[float]) -> tuple[float, ...]:
    """Return quantiles as a tuple, or raise ArgumentError unless they rise and lie in (0, 1)."""
    values = tuple(float(q) for q in quantiles)
    if not values or not all(0 < q < 1 for q in values) or any(b <= a for a, b in pairwise(values)):
        raise ArgumentError(
            "These are no quantiles.",
            expected="rising numbers in (0, 1), such as (0.1, 0.5, 0.9)",
            received=str(values)[:200],
            remedy="An interval of 80 % lies between the quantiles 0.1 and 0.9.",
        )
    return values


@keras.saving.register_keras_serializable(PACKAGE)
class QuantileLoss(keras.losses.Loss):
    r"""Pinball loss: mean over the quantiles q of max(q e, (q - 1) e), e = y_true - y_pred.

    The loss of each quantile is least where that share of the truth lies below the forecast.
    Source: Koenker & Bassett 1978, Regression Quantiles.

    Call arguments:
        y_true: (batch, ..., 1).
        y_pred: (batch, ..., quantiles), in the order of `quantiles`.

    Args:
        quantiles: rising numbers in (0, 1).

    Raises:
        ArgumentError: they are not.
    """

    def __init__(self, quantiles: Sequence[float], name: str = "quantile_loss", **kwargs):
        super().__init__(name=name, **kwargs)
        self.quantiles = check_quantiles(quantiles)

    def call(self, y_true, y_pred):
        q = ops.convert_to_tensor(np.array(self.quantiles), dtype=y_pred.dtype)
        error = ops.cast(y_true, y_pred.dtype) - y_pred
        return ops.mean(ops.maximum(q * error, (q - 1) * error), axis=-1)

    def get_config(self):
        return {**super().get_config(), "quantiles": list(self.quantiles)}


@keras.saving.register_keras_serializable(PACKAGE)
class OrderedQuantiles(keras.layers.Layer):
    """Turns free numbers into quantiles that rise: the middle one as it is, the others by positive steps from it.

    The step of x is s(x) = (x + √(x² + 4)) / 2 > 0. With m the middle, quantile m + j is x_m + s(x_{m+1}) + ... +
    s(x_{m+j}), and quantile m - j is x_m - s(x_{m-1}) - ... - s(x_{m-j}).

    Input and output: (batch, ..., quantiles).
    """

    def call(self, inputs):
        count = inputs.shape[-1]
        middle = count // 2
        step = (inputs + ops.sqrt(ops.square(inputs) + 4.0)) / 2.0
        # One product does all sums, and runs wherever a Dense layer runs.
        spread = ops.matmul(step, ops.convert_to_tensor(_sums(count), dtype=inputs.dtype))
        return inputs[..., middle : middle + 1] + spread

    def compute_output_shape(self, input_shape):
        return input_shape


def _sums(count: int) -> np.ndarray:
    """Return S, (count, count), with S[k, j] = ±1 where step k lies between the middle and quantile j."""
    middle = count // 2
    k, j = np.indices((count, count))
    return ((k > middle) & (k <= j)).astype("float32") - ((k < middle) & (k >= j)).astype("float32")


def free_numbers(quantiles: np.ndarray) -> np.ndarray:
    """Return what `OrderedQuantiles` turns into these rising numbers: the inverse of it, x = s - 1/s for each step."""
    middle = len(quantiles) // 2
    steps = np.maximum(np.diff(quantiles), 1e-3)
    steps = np.concatenate([steps[:middle], [1.0], steps[middle:]])
    free = steps - 1 / steps
    free[middle] = quantiles[middle]
    return free


@keras.saving.register_keras_serializable(PACKAGE)
class Affine(keras.layers.Layer):
    """a · x + b along the last axis, with constants that are saved in the model and not learnt.

    Args:
        factor, offset: (channels,).
    """

    def __init__(self, factor: Sequence[float], offset: Sequence[float], **kwargs):
        super().__init__(**kwargs)
        self.factor, self.offset = [float(v) for v in factor], [float(v) for v in offset]

    def call(self, inputs):
        factor, offset = (ops.convert_to_tensor(np.array(v), dtype=inputs.dtype) for v in (self.factor, self.offset))
        return inputs * factor + offset

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "factor": self.factor, "offset": self.offset}


@keras.saving.register_keras_serializable(PACKAGE)
class RelativeTarget(keras.layers.Layer):
    """Takes the last value of the first channel off that channel: x_{t,0} - x_{T,0}; (batch, window, channels)."""

    def call(self, inputs):
        first = np.eye(inputs.shape[-1])[0]
        return inputs - inputs[:, -1:, :] * ops.convert_to_tensor(first, dtype=inputs.dtype)

    def compute_output_shape(self, input_shape):
        return input_shape
