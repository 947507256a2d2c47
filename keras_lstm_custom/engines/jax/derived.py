"""The derived recurrence in JAX: `lax.scan` forward, and backward over the kept states and products.

On a CPU inputs are projected, steps computed again and differentiated, and the kernels' gradients taken, for some steps
at a time (`parts`): of all steps they would go through memory, and so the loop back multiplies and adds only. What
the loop forward reads goes by gate: XLA reads a step's part of a tensor where it computes with it, and does not
vectorise a loop over a part of that part: a tanh of one gate of packed gates takes twice as long.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
from jax import numpy as jnp

from keras_lstm_custom.engines.derived_step import Step
from keras_lstm_custom.engines.fast_path import masks_of
from keras_lstm_custom.engines.jax.accelerator import steps_at_once
from keras_lstm_custom.engines.jax.derivatives import differentiable, of_all_steps
from keras_lstm_custom.engines.jax.parts import by_parts, in_equal_parts
from keras_lstm_custom.keras_hooks import DropoutMasks
from keras_lstm_custom.structures import Tensor


def recurrence(cell: Any) -> Callable:
    """Return the function of the cell that `_recurrence_of` describes."""
    return partial(_recurrence_of, cell)


def _recurrence_of(
    cell: Any,
    x: Tensor,
    state: Sequence[Tensor],
    weights: Sequence[Tensor],
    mask: Tensor | None,
    dropout: DropoutMasks,
) -> tuple[Tensor, list[Tensor]]:
    """Return `h` of all steps, and the final state.

    Args:
        cell: its `project_inputs` and `step` are run.
        x: `(timesteps, batch, features)`.
        state: initial state, each `(batch, n)`.
        weights: those of the cell, in its order.
        mask: `(timesteps, batch, 1)` booleans: a masked step keeps the state. Or None.
        dropout: of inputs and of the recurrent product; data, so that no gradient goes to them.
    """
    inputs_dropout, recurrent_dropout = (tuple(masks_of(masks)) for masks in dropout)
    step = Step(cell, len(recurrent_dropout))
    found, state = [], tuple(state)
    for steps in in_equal_parts(*x.shape[:2]):
        data = (None if mask is None else mask[steps], recurrent_dropout, inputs_dropout)
        hs, state = _recurrence(step, (x[steps], state, tuple(weights)), data)
        found.append(hs)
    return found[0] if len(found) == 1 else jnp.concatenate(found), list(state)


def _run(step, inputs, data, keep=False):
    (x, state, weights), (mask, dropout, of_inputs) = inputs, data
    kernels, of_state = _products(step, step.projected(x[0], weights, of_inputs), state, weights, dropout)
    again = _computed_again(kernels, of_state)

    def body(state, of_step):
        z_t, read = of_step
        products: list[Tensor] = []

        def serve(number, a, _):
            products.append(a @ kernels[number])
            return products[-1]

        new = tuple(step(serve, _joined(z_t), state, weights, dropout))
        if mask is not None:
            new = tuple(jnp.where(read, n, s) for n, s in zip(new, state, strict=True))
        kept = [None if n in again else z for n, z in enumerate(products)]
        return new, (new, kept) if keep else new[0]

    def part(state, of_part):
        x, mask = of_part
        z_x = _by_gate(step.projected(x, weights, of_inputs), step.gates)
        final, of_steps = jax.lax.scan(body, state, (z_x, mask), unroll=steps_at_once())
        return final, ([s[None] for s in state], *of_steps) if keep else of_steps

    final, found = by_parts(part, state, (x, mask))
    return ((found[1][0], final), found) if keep else (found, final)


def _gradient(step, inputs, data, kept, incoming):
    (x, state, weights), (mask, dropout, of_inputs) = inputs, data
    d_hs, d_final = incoming
    exact = jnp.promote_types(x.dtype, jnp.float32)
    z_0 = step.projected(x[0], weights, of_inputs)
    kernels, to_weights, of_state = jax.vjp(
        lambda weights: _products(step, z_0, state, weights, dropout), weights, has_aux=True
    )
    again = _computed_again(kernels, of_state)

    def differentiated(z_t, state, products):
        """Return the gradient of a step as a function, and what the step multiplies by kernels other than a state."""

        def run(z_t, state, products, weights):
            operands: list[Tensor | None] = []

            def serve(number, a, _):
                operands.append(a if of_state[number] is None else None)
                return _linked(a, products[number], kernels[number])

            return tuple(step(serve, z_t, state, weights, dropout)), operands

        return jax.vjp(run, z_t, state, products, weights, has_aux=True)[1:]

    def part(carry, of_part):
        d_state, d_weights, d_kernels = carry
        x, (start, after, products), d_hs, mask = of_part
        before = tuple(jnp.concatenate([first, s[:-1]]) for first, s in zip(start, after, strict=True))
        products = [before[of_state[n]] @ kernels[n] if n in again else z for n, z in enumerate(products)]
        z_x, to_inputs = jax.vjp(lambda x, weights: step.projected(x, weights, of_inputs), x, weights)
        derivative, of_steps, operands = differentiated, [z_x, before, products], None
        if jax.default_backend() == "cpu":
            derivative, of_steps, operands = of_all_steps(differentiated, *of_steps)

        def body(carry, of_step):
            (dh, *rest), d_weights = carry
            of_step, d_h, read = of_step
            pull, operands = derivative(*of_step)
            d_new = (dh + d_h, *rest)
            kept_back = None
            if mask is not None:
                kept_back = tuple(jnp.where(read, jnp.zeros((), d.dtype), d) for d in d_new)
                d_new = tuple(jnp.where(read, d, jnp.zeros((), d.dtype)) for d in d_new)
            dz_x, d_state, d_products, d_in_step = pull(d_new)
            if kept_back is not None:
                d_state = tuple(map(jnp.add, d_state, kept_back))
            # What is there already is not written again: the gradient of a product that is only added to z_x.
            d_products = [None if dz is dz_x else dz for dz in d_products]
            return (d_state, _sums(d_weights, d_in_step)), (dz_x, d_products, operands)

        xs = (of_steps, d_hs, mask)
        carry, found = jax.lax.scan(body, (d_state, d_weights), xs, reverse=True, unroll=steps_at_once())
        (d_state, d_weights), (dz_x, d_products, of_each) = carry, found
        d_x, of_projection = to_inputs(dz_x)
        of_part = [
            _kernel_gradient(before[of_state[n]] if a is None else a, dz_x if dz is None else dz, exact)
            for n, (a, dz) in enumerate(zip(of_each if operands is None else operands, d_products, strict=True))
        ]
        return (d_state, _sums(d_weights, of_projection), _sums(d_kernels, of_part)), d_x

    zeros = [_zeros(values, exact) for values in (weights, kernels)]
    (d_state, d_weights, d_kernels), d_x = by_parts(part, (d_final, *zeros), (x, kept, d_hs, mask), reverse=True)
    (of_kernels,) = to_weights([d.astype(kernel.dtype) for d, kernel in zip(d_kernels, kernels, strict=True)])
    d_weights = tuple((total + d).astype(w.dtype) for total, d, w in zip(d_weights, of_kernels, weights, strict=True))
    return d_x, d_state, d_weights


def _products(step, z_x, state, weights, dropout):
    """Return the kernels of a step's products, and of each the number of the state that it multiplies as it is."""
    of_state: list[int | None] = []

    def product(a, kernel):
        of_state.append(next((n for n, s in enumerate(state) if a is s), None))
        return a @ kernel

    kernels, _ = step.kernels(product, z_x, state, weights, dropout)
    return kernels, tuple(of_state)


#: Rows of a kernel from which on its products with a state are kept on a CPU: those of fewer are sooner computed again,
#: of some steps at a time, than written and read (`options.py projection`, 32 of 256 and 512 units).
NARROW = 64


def _computed_again(kernels, of_state):
    """Return the numbers of the products that are not kept."""
    on_cpu = jax.default_backend() == "cpu"
    numbers = range(len(kernels))
    return {n for n in numbers if on_cpu and of_state[n] is not None and kernels[n].shape[0] < NARROW}


def _zeros(values, exact):
    return [jnp.zeros(v.shape, exact if jnp.issubdtype(v.dtype, jnp.floating) else v.dtype) for v in values]


def _sums(totals, gradients):
    return [total + d.astype(total.dtype) for total, d in zip(totals, gradients, strict=True)]


_recurrence = differentiable(_run, partial(_run, keep=True), _gradient)


def _by_gate(z, gates):
    """Return the gates that stand side by side in z as tensors of their own, on a CPU."""
    apart = jax.default_backend() == "cpu" and z.shape[-1] % gates == 0
    return jnp.split(z, gates, axis=-1) if apart else [z]


def _joined(gates):
    return jnp.concatenate(gates, axis=-1)


def _kernel_gradient(a, dz, dtype):
    """Return Σ aᵀ dz over all steps and rows, summed in float32 at least."""
    if a.ndim > 3:
        return jnp.einsum("t...bu,t...bg->...ug", a, dz, preferred_element_type=dtype)
    over = ((0, 1), (0, 1))  # in this order XLA need not transpose dz, as it does for `einsum`
    return jax.lax.dot_general(a, dz, (over, ((), ())), preferred_element_type=dtype)


@jax.custom_vjp
def _linked(a, z, kernel):
    """Return z = a W as it was kept, with the gradient of the product: dW is left to the caller, who takes dz."""
    return z


def _back(kernel, dz):
    return jnp.einsum("...bg,...ug->...bu", dz, kernel), dz, jnp.zeros_like(kernel)


_linked.defvjp(lambda a, z, kernel: (z, kernel), _back)
