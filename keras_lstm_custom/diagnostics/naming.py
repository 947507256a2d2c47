"""Names of features and steps, as pictures and the page show them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_lstm_custom.errors import ArgumentError

Names = Sequence[Any]


def feature_labels(names: Names | None, features: int, default: str = "column {}") -> list[str]:
    """Return a label for each feature: the name given, or its number in `default`.

    Raises:
        ArgumentError: there are more or fewer names than features.
    """
    if names is None:
        return [default.format(number) for number in range(features)]
    _check(len(names), features, "feature_names", "features")
    return [str(name) for name in names]


def step_labels(names: Any, timesteps: int, batch: int) -> list[list[str]] | None:
    """Return the labels of the steps of each sequence, or None.

    Args:
        names: one name for each step, for all sequences; or for each sequence its own, as the words of a text.
        timesteps: how many steps there are.
        batch: how many sequences there are.

    Raises:
        ArgumentError: there are more or fewer names than steps, or lists than sequences.
    """
    if names is None:
        return None
    rows = list(names)
    if rows and isinstance(rows[0], (list, tuple, np.ndarray)):
        _check(len(rows), batch, "step_names", "sequences")
    else:
        rows = [rows] * batch
    for row in rows:
        _check(len(row), timesteps, "step_names", "steps")
    return [[str(name) for name in row] for row in rows]


def _check(received: int, expected: int, argument: str, what: str) -> None:
    if received != expected:
        raise ArgumentError(
            f"`{argument}` does not fit the {what}.",
            expected=f"{expected} names, one for each of the {what}",
            received=f"{received} names",
            remedy="Pass as many names as there are, or none. Padded steps need a name too, e.g. ''.",
        )
