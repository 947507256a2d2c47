"""The packing of the LSTM's weights: one block of `units` columns for each gate, in the order i, f, g, o."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

GATES = ("i", "f", "g", "o")  #: the order of the blocks, which is Keras'


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
