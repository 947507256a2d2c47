"""What the inputs of a model are: which run over time, which hold tokens, and of which size each is to be."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_lstm_custom.errors import ArgumentError, ExportError
from keras_lstm_custom.export.model.samples import Shape, input_names, is_token_like

#: The length of the sequences: of all inputs, of each by its name, or of each in their order.
Timesteps = int | Mapping[str, int] | Sequence[int | None] | None


def sequences(model: keras.Model) -> list[bool]:
    """Return for each input of `model` whether it runs over time, along the axis behind the batch.

    It does with an axis behind that one, or with an open length. Of two axes of known size, it is tokens as long as the
    other sequences; or anything, where no other input could be one.
    """
    shapes = [tuple(tensor.shape) for tensor in model.inputs]
    found = [len(shape) > 2 or (len(shape) == 2 and shape[1] is None) for shape in shapes]
    lengths = {shape[1] for shape, is_found in zip(shapes, found, strict=True) if is_found}
    if not lengths:
        return [len(shape) == 2 and shape[1] > 1 for shape in shapes]
    rows = [len(shape) == 2 and shape[1] in lengths for shape in shapes]
    return [
        is_found or (is_row and is_token_like(model, number))
        for number, (is_found, is_row) in enumerate(zip(found, rows, strict=True))
    ]


def input_shapes(model: keras.Model, timesteps: Timesteps = None, rows: Sequence[np.ndarray] = ()) -> list[Shape]:
    """Return the shape, with its batch, that each input of `model` is to have.

    Args:
        model: the model.
        timesteps: the lengths that are asked for. One number goes to all inputs that run over time.
        rows: input as the model will see it, which tells the sizes that are open still.

    Raises:
        ArgumentError: `timesteps` names other inputs than the model's, or is no positive number.
    """
    wanted = _lengths(model, timesteps)
    shapes = [list(tensor.shape) for tensor in model.inputs]
    for shape, length in zip(shapes, wanted, strict=True):
        if length is not None:
            shape[1] = length
    for shape, array in zip(shapes, rows, strict=False):
        shape[1:] = [size or came for size, came in zip(shape[1:], array.shape[1:], strict=True)]
    return [tuple(shape) for shape in shapes]


def sized(model: keras.Model, shapes: Sequence[Shape]) -> Callable[[dict], dict]:
    """Return what gives the input layers in a serialised model these shapes; those of nested models follow theirs."""
    lengths = {t.shape[1]: new[1] for t, new in zip(model.inputs, shapes, strict=True) if len(new) == 2}
    named = dict(zip(input_names(model), shapes, strict=True))
    before = [tuple(tensor.shape) for tensor in model.inputs]
    alike: dict[Shape, set[Shape]] = {}
    for old, new in zip(before, shapes, strict=True):
        alike.setdefault(old[1:], set()).add(new[1:])
    own = dict(zip(named, before, strict=True))

    def rewrite(entry: dict) -> dict:
        if entry["class_name"] != "InputLayer":
            return follows(entry, lengths)
        config = entry["config"]
        shape = tuple(config["batch_shape"])
        if own.get(config["name"], (None,))[1:] == shape[1:]:
            new = named[config["name"]][1:]
        else:  # of a nested model: it takes the new length if that is known, or stays open
            found = alike.get(shape[1:], set())
            new = next(iter(found)) if len(found) == 1 else shape[1:]
        return {**entry, "config": {**config, "batch_shape": [shape[0], *new]}}

    return rewrite


def follows(entry: dict, lengths: Mapping[int | None, int | None]) -> dict:
    """Let a Reshape that makes time steps of a row of numbers make those of a row of another length (None: any)."""
    target = entry["config"].get("target_shape") if entry["class_name"] == "Reshape" else None
    length = lengths.get(target[0], target[0]) if target else None
    if not target or length == target[0]:
        return entry
    return {**entry, "config": {**entry["config"], "target_shape": [length or -1, *target[1:]]}}


def check_sizes(model: keras.Model, shapes: Sequence[Shape]) -> None:
    """Raise `ExportError` if a size is still open."""
    still = {name: shape for name, shape in zip(input_names(model), shapes, strict=True) if None in shape[1:]}
    if still:
        example = f"{{{', '.join(f'{name!r}: 100' for name in still)}}}" if len(model.inputs) > 1 else "100"
        which = "the input" if len(still) == 1 else "the inputs"
        raise ExportError(
            f"The size of {which} {', '.join(map(repr, still))} is not known.",
            expected="a size for every axis but the batch",
            received=", ".join(map(str, still.values())),
            remedy=f"Give the number of timesteps of a sequence, timesteps={example}, or pass a calibration.",
        )


def check_finite(model: keras.Model) -> None:
    """Raise `ExportError` if a weight holds NaN or infinity: no file would give what the model gives."""
    for weight in getattr(model, "weights", ()):
        values = np.asarray(ops.convert_to_numpy(ops.cast(weight, "float32")))
        wrong = int((~np.isfinite(values)).sum())
        if wrong:
            raise ExportError(
                f"The weights of the model {model.name!r} are not all numbers.",
                expected="finite numbers",
                received=f"NaN or infinity in {wrong} of the {values.size} numbers of {weight.path!r}",
                remedy="Export the weights of an earlier epoch; train with a lower learning rate or clipped gradients.",
            )


def check_no_text(model: keras.Model) -> None:
    """Raise `ExportError` if an input takes strings."""
    text = [tensor.name for tensor in getattr(model, "inputs", None) or [] if str(tensor.dtype) == "string"]
    if text:
        raise ExportError(
            f"The input {text[0]!r} takes strings, and TFLite's runtimes have no ops for text.",
            expected="inputs of numbers",
            received="an input of dtype 'string'",
            remedy="Export the part behind the TextVectorization (or lookup), keras.Model(vectorised, output), and "
            "turn text into tokens in the application; or use export.saved_model, which takes text.",
        )


def _lengths(model: keras.Model, timesteps: Timesteps) -> list[int | None]:
    names = input_names(model)
    lengths: list[Any] = [None] * len(names)
    if isinstance(timesteps, Mapping):
        known = [{name, tensor.name} for name, tensor in zip(names, model.inputs, strict=True)]
        unknown = [name for name in timesteps if not any(name in each for each in known)]
        if unknown:
            raise _unusable(timesteps, f"the names {', '.join(map(repr, names))}")
        lengths = [next((timesteps[name] for name in each if name in timesteps), None) for each in known]
    elif isinstance(timesteps, (list, tuple)):
        lengths = list(timesteps)
        if len(lengths) != len(names):
            raise _unusable(timesteps, f"{len(names)} lengths, one for each of {', '.join(map(repr, names))}")
    elif timesteps is not None:
        lengths = [timesteps if is_one else None for is_one in sequences(model)]
    for length, tensor in zip(lengths, model.inputs, strict=True):
        is_number = isinstance(length, (int, np.integer)) and not isinstance(length, bool) and length > 0
        if length is not None and not (is_number and len(tensor.shape) > 1):
            raise _unusable(timesteps, "positive integers, for inputs that have an axis behind the batch")
    return lengths


def _unusable(timesteps: Any, expected: str) -> ArgumentError:
    return ArgumentError(
        "`timesteps` is the length of the sequences.",
        expected=f"{expected}; a single number for all sequences, a dict by input name, or a list",
        received=repr(timesteps),
        remedy="Pass e.g. timesteps=100, or timesteps={'encoder': 100, 'decoder': 20}.",
    )
