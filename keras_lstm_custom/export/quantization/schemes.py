"""The two ways of computing in integers, and how real numbers become integers in each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from keras_lstm_custom.export.file.flatbuffer import Op, quantization

#: The powers of two between which the runtimes' integer tanh works; beyond, LiteRT leaves stale data.
CELL_SCALES = (2.0**-15, 2.0**-9)
MARGIN = 1.05  #: by how much a cell state may exceed what was seen in calibration
HEADROOM = 2.0  #: the same for int16 values, which have a bit to spare
INT32_ROOM = 2.0**30  #: what a bias may grow to, with room for the accumulator


class Params(NamedTuple):
    """How real numbers are stored: `real = scale * (stored - zero_point)`."""

    dtype: Any
    scale: float
    zero_point: int = 0

    @property
    def record(self) -> Any:
        return quantization(self.scale, self.zero_point)

    def stored(self, real: np.ndarray) -> np.ndarray:
        """Return the integers nearest to the real numbers."""
        limits = np.iinfo(self.dtype)
        steps = np.round(np.asarray(real, np.float64) / self.scale) + self.zero_point
        return np.clip(steps, limits.min, limits.max).astype(self.dtype)


@dataclass(frozen=True)
class Scheme:
    """Types of activations and biases; weights are int8, symmetric, in both."""

    name: str
    dtype: Any  #: of activations
    bias: Any
    fixed: dict[int, Params]  #: outputs whose scale the kernels presuppose

    def params(self, low: float, high: float) -> Params:
        """Return how to store values of a range that holds zero."""
        if self.dtype == np.int16:
            return Params(np.int16, HEADROOM * max(-low, high, 1e-9) / 32767)
        scale = max(high - low, 1e-9) / 255
        return Params(np.int8, scale, int(np.clip(np.round(-128 - low / scale), -128, 127)))


def cell_params(largest: float) -> Params:
    """Return how to store a cell state: a power of two, for the runtimes' tanh."""
    scale = 2.0 ** (np.ceil(np.log2(max(MARGIN * largest, 1e-9))) - 15)
    return Params(np.int16, float(np.clip(scale, *CELL_SCALES)))


def weights(
    real: np.ndarray, axis: int | None = None, smallest: float | np.ndarray = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Return int8 weights and their scale, or their scales along `axis`; none below `smallest`."""
    others = None if axis is None else tuple(k for k in range(real.ndim) if k != axis)
    scale = np.maximum(np.maximum(np.abs(real).max(axis=others) / 127, smallest), 1e-12)
    shape = [1] * real.ndim
    if axis is not None:
        shape[axis] = -1
    return np.clip(np.round(real / scale.reshape(shape)), -127, 127).astype(np.int8), np.asarray(scale)


INT8 = Scheme(
    "int8",
    np.int8,
    np.int32,
    {
        Op.LOGISTIC: Params(np.int8, 1 / 256, -128),
        Op.SOFTMAX: Params(np.int8, 1 / 256, -128),
        Op.TANH: Params(np.int8, 1 / 128),
    },
)
INT16X8 = Scheme(
    "int16x8",
    np.int16,
    np.int64,
    {op: Params(np.int16, 1 / 32768) for op in (Op.LOGISTIC, Op.SOFTMAX, Op.TANH)},
)
SCHEMES = {scheme.name: scheme for scheme in (INT8, INT16X8)}
