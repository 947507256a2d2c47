"""The products of a recurrence in JAX, with any number of dropout masks: none, one, or one for each gate.

With a mask for each gate a product is one for each. The columns of the weights are taken apart before the loops, and
those of their gradients are put together after: each would go through memory at every step.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
from jax import numpy as jnp

from keras_lstm_custom.structures import Tensor


def by_mask(kernel: Tensor, masks: tuple[Tensor, ...]) -> list[Tensor]:
    """Return the columns of the gates that each dropout mask is for."""
    return jnp.split(kernel, max(1, len(masks)), axis=1)


def product(kernel: Tensor, masks: tuple[Tensor, ...]) -> Callable:
    """Return x -> x W over the last axis, with the dropout masks on x."""
    parts = list(zip(masks or (1,), by_mask(kernel, masks), strict=True))
    return lambda x: jnp.concatenate([(x * m) @ columns for m, columns in parts], axis=-1)


def transposed_product(kernel: Tensor, masks: tuple[Tensor, ...]) -> Callable:
    """Return dz -> dx, the transpose of `product`."""
    parts = [(m, columns.T) for m, columns in zip(masks or (1,), by_mask(kernel, masks), strict=True)]

    def transposed(dz):
        of_gates = jnp.split(dz, len(parts), axis=-1)
        return sum((part @ rows) * m for part, (m, rows) in zip(of_gates, parts, strict=True))

    return transposed


def kernel_gradient(x: Tensor, dz: Tensor, masks: tuple[Tensor, ...], dtype) -> list[Tensor]:
    """Return dW as one product over all steps and rows for each dropout mask: the columns of its gates."""

    def of_mask(x, dz):
        x, dz = (array.reshape(math.prod(array.shape[:-1]), array.shape[-1]) for array in (x, dz))  # -1 may be 0 / 0
        return jnp.matmul(x.T, dz, preferred_element_type=dtype)

    masked = [x * m for m in masks or (1,)]
    return [of_mask(*pair) for pair in zip(masked, jnp.split(dz, len(masked), axis=-1), strict=True)]


def joined(sums, affine):
    """Return the gradients of kernel, recurrent kernel and bias from those of their columns, in the weights' dtypes."""
    *d_kernels, d_bias = sums
    d_kernels = [jnp.concatenate(columns, axis=1) for columns in d_kernels]
    return jax.tree.map(lambda total, weight: total.astype(weight.dtype), (*d_kernels, d_bias), tuple(affine[:3]))
