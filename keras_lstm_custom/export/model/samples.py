"""Samples for a model: the user's, checked, or made up; and what the model makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import tree

from keras_lstm_custom.errors import InputError
from keras_lstm_custom.models.walk import recurrent_layers


def predictions(model: keras.Model, inputs: Sequence[np.ndarray], rows_at_once: int = 256) -> list[np.ndarray]:
    """Return the model's outputs for all rows, each row on its own: a stateful layer is reset before each batch."""
    batch = model.inputs[0].shape[0] or rows_at_once
    graph = graph_of(model)
    stateful = [layer for layer in recurrent_layers(model).values() if layer.stateful]
    parts = []
    for start in range(0, len(inputs[0]), batch):
        for layer in stateful:
            layer.reset_state()
        rows = [array[start : start + batch] for array in inputs]
        parts.append([keras.ops.convert_to_numpy(output) for output in tree.flatten(graph(rows, training=False))])
    for layer in stateful:
        layer.reset_state()
    return [np.concatenate(column) for column in zip(*parts, strict=True)]


def arrays_of(model: keras.Model, x: Any) -> list[np.ndarray]:
    """Return `x` as one array for each of the model's inputs, in their order, and checked.

    Raises:
        InputError: their number or shape does not fit, or they hold NaN or infinity.
    """
    if isinstance(x, dict):
        x = [x[tensor.name] for tensor in model.inputs if tensor.name in x]
    arrays = [np.asarray(array) for array in (x if isinstance(x, (list, tuple)) else [x])]
    wanted = [tuple(tensor.shape) for tensor in model.inputs]
    came = [array.shape for array in arrays]
    if len(wanted) != len(came) or not all(map(_fits, wanted, came)) or len({shape[0] for shape in came}) != 1:
        raise InputError(
            "The samples do not fit the model's inputs.",
            expected=f"{len(wanted)} array(s) of shape {', '.join(map(str, wanted))}, None being free",
            received=f"{len(came)} array(s) of shape {', '.join(map(str, came))}",
            remedy="Pass x as for model.predict(x): a row for each sample, one array for each input.",
        )
    for tensor, array in zip(model.inputs, arrays, strict=True):
        if not np.isfinite(array).all():
            raise InputError(
                f"The samples for the input {tensor.name!r} hold NaN or infinity.",
                expected="finite numbers",
                received=f"{int(np.sum(~np.isfinite(array)))} that are not, of {array.size}",
                remedy="Drop or fill those rows first.",
            )
    return [array.astype(tensor.dtype) for array, tensor in zip(arrays, model.inputs, strict=True)]


def graph_of(model: keras.Model) -> keras.Model:
    """Return the same layers as a functional model that takes a list of tensors."""
    return keras.Model(list(model.inputs), list(model.outputs))


def output_names(model: keras.Model) -> list[str]:
    """Return a name for each output of the model: that of the layer it comes from, numbered where it comes again."""
    names = graph_of(model).output_names
    return [f"{name}_{names[:k].count(name)}" if name in names[:k] else name for k, name in enumerate(names)]


def made_up(model: keras.Model, rows: int = 4, free_size: int = 12, seed: int = 0) -> list[np.ndarray]:
    """Return random samples for each input of the model: standard normal numbers, or tokens 0 and 1.

    Args:
        model: the model.
        rows: how many; a multiple of it where the model's batch is fixed.
        free_size: the size of the axes that the model leaves open.
        seed: of the random numbers.
    """
    rng = np.random.default_rng(seed)
    rows *= model.inputs[0].shape[0] or 1
    samples = []
    for tensor in model.inputs:
        shape = [rows, *(size or free_size for size in tensor.shape[1:])]
        is_float = "float" in str(tensor.dtype)
        samples.append((rng.standard_normal(shape) if is_float else rng.integers(0, 2, shape)).astype(tensor.dtype))
    return samples


def _fits(wanted: Sequence[int | None], came: Sequence[int]) -> bool:
    return len(wanted) == len(came) and all(w in (None, c) for w, c in zip(wanted[1:], came[1:], strict=True))
