"""What stands for tensors of Keras while a model is read, alone and in nested structures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from keras import ops

from keras_lstm_custom.export.plain_c.graph.builder import Builder
from keras_lstm_custom.export.plain_c.graph.ir import Value


class Tensor(NamedTuple):
    """What stands for a tensor of Keras."""

    value: Value
    mask: Value | None = None  #: one number a step, 0 where it is masked


def array_of(weight: Any) -> np.ndarray:
    """Return a variable or a tensor as a float64 array."""
    return np.asarray(ops.convert_to_numpy(weight), np.float64)


def mask_of(b: Builder, x: Tensor, given: Any) -> Value | None:
    """Return the mask that a layer reads x with, one number a step: what is given in the call, or what came with x."""
    mask = given.value if isinstance(given, Tensor) else x.mask
    if mask is None:
        return None
    if mask.steps is None and mask.shape == (x.value.steps,):
        mask = b.steps(mask)
    return b.reshape(mask, (1,))


def plain(value: Any) -> Any:
    """Return an argument of an operation: values, arrays, or what is neither."""
    if isinstance(value, Tensor):
        return value.value
    if isinstance(value, (list, tuple)) and not isinstance(value, Tensor):
        return type(value)(plain(item) for item in value)
    if isinstance(value, (slice, int, float, bool, str, type(Ellipsis))) or value is None:
        return value
    return array_of(value)


def flatten(structure: Any) -> list[Any]:
    """Return the leaves of nested lists, tuples and dicts, a `Tensor` being one."""
    if isinstance(structure, Tensor):
        return [structure]
    if isinstance(structure, dict):
        return [leaf for item in structure.values() for leaf in flatten(item)]
    if isinstance(structure, (list, tuple)):
        return [leaf for item in structure for leaf in flatten(item)]
    return [structure]


def map_leaves(structure: Any, function: Callable[[Any], Any]) -> Any:
    """Return nested lists, tuples and dicts with a function of each leaf in its place."""
    if isinstance(structure, Tensor):
        return function(structure)
    if isinstance(structure, dict):
        return {key: map_leaves(item, function) for key, item in structure.items()}
    if isinstance(structure, (list, tuple)):
        items = [map_leaves(item, function) for item in structure]
        return type(structure)(*items) if hasattr(structure, "_fields") else type(structure)(items)
    return function(structure)


def listed(result: Any) -> list[Any]:
    """Return what a layer gives as a list."""
    return [result] if isinstance(result, (Tensor, Value)) else flatten(result)


def as_tensor(result: Any) -> Tensor:
    """Return a value as a tensor without a mask."""
    return result if isinstance(result, Tensor) else Tensor(result)
