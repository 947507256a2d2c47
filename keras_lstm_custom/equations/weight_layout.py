"""The packing of the weights: one block of `units` columns for each gate, the LSTM's in the order i, f, g, o.

cuDNN and torch have the same order, but each matrix transposed, and two biases that are added up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from keras import ops

from keras_lstm_custom.structures import Tensor

GATES = ("i", "f", "g", "o")  #: the order of the blocks, which is Keras'


def split_gates(packed: np.ndarray, gates: Sequence[str] = GATES) -> dict[str, np.ndarray]:
    """Return the part of each gate, by its name; the inverse of `join_gates`.

    Args:
        packed: `(..., gates * units)`: a kernel, a recurrent kernel, a bias or pre-activations.
        gates: their names, in the order of the blocks.

    Returns:
        `{"i": ..., "f": ..., "g": ..., "o": ...}`, each `(..., units)`.
    """
    units = packed.shape[-1] // len(gates)
    return {gate: packed[..., n * units : (n + 1) * units] for n, gate in enumerate(gates)}


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
    blocks = (ops.transpose(kernel), ops.transpose(recurrent_kernel), zeros if bias is None else bias, zeros)
    return ops.concatenate([ops.reshape(block, (-1,)) for block in blocks])
