"""The packing of the weights: one block of `units` columns for each gate, the LSTM's in the order i, f, g, o.

cuDNN and torch have the same order, but each matrix transposed, and two biases that are added up.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from keras import ops

from keras_lstm_custom.structures import Tensor

GATES = ("i", "f", "g", "o")  #: the order of the blocks, which is Keras'


class CudnnWeights(NamedTuple):
    """The weights of one layer as cuDNN and `torch.nn.LSTM` have them; the fields are in cuDNN's order."""

    weight_ih: Tensor  #: `(gates * units, features)`
    weight_hh: Tensor  #: `(gates * units, units)`
    bias_ih: Tensor  #: `(gates * units,)`
    bias_hh: Tensor  #: `(gates * units,)`


def split_gates(packed: np.ndarray) -> dict[str, np.ndarray]:
    """Return the part of each gate, by its name; the inverse of `join_gates`.

    Args:
        packed: `(..., 4 * units)`: a kernel, a recurrent kernel, a bias or pre-activations.

    Returns:
        `{"i": ..., "f": ..., "g": ..., "o": ...}`, each `(..., units)`.
    """
    units = packed.shape[-1] // len(GATES)
    return {gate: packed[..., n * units : (n + 1) * units] for n, gate in enumerate(GATES)}


def join_gates(parts: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the packed array of the parts by gate; the inverse of `split_gates`.

    Args:
        parts: `{"i": ..., "f": ..., "g": ..., "o": ...}`, each `(..., units)`.

    Returns:
        `(..., 4 * units)`.
    """
    return np.concatenate([parts[gate] for gate in GATES], axis=-1)


def to_cudnn(kernel: Tensor, recurrent_kernel: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return the weights of one layer as the one vector that cuDNN reads.

    Keras' one bias becomes `bias_ih`, and `bias_hh` is zero, so that training changes what it changes in Keras.

    Args:
        kernel: `(features, gates * units)`.
        recurrent_kernel: `(units, gates * units)`.
        bias: `(gates * units,)`; zeros if None.

    Returns:
        `(gates * units * (features + units + 2),)`.
    """
    zeros = ops.zeros_like(recurrent_kernel[0])
    blocks = CudnnWeights(
        ops.transpose(kernel), ops.transpose(recurrent_kernel), zeros if bias is None else bias, zeros
    )
    return ops.concatenate([ops.reshape(block, (-1,)) for block in blocks])


def cudnn_blocks(packed: Tensor, features: int, units: int, gates: int = len(GATES)) -> CudnnWeights:
    """Return the blocks of the vector that `to_cudnn` makes."""
    rows = gates * units
    shapes = [(rows, features), (rows, units), (rows,), (rows,)]
    ends = np.cumsum([np.prod(shape) for shape in shapes]).tolist()
    parts = ops.split(packed, ends[:-1])
    return CudnnWeights(*(ops.reshape(part, shape) for part, shape in zip(parts, shapes, strict=True)))
