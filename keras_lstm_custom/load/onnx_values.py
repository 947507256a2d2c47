"""The values of an ONNX graph while it is read: tensors of Keras with the meaning of their axes, and constants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from keras_lstm_custom.errors import LoadError

#: batch, timesteps, features, directions. Two that were joined by a Reshape are one axis, "BT".
B, T, F, D = "B", "T", "F", "D"


class Tensor(NamedTuple):
    """An output of a layer: `(batch, timesteps, features)` or `(batch, features)` in Keras, whatever it is in ONNX."""

    tensor: Any
    axes: tuple[str, ...]  #: what the axes of the ONNX value are, in its order
    directions: int = 1  #: how long D is; in Keras its parts are joined along the features

    @property
    def batch_first(self) -> bool:
        """Whether the ONNX value has the axes of Keras' in their order."""
        return self.axes in ((B, T, F), (B, F))

    def size(self, axis: str) -> Any:
        """Return the length of an axis of the ONNX value; None if it is open, which that of F never is."""
        shape = self.tensor.shape
        if axis == D:
            return self.directions
        if axis == F:
            return shape[-1] // (self.directions if D in self.axes else 1)
        return shape[{B: 0, T: 1}[axis]]


class Unknown(NamedTuple):
    """Numbers that only the shape of an input decides: nothing here asks for them."""


class Lengths(NamedTuple):
    """How many steps of each sequence count, a tensor `(batch,)`."""

    tensor: Any


class Uniform(NamedTuple):
    """An array of a shape that an input decides, all of whose values are one."""

    value: float


Value = Any  # Tensor | Lengths | Unknown | Uniform | np.ndarray


class Node(NamedTuple):
    """One node, its inputs known."""

    op: str
    name: str
    inputs: Sequence[Value]  #: None for one that is left out
    attributes: Mapping[str, Any]
    used: Sequence[bool]  #: whether anything reads the output, for each of them
    opset: int

    def input(self, number: int) -> Value:
        """Return an input, None for one that is left out."""
        return self.inputs[number] if number < len(self.inputs) else None

    def constant(self, number: int) -> np.ndarray | None:
        """Return an input that must be a constant, None for one that is left out."""
        value = self.input(number)
        if value is not None and not isinstance(value, np.ndarray):
            raise self.refused(f"input {number} that is computed, and no constant")
        return value

    def listed(self, name: str, number: int) -> list[int] | None:
        """Return whole numbers that are an attribute in old files, and an input in newer ones."""
        value = self.constant(number)
        if value is not None:
            return [int(each) for each in np.atleast_1d(value)]
        given = self.attributes.get(name)
        return None if given is None else [int(each) for each in np.atleast_1d(given)]

    def refused(self, received: str) -> LoadError:
        """Return the error for a node that has no counterpart."""
        return LoadError(
            f"The node {self.name!r} ({self.op}) has no counterpart among the layers of Keras.",
            expected="recurrent nodes on (timesteps, batch, features) or (batch, timesteps, features), and layers like "
            "Dense around them",
            received=received,
            remedy="Build the model in Keras, and take the weights of its recurrent nodes from onnx.numpy_helper.",
        )


def refused_graph(path: Any, received: str, remedy: str) -> LoadError:
    """Return the error for a file that cannot be loaded."""
    return LoadError(
        f"{str(path)!r} cannot be loaded as a model.",
        expected="an ONNX file of LSTM, GRU and RNN nodes, and nodes like Dense layers and activations around them",
        received=received,
        remedy=remedy,
    )
