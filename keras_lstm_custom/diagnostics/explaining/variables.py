"""What of a model's input is varied to explain its output: numbers, or the vectors of tokens, and their baseline."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import tree

from keras_lstm_custom.diagnostics.explaining.holding import Recording
from keras_lstm_custom.errors import InputError

Array = np.ndarray


class Variable(NamedTuple):
    """An input, or what one call of an Embedding makes of it."""

    leaf: int  #: which of the inputs
    call: int | None = None  #: which call of an Embedding; None: the numbers of the input are varied themselves
    column: int | None = None  #: which column of the input the Embedding reads; None: all of it

    def at(self, leaves: list[Array], recorded: Recording) -> Array:
        """Return what it is for these rows."""
        return leaves[self.leaf] if self.call is None else recorded.embedded[self.call][1]

    def add(self, totals: list[Array], part: Array) -> None:
        """Add attributions in the variable's own shape to those of its input."""
        if self.call is None:
            totals[self.leaf] += part
        elif self.column is None:
            totals[self.leaf] += part.sum(-1)
        else:
            totals[self.leaf][..., self.column] += part.sum(-1)


def input_names(model: keras.Model, x: Any) -> list[str]:
    """Return a name for each input: the key in a dict, else what the model calls it, "x" if it is the only one."""
    count = len(tree.flatten(x))
    if isinstance(x, dict) and len(x) == count:
        return [str(key) for key in sorted(x)]
    tensors = _declared(model)
    if len(tensors) == count > 1:
        return [tensor.name for tensor in tensors]
    return ["x"] if count == 1 else [f"x_{number}" for number in range(count)]


def typed(model: keras.Model, x: Any) -> Any:
    """Return `x` with each array in the dtype that the model reads it in, where the model says one."""
    names, tensors = input_names(model, x), _declared(model)
    dtypes = {tensor.name: tensor.dtype for tensor in tensors}
    if not set(names) <= set(dtypes) and len(tensors) == len(names):
        dtypes = dict(zip(names, (tensor.dtype for tensor in tensors), strict=True))

    def convert(name: str, leaf: Array) -> Array:
        wanted = dtypes.get(name, keras.config.floatx() if np.issubdtype(leaf.dtype, np.floating) else None)
        # bfloat16 is no dtype of NumPy's; the model casts to it itself.
        return leaf if wanted in (None, "string", "bfloat16") else leaf.astype(wanted)

    return tree.pack_sequence_as(x, [convert(*pair) for pair in zip(names, tree.flatten(x), strict=True)])


def find_variables(names: list[str], leaves: list[Array], recorded: Recording) -> list[Variable]:
    """Return what is to be varied: every input of numbers, and every Embedding's reading of an input.

    Which input an Embedding reads is seen from the token numbers it was given.

    Raises:
        InputError: whole numbers or text do not go through an Embedding.
    """
    found: list[Variable] = []
    unknown = []
    for call, (ids, _) in enumerate(recorded.embedded):
        place = _place(ids, leaves, found)
        if place is None:
            unknown.append(call)
        else:
            found.append(Variable(place[0], call, place[1]))
    known = {variable.leaf for variable in found}
    lost = [leaf for leaf, values in enumerate(leaves) if leaf not in known and not _is_held(values)]
    lost = [leaf for leaf in lost if not np.issubdtype(leaves[leaf].dtype, np.floating)]
    by_row = [call for call in unknown if len(recorded.embedded[call][0]) == len(leaves[0])]
    if len(lost) == len(by_row) == 1:  # the token numbers are made inside the model: looked up, shifted, hashed
        found.append(Variable(lost[0], by_row[0]))
    elif lost:
        leaf = leaves[lost[0]]
        shapes = ", ".join(str(ids.shape) for ids, _ in recorded.embedded)
        raise InputError(
            f"Input {names[lost[0]]!r} holds {leaf.dtype}, which cannot be varied a little, and no Embedding reads it.",
            expected="numbers in floating point, or token numbers that a keras.layers.Embedding of the model reads",
            received=f"{leaf.dtype} of shape {leaf.shape}; "
            + (f"the Embeddings read arrays of shape {shapes}" if shapes else "the model has no Embedding"),
            remedy="Pass floating point numbers, give the model an Embedding, or explain the part of the model behind "
            "what makes numbers of them.",
        )
    whole = {variable.leaf for variable in found if variable.column is None}
    floats = [n for n, leaf in enumerate(leaves) if np.issubdtype(leaf.dtype, np.floating) and n not in whole]
    return [*map(Variable, floats), *found]


def value_shapes(variables: list[Variable], leaves: list[Array], recorded: Recording) -> list[tuple]:
    """Return for each input the shape of one row's attributions: its own, or that of the tokens made of it."""
    shapes = [leaf.shape[1:] for leaf in leaves]
    for variable in variables:
        if variable.call is not None and variable.column is None:
            shapes[variable.leaf] = recorded.embedded[variable.call][0].shape[1:]
    return shapes


def steps_read(leaf: Array, recorded: Recording, alone: bool) -> Array | None:
    """Return the mask `(rows, timesteps)` of an input, or None. `alone`: there is no other sequence it could be of."""
    for given, mask in recorded.read:
        if given.shape == leaf.shape and mask.shape == leaf.shape[:2] and np.array_equal(given, leaf):
            return mask.astype(bool)
    fitting = (mask for mask in recorded.masks.values() if mask.shape == leaf.shape[:2] and leaf.ndim > 1)
    mask = next(fitting, None) if alone else None
    return None if mask is None else mask.astype(bool)


def _declared(model: keras.Model) -> list[Any]:
    """Return the symbolic inputs of a model that has them; a subclassed one has not."""
    return list(getattr(model, "inputs", None) or [])


def _is_held(leaf: Array) -> bool:
    """Say whether an input stays as it is: a mask."""
    return leaf.dtype == bool


def _place(ids: Array, leaves: list[Array], taken: list[Variable]) -> tuple[int, int | None] | None:
    """Return the input, and its column, that holds these token numbers; one that no other Embedding reads, if any."""

    def places() -> Iterable[tuple[int, int | None]]:
        for number, leaf in enumerate(leaves):
            if leaf.dtype.kind not in "iuf":
                continue
            if leaf.shape == ids.shape and np.array_equal(leaf, ids):
                yield number, None
            elif leaf.shape[:-1] == ids.shape:
                yield from ((number, k) for k in range(leaf.shape[-1]) if np.array_equal(leaf[..., k], ids))

    fitting = list(places())
    free = [place for place in fitting if place not in {(variable.leaf, variable.column) for variable in taken}]
    return next(iter(free or fitting), None)
