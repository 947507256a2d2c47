"""Checks of the data that a model is looked into with, and its slices."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import tree

from keras_lstm_custom.errors import InputError


def check_batch(model: keras.Model, x: Any, role: str = "input") -> tuple[Any, int]:
    """Return `x` with every leaf a NumPy array, and the number of sequences in it. `role` names it in errors.

    Raises:
        InputError: there is no sequence, inputs differ in how many they hold, or a value is not finite.
    """
    x = tree.map_structure(np.asarray, x)
    leaves = tree.flatten(x)
    sizes = {leaf.shape[:1] for leaf in leaves}
    if len(sizes) != 1 or sizes <= {(), (0,)}:
        raise InputError(
            f"The {role} must hold at least one sequence, and as many in each of its arrays.",
            expected="arrays of shape (batch, ...) with the same batch",
            received=f"shapes {', '.join(str(leaf.shape) for leaf in leaves)}",
            remedy="For a single sequence add a batch axis: x[None].",
        )
    for leaf in leaves:
        _check_finite(model, leaf, role)
    return x, leaves[0].shape[0]


def rows(x: Any, start: int, stop: int) -> Any:
    """Return sequences `start` to `stop` of every input."""
    return tree.map_structure(lambda leaf: leaf[start:stop], x)


def _check_finite(model: keras.Model, leaf: np.ndarray, role: str) -> None:
    if not np.issubdtype(leaf.dtype, np.floating) or np.isfinite(leaf).all():
        return
    bad = np.argwhere(~np.isfinite(leaf))
    place = tuple(int(n) for n in bad[0])
    raise InputError(
        f"The {role} of {model.name!r} holds values that are not finite; everything after one would be NaN.",
        expected="finite numbers",
        received=f"{len(bad)} of {leaf.size} values, the first {leaf[place]} at {place}",
        remedy="Fill or drop them first, or mark the steps with keras.layers.Masking.",
    )
