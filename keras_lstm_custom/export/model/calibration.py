"""The real input that a user gives for calibration, as checked arrays."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_lstm_custom.errors import InputError
from keras_lstm_custom.export.model.samples import Shape, arrays_of, by_name

#: Of the calibration, what is held back to compare the file on: a share, at most so many rows, and
#: from how many rows on. With fewer, calibration needs them all.
HELD_BACK, MOST_HELD_BACK, ENOUGH = 0.25, 32, 32


def held_back(
    arrays: Sequence[np.ndarray], most: int = MOST_HELD_BACK
) -> tuple[list[np.ndarray], list[np.ndarray], str]:
    """Return rows to calibrate with, at most so many rows to compare on, and a note on them.

    The rows to compare on are spread evenly, since data often comes sorted. Where there are too few rows,
    both are the same, and the note says so.
    """
    rows = len(arrays[0])
    if rows < ENOUGH:
        first = [array[:most] for array in arrays]
        note = f"Compared on {len(first[0])} rows that it was calibrated with; from {ENOUGH} on some are held back."
        return list(arrays), first, note
    count = min(most, int(HELD_BACK * rows))
    chosen = np.zeros(rows, bool)
    chosen[np.linspace(0, rows - 1, count).round().astype(int)] = True
    note = f"Calibrated with {rows - count} rows and compared on {count} others."
    return [array[~chosen] for array in arrays], [array[chosen] for array in arrays], note


def calibration_arrays(model: keras.Model, calibration: Any, shapes: Sequence[Shape] | None = None) -> list[np.ndarray]:
    """Return calibration data as one array for each of the model's inputs.

    Args:
        model: the model.
        calibration: an array `(rows, ...)`; a list or a dict of arrays for several inputs; or an iterable
            of batches, each such an array or list (a `tf.data.Dataset`, a generator).
        shapes: of the model's inputs, where they are to have others than it says.

    Raises:
        InputError: it does not fit the model, is empty, does not vary, or holds NaN or infinity.
    """
    arrays = arrays_of(model, _gathered(calibration, model), shapes)
    if not len(arrays[0]):
        raise _unusable("The calibration is empty.", "no rows")
    floats = [array for array in arrays if array.dtype.kind == "f"]
    if floats and all(array.min() == array.max() for array in floats):
        raise _unusable("The calibration does not vary.", f"the value {floats[0].flat[0]:g} everywhere")
    return arrays


def no_calibration(quantize: str | None, rows: str = "rows of what the model will see") -> InputError:
    """Say that integers are asked for, and nothing to calibrate them with is given."""
    return _unusable(
        f"The integers of {quantize} need to know the range of real input.",
        "no calibration",
        f"calibration=x_train[:200]: some hundred {rows}",
    )


def _gathered(calibration: Any, model: keras.Model) -> Any:
    """Put the batches of an iterable together; leave what holds all rows already as it is."""
    if isinstance(calibration, (Mapping, np.ndarray)) or hasattr(calibration, "__array__"):
        return calibration
    if isinstance(calibration, str | os.PathLike):
        raise _unusable(
            "The calibration is the rows themselves, and not the path of a file.",
            repr(calibration),
            "an array, such as numpy.load(path)",
        )
    parts, inputs = list(calibration), len(model.inputs)
    if isinstance(calibration, (list, tuple)) and len(parts) == inputs and not isinstance(parts[0], Mapping):
        return parts
    batches = [_columns(part, model) for part in parts]
    if not batches or any(len(batch) != inputs for batch in batches):
        raise _unusable(
            "The batches of the calibration do not fit the model's inputs.",
            f"{len(batches)} batch(es) of {', '.join(map(str, sorted({len(batch) for batch in batches})))} array(s)",
            f"batches of {inputs} array(s)",
        )
    try:
        return [np.concatenate([np.asarray(array) for array in column]) for column in zip(*batches, strict=True)]
    except ValueError as error:
        raise _unusable("The batches of the calibration differ in shape.", str(error)) from error


def _columns(batch: Any, model: keras.Model) -> list[Any]:
    if isinstance(batch, Mapping):
        return by_name(model, batch)
    return list(batch) if isinstance(batch, (list, tuple)) else [batch]


def _unusable(what: str, received: str, expected: str = "some hundred rows of what the model will see") -> InputError:
    return InputError(what, expected=expected, received=received, remedy="Pass rows of the training data.")
