"""A cell's step as the derived engines see it: a pure function, whose products can be taken out of it.

The reverse of a loop keeps for each step what the step's derivative needs (Griewank & Walther 2008, *Evaluating
Derivatives*, chapter 4). Here that is the state before the step and its products with weights, z = a W: all else is
computed again, and dW = Σ_t a_tᵀ dz_t is one product over all steps.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import cache
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_lstm_custom.equations.projection import products_by
from keras_lstm_custom.structures import Tensor

#: `(number of the product, a, W) -> z`
Serve = Callable[[int, Tensor, Tensor], Tensor]


class Step:
    """One step of a cell as a function of tensors alone."""

    def __init__(self, cell: Any, dropout: int):
        """Take the cell, and how many recurrent dropout masks come."""
        self._cell, self._dropout = cell, dropout
        self.gates = len(cell.gates)
        self._checked = cell.checked_step

    def __call__(
        self, serve: Serve, z_x: Tensor, state: Sequence[Tensor], weights: Sequence[Tensor], dropout: Sequence[Tensor]
    ) -> list[Tensor]:
        """Return the new state, each product computed by `serve`."""
        with self.holding(weights):
            return self.run(serve, z_x, state, dropout)

    def holding(self, weights: Sequence[Tensor]) -> AbstractContextManager:
        """Return a context in which the cell has these weights. For many calls of `run`: it takes long to open."""
        return keras.StatelessScope(state_mapping=list(zip(self._cell.weights, weights, strict=True)))

    def run(self, serve: Serve, z_x: Tensor, state: Sequence[Tensor], dropout: Sequence[Tensor]) -> list[Tensor]:
        """Do what a call does, inside `holding`."""
        cell, count = self._cell, iter(range(1_000_000))
        masks = None if not self._dropout else dropout[0] if self._dropout == 1 else list(dropout)
        with products_by(lambda a, kernel: serve(next(count), a, kernel)):
            new = cell.state_of(self._checked(z_x, cell.state_type(*state), masks))
        self._checked = cell.step  # what the first step returns is checked: the others return the same
        # Functions of Keras that compute float64 in float32 (tanh does, on JAX) must not change what the loop carries.
        return [
            n if n.dtype == s.dtype else ops.cast(n, keras.backend.standardize_dtype(s.dtype))
            for n, s in zip(new, state, strict=True)
        ]

    def projected(self, x: Tensor, weights: Sequence[Tensor], dropout: Sequence[Tensor]) -> Tensor:
        """Return the inputs projected, for any leading axes, with no, one or a dropout mask for each gate."""
        masks = None if not dropout else dropout[0] if len(dropout) == 1 else list(dropout)
        with self.holding(weights):
            return self._cell.project_inputs(x, masks)

    def kernels(self, matmul: Callable, *arguments: Any) -> tuple[list[Tensor], list[Tensor]]:
        """Return the kernels of the products, in order, and the new state."""
        found: list[Tensor] = []

        def serve(number: int, a: Tensor, kernel: Tensor) -> Tensor:
            found.append(kernel)
            return matmul(a, kernel)

        new = self(serve, *arguments)
        return found, new


def settings(cell: Any) -> Iterator[tuple[str, Hashable]]:
    """Yield the attributes of a cell, beside its weights, that a step may look at: a recording is for these values."""
    for name, value in vars(cell).items():
        if name not in _of_every_layer() and (found := _setting(value)) is not None:
            yield name, found


@cache
def _of_every_layer() -> frozenset[str]:
    return frozenset(vars(keras.layers.Layer()))


def _setting(value: Any) -> Hashable:
    """Return what can be compared of a value: a number, text, an array, a function, or several of them."""
    if isinstance(value, (list, tuple)):
        return tuple(map(_setting, value))
    if isinstance(value, (set, frozenset)):
        return frozenset(map(_setting, value))
    if isinstance(value, dict):
        return tuple((name, _setting(of_it)) for name, of_it in value.items())
    if isinstance(value, np.ndarray):
        return value.shape, str(value.dtype), value.tobytes()
    if isinstance(value, (bool, int, float, str, np.generic)):
        return type(value), repr(value)  # not a number is itself then, and True is not 1
    if isinstance(value, keras.layers.Layer) or not callable(value):
        return id(value) if ops.is_tensor(value) else None
    return value if isinstance(value, Hashable) else (type(value), repr(value))
