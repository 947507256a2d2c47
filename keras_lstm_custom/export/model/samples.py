"""Samples for a model: the user's, checked, or made up; and what the model makes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import tree

from keras_lstm_custom.errors import InputError
from keras_lstm_custom.models.state import start_again
from keras_lstm_custom.models.walk import recurrent_layers, walk

Shape = tuple[int | None, ...]  #: with the batch; None: any size


def predictions(model: keras.Model, inputs: Sequence[np.ndarray], rows_at_once: int = 256) -> list[np.ndarray]:
    """Return the model's outputs for all rows, each row on its own: a stateful layer is reset before each batch."""
    batch = model.inputs[0].shape[0] or rows_at_once
    graph = graph_of(model)
    stateful = [layer for layer in recurrent_layers(model).values() if layer.stateful]
    parts = []
    for start in range(0, len(inputs[0]), batch):
        for layer in stateful:
            start_again(layer)
        rows = [array[start : start + batch] for array in inputs]
        parts.append([keras.ops.convert_to_numpy(output) for output in tree.flatten(graph(rows, training=False))])
    for layer in stateful:
        start_again(layer)
    return [np.concatenate(column) for column in zip(*parts, strict=True)]


def arrays_of(model: keras.Model, x: Any, shapes: Sequence[Shape] | None = None) -> list[np.ndarray]:
    """Return `x` as one array for each of the model's inputs, in their order, and checked.

    Args:
        model: the model.
        x: the samples.
        shapes: of its inputs, where they are to have others than the model says.

    Raises:
        InputError: their number or shape does not fit, or they hold NaN or infinity.
    """
    if isinstance(x, Mapping):
        x = by_name(model, x)
    arrays = [np.asarray(array) for array in (x if isinstance(x, (list, tuple)) else [x])]
    names = input_names(model)
    wanted = [tuple(tensor.shape) for tensor in model.inputs] if shapes is None else list(shapes)
    came = [array.shape for array in arrays]
    if len(wanted) != len(came) or not all(map(fits, wanted, came)) or len({shape[0] for shape in came}) != 1:
        raise InputError(
            "The samples do not fit the model's inputs.",
            expected=f"{len(wanted)} array(s) of shape "
            + ", ".join(f"{shape} for {name!r}" for name, shape in zip(names, wanted, strict=True))
            + ", None being free",
            received=f"{len(came)} array(s) of shape {', '.join(map(str, came))}",
            remedy="Pass x as for model.predict(x): a row for each sample, one array for each input.",
        )
    arrays = [_numbers(array, tensor, name) for array, tensor, name in zip(arrays, model.inputs, names, strict=True)]
    for name, array in zip(names, arrays, strict=True):
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise InputError(
                f"The samples for the input {name!r} hold NaN or infinity.",
                expected="finite numbers",
                received=f"{int(np.sum(~np.isfinite(array)))} that are not, of {array.size}",
                remedy="Drop or fill those rows first.",
            )
    return arrays


def by_name(model: keras.Model, x: Mapping[str, Any]) -> list[Any]:
    """Return what a dict holds for each of the model's inputs, in their order.

    Raises:
        InputError: it has nothing for an input.
    """
    keys = [{name, tensor.name} & x.keys() for name, tensor in zip(input_names(model), model.inputs, strict=True)]
    if not all(keys):
        raise InputError(
            "The names of the samples are not those of the model's inputs.",
            expected=", ".join(map(repr, input_names(model))),
            received=", ".join(map(repr, x)) or "an empty dict",
            remedy="Rename the arrays, or pass them as a list in the order of the model's inputs.",
        )
    return [x[next(iter(found))] for found in keys]


def _numbers(array: np.ndarray, tensor: Any, name: str) -> np.ndarray:
    """Return the samples for one input in its dtype."""
    if str(tensor.dtype) == "string":
        return array.astype(object)
    try:
        return array.astype(tensor.dtype)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"The samples for the input {name!r} are no numbers.",
            expected=f"values of dtype {tensor.dtype}",
            received=f"dtype {array.dtype}: {error}",
            remedy="Turn them into numbers first, as for model.predict.",
        ) from error


def graph_of(model: keras.Model) -> keras.Model:
    """Return the same layers as a functional model that takes a list of tensors."""
    return keras.Model(list(model.inputs), list(model.outputs), name=model.name)


def input_names(model: keras.Model) -> list[str]:
    """Return a name for each input of the model: that of its input layer, which a saved model keeps.

    The tensor's own name comes from a counter of the process where the user gave none.
    """
    layers = {op.output.name: op.name for op in graph_of(model).operations if isinstance(op, keras.layers.InputLayer)}
    return [layers.get(tensor.name, tensor.name) for tensor in model.inputs]


def output_names(model: keras.Model) -> list[str]:
    """Return a name for each output of the model: that of the layer it comes from, numbered where it comes again."""
    names = graph_of(model).output_names
    return [f"{name}_{names[:k].count(name)}" if name in names[:k] else name for k, name in enumerate(names)]


def made_up(
    model: keras.Model, rows: int = 4, free_size: int = 12, seed: int = 0, shapes: Sequence[Shape] | None = None
) -> list[np.ndarray]:
    """Return random samples for each input of the model: standard normal numbers, tokens 0 and 1, or words.

    Args:
        model: the model.
        rows: how many; a multiple of it where the model's batch is fixed.
        free_size: the size of the axes that the model leaves open.
        seed: of the random numbers.
        shapes: of its inputs, where they are to have others than the model says.
    """
    rng = np.random.default_rng(seed)
    rows *= model.inputs[0].shape[0] or 1
    samples = []
    for number, tensor in enumerate(model.inputs):
        sizes = tensor.shape if shapes is None else shapes[number]
        shape = [rows, *(size or free_size for size in sizes[1:])]
        if str(tensor.dtype) == "string":
            samples.append(rng.choice(np.array(_words(model), object), shape))
        elif is_token_like(model, number):
            samples.append(rng.integers(0, 2, shape).astype(tensor.dtype))
        else:
            samples.append(rng.standard_normal(shape).astype(tensor.dtype))
    return samples


def is_token_like(model: keras.Model, number: int) -> bool:
    """Return whether an input of the model holds whole numbers, such as tokens: by its dtype, or by what it does.

    `keras.Input((26,))` is float32, and feeds an Embedding all the same. An input of which the model takes the whole
    part only, whatever the layers on its way are, holds tokens: 1.4 gives exactly what 1 gives.
    """
    if "float" not in str(model.inputs[number].dtype):
        return str(model.inputs[number].dtype) != "string"
    if not any(_looks_up(layer) for _, layer in walk(model)):
        return False
    ones = [np.ones([t.shape[0] or 1, *(size or 3 for size in t.shape[1:])], "float32") for t in model.inputs]
    if any(str(tensor.dtype) == "string" for tensor in model.inputs):
        return False
    parts = np.random.default_rng(0).uniform(0.1, 0.9, ones[number].shape)
    between = [array + parts.astype("float32") if k == number else array for k, array in enumerate(ones)]
    whole, broken = (
        predictions(model, [array.astype(t.dtype) for array, t in zip(x, model.inputs, strict=True)])
        for x in (ones, between)
    )
    return all(np.array_equal(a, b, equal_nan=True) for a, b in zip(whole, broken, strict=True))


def _looks_up(layer: Any) -> bool:
    """Return whether a layer takes tokens, or is of the user's own, so that it may."""
    own = not type(layer).__module__.startswith(("keras.", "keras_lstm_custom"))
    return isinstance(layer, keras.layers.Embedding) or own


def _words(model: keras.Model) -> list[str]:
    """Return words that the model's own vocabularies hold, or any."""
    known = [layer.get_vocabulary() for _, layer in walk(model) if hasattr(layer, "get_vocabulary")]
    words = [str(word) for vocabulary in known for word in vocabulary if word not in ("", "[UNK]")]
    return words or ["one", "two", "three"]


def fits(wanted: Shape, came: Shape) -> bool:
    """Say whether an input of one shape takes samples of another, whatever the batch; None takes any size."""
    return len(wanted) == len(came) and all(w in (None, c) for w, c in zip(wanted[1:], came[1:], strict=True))
