"""The derived recurrence in JAX: `lax.scan` forward, and backward over the kept states and products.

On a CPU what all steps read goes by gate. XLA reads a step's part of a tensor where it computes with it, and does not
vectorise a loop over a part of that part: a tanh of one gate of packed gates takes twice as long.

Tensors are time-major here: `(timesteps, batch, ...)`. Loaded on first use, since it imports JAX.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
from jax import numpy as jnp

from keras_lstm_custom.engines.derived_step import Step
from keras_lstm_custom.engines.jax_accelerator import steps_at_once
from keras_lstm_custom.engines.jax_derivatives import differentiable
from keras_lstm_custom.structures import Tensor


def recurrence(cell: Any) -> Callable:
    """Return the function of the cell that `_recurrence_of` describes."""
    return partial(_recurrence_of, cell)


def _recurrence_of(
    cell: Any,
    z_x: Tensor,
    state: Sequence[Tensor],
    weights: Sequence[Tensor],
    mask: Tensor | None,
    dropout: Sequence[Tensor],
) -> tuple[Tensor, list[Tensor]]:
    """Return `h` of all steps, and the final state.

    Args:
        cell: its `step` is run.
        z_x: `(timesteps, batch, gates * units)`, the projected inputs.
        state: initial state, each `(batch, n)`.
        weights: those of the cell, in its order.
        mask: `(timesteps, batch, 1)` booleans: a masked step keeps the state. Or None.
        dropout: no, one, or one for each gate: recurrent dropout masks; data, so that no gradient goes to them.
    """
    step = Step(cell, len(dropout))
    hs, final = _recurrence(step, (z_x, tuple(state), tuple(weights)), (mask, tuple(dropout)))
    return hs, list(final)


def _run(step, inputs, data, keep=False):
    (z_x, state, weights), (mask, dropout) = inputs, data
    kernels = step.kernels(jnp.matmul, z_x[0], state, weights, dropout)

    def body(state, of_step):
        z_t, read = of_step
        products: list[Tensor] = []

        def serve(number, a, _):
            products.append(a @ kernels[number])
            return products[-1]

        new = tuple(step(serve, _joined(z_t), state, weights, dropout))
        if mask is not None:
            new = tuple(jnp.where(read, n, s) for n, s in zip(new, state, strict=True))
        return new, (new[0], (state, [_by_gate(z, step.gates) for z in products]) if keep else ())

    final, (hs, kept) = jax.lax.scan(body, state, (_by_gate(z_x, step.gates), mask), unroll=steps_at_once())
    return ((hs, final), kept) if keep else (hs, final)


def _gradient(step, inputs, data, kept, incoming):
    (z_x, state, weights), (mask, dropout) = inputs, data
    d_hs, d_final = incoming
    exact = jnp.promote_types(z_x.dtype, jnp.float32)
    kernels, to_weights = jax.vjp(lambda weights: step.kernels(jnp.matmul, z_x[0], state, weights, dropout), weights)
    of_state: dict[int, int | None] = {}  #: by product the state that it multiplies as it is

    def body(carry, of_step):
        (dh, *rest), d_weights = carry
        z_t, (state, products), d_h, read = of_step
        z_t, products = _joined(z_t), list(map(_joined, products))
        d_new = (dh + d_h, *rest)
        kept_back = None
        if mask is not None:
            kept_back = tuple(jnp.where(read, jnp.zeros((), d.dtype), d) for d in d_new)
            d_new = tuple(jnp.where(read, d, jnp.zeros((), d.dtype)) for d in d_new)

        def run(z_t, state, products, weights):
            operands: list[Tensor | None] = []

            def serve(number, a, _):
                of_state[number] = next((n for n, s in enumerate(state) if a is s), None)
                operands.append(a if of_state[number] is None else None)
                return _linked(a, products[number], kernels[number])

            return tuple(step(serve, z_t, state, weights, dropout)), operands

        _, pull, operands = jax.vjp(run, z_t, state, products, weights, has_aux=True)
        dz_x, d_state, d_products, d_in_step = pull(d_new)
        if kept_back is not None:
            d_state = tuple(map(jnp.add, d_state, kept_back))
        d_weights = jax.tree.map(lambda total, d: total + d.astype(total.dtype), d_weights, d_in_step)
        # What is there already is not written again: the gradient of a product that is only added to z_x, and a state.
        d_products = [None if dz is dz_x else dz for dz in d_products]
        return (d_state, d_weights), (dz_x, d_products, operands)

    zeros = tuple(jnp.zeros(w.shape, exact if jnp.issubdtype(w.dtype, jnp.floating) else w.dtype) for w in weights)
    (d_state, d_weights), (dz_x, d_products, operands) = jax.lax.scan(
        body, (d_final, zeros), (_by_gate(z_x, step.gates), kept, d_hs, mask), reverse=True, unroll=steps_at_once()
    )
    before, _ = kept
    d_kernels = [
        _kernel_gradient(before[of_state[n]] if a is None else a, dz_x if dz is None else dz, exact).astype(
            kernel.dtype
        )
        for n, (a, dz, kernel) in enumerate(zip(operands, d_products, kernels, strict=True))
    ]
    (of_kernels,) = to_weights(d_kernels)
    d_weights = tuple((total + d).astype(w.dtype) for total, d, w in zip(d_weights, of_kernels, weights, strict=True))
    return dz_x, d_state, d_weights


_recurrence = differentiable(_run, partial(_run, keep=True), _gradient)


def _by_gate(z, gates):
    """Return the gates that stand side by side in z as tensors of their own, on a CPU."""
    apart = jax.default_backend() == "cpu" and z.shape[-1] % gates == 0
    return jnp.split(z, gates, axis=-1) if apart else [z]


def _joined(gates):
    return jnp.concatenate(gates, axis=-1)


def _kernel_gradient(a, dz, dtype):
    """Return Σ aᵀ dz over all steps and rows, summed in float32 at least."""

    def rows(x):
        *blocks, _, width = x.shape[1:]
        return jnp.moveaxis(x, 0, -3).reshape(*blocks, -1, width)

    return jnp.matmul(jnp.swapaxes(rows(a), -1, -2), rows(dz), preferred_element_type=dtype)


@jax.custom_vjp
def _linked(a, z, kernel):
    """Return z = a W as it was kept, with the gradient of the product: dW is left to the caller, who takes dz."""
    return z


_linked.defvjp(lambda a, z, kernel: (z, kernel), lambda kernel, dz: (dz @ kernel.mT, dz, jnp.zeros_like(kernel)))
