"""Which one value of a model's output is explained, for each row."""

from __future__ import annotations

import operator
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops, tree

from keras_lstm_custom.errors import ArgumentError
from keras_lstm_custom.structures import Tensor


class Target(NamedTuple):
    """One number of the output for each row."""

    leaf: int  #: which of the outputs
    place: np.ndarray  #: `(batch,)`, where in the flattened output of a row
    label: str  #: what it is called

    def pick(self, output: Any, place: Tensor) -> Tensor:
        """Return the number of each row, `(rows,)`; `place` is that of these rows."""
        values = tree.flatten(output)[self.leaf]
        flat = ops.reshape(values, (values.shape[0], -1))
        return ops.take_along_axis(flat, ops.expand_dims(place, 1), axis=1)[:, 0]


def find_target(model: keras.Model, output: Any, target: Any, batch: int) -> Target:
    """Return the place that `target` names in an output like `output`; see `attribute` for the forms it may have.

    Raises:
        ArgumentError: there is no such place, or it is not said which of several.
    """
    names = output_names(model, output)
    outputs = {name: np.shape(leaf)[1:] for name, leaf in zip(names, tree.flatten(output), strict=True)}
    name, place = _split(target, outputs)
    shape, leaf = outputs[name], list(outputs).index(name)
    if isinstance(place, np.ndarray):
        return Target(leaf, _one_for_each_row(place, name, outputs, batch), f"output {name!r}, one class for each row")
    index = _checked(place, name, shape, outputs)
    flat = int(np.ravel_multi_index(index, shape)) if shape else 0
    numbers = f"[{', '.join(map(str, index))}]" if int(np.prod(shape)) > 1 else ""
    return Target(leaf, np.full(batch, flat, "int32"), f"output {name!r}{numbers}")


def output_names(model: keras.Model, output: Any) -> list[str]:
    """Return a name for each output: the key in a dict, else what the model calls it, else its number."""
    count = len(tree.flatten(output))
    if isinstance(output, dict) and len(output) == count:
        return [str(key) for key in sorted(output)]
    names = (
        [model.layers[-1].name] if isinstance(model, keras.Sequential) else getattr(model, "output_names", None) or []
    )
    if len(names) == count == len(set(names)):
        return list(names)
    return ["output"] if count == 1 else [f"output_{number}" for number in range(count)]


def _split(target: Any, outputs: dict[str, tuple]) -> tuple[str, Any]:
    """Return the name of the output, and the place in it: a tuple of numbers, or an array with one for each row."""
    place: Any
    if isinstance(target, str):
        name, place = target, ()
    elif isinstance(target, tuple) and target and isinstance(target[0], str):
        name, place = target[0], target[1:]
        if len(place) == 1 and isinstance(place[0], (np.ndarray, list)):
            place = np.asarray(place[0])
    elif len(outputs) > 1:
        raise _no_such(target, outputs, "The model has several outputs, and it is not said which one is meant.")
    else:
        name, place = next(iter(outputs)), () if target is None else target
        place = np.asarray(place) if isinstance(place, list) else place
    if name not in outputs:
        raise _no_such(target, outputs, f"The model has no output called {name!r}.")
    if isinstance(place, np.ndarray) and place.ndim == 0:
        place = place.item()
    return name, place if isinstance(place, (tuple, np.ndarray)) else (place,)


def _checked(place: tuple, name: str, shape: tuple, outputs: dict[str, tuple]) -> tuple[int, ...]:
    """Return the place as numbers from 0 on, one for each axis of the output after the batch."""
    if len(place) == sum(length != 1 for length in shape):  # an axis of one value needs no number
        numbers = iter(place)
        place = tuple(0 if length == 1 else next(numbers) for length in shape)
    if len(place) != len(shape):
        count, axes = int(np.prod(shape)), len(shape)
        plural = "s" * (axes != 1)
        what = f"Output {name!r} has {count} value{'s' * (count != 1)} for each row; {axes} number{plural} say which."
        raise _no_such(place, outputs, what)
    index = []
    for number, length in zip(place, shape, strict=True):
        try:
            whole = operator.index(number)
        except TypeError:
            raise _no_such(place, outputs, f"{number!r} is not the number of a value.") from None
        if not -length <= whole < length:
            raise _no_such(place, outputs, f"Output {name!r} has no value {whole}: that axis has {length}.")
        index.append(whole % length)
    return tuple(index)


def _one_for_each_row(place: np.ndarray, name: str, outputs: dict[str, tuple], batch: int) -> np.ndarray:
    shape = outputs[name]
    if len(shape) != 1 or place.shape != (batch,) or not np.issubdtype(place.dtype, np.integer):
        what = (
            f"A target for each row takes whole numbers of shape ({batch},), and an output of shape (batch, classes)."
        )
        raise _no_such(f"{place.dtype} of shape {place.shape}", outputs, what)
    outside = (place < 0) | (place >= shape[0])
    if outside.any():
        row = int(np.argmax(outside))
        what = f"Output {name!r} has {shape[0]} values for each row; row {row} asks for number {place[row]}."
        raise _no_such(f"{int(outside.sum())} numbers outside", outputs, what)
    return place.astype("int32")


def _no_such(target: Any, outputs: dict[str, tuple], what: str) -> ArgumentError:
    listed = ", ".join(
        f"{name!r} with values {('batch', *shape)}".replace("'batch'", "batch") for name, shape in outputs.items()
    )
    return ArgumentError(
        what,
        expected=f"one value of: {listed}",
        received=f"target={target!r}",
        remedy="Pass target=2 for a class, target=(step, class) for more axes, target='name' or ('name', 2) for one of "
        "several outputs, or an array with one class for each row.",
    )
