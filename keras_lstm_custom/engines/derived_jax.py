"""The derived recurrence in JAX: `lax.scan` forward, and backward over the kept states and products.

On a CPU inputs are projected, and the kernels' gradients taken, for some steps at a time (`ROWS`): of all steps they
would go through memory. And what all steps read goes by gate: XLA reads a step's part of a tensor where it computes
with it, and does not vectorise a loop over a part of that part: a tanh of one gate of packed gates takes twice as long.

Tensors are time-major here: `(timesteps, batch, ...)`. Loaded on first use, since it imports JAX.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
from jax import numpy as jnp

from keras_lstm_custom.engines.derived_step import Step
from keras_lstm_custom.engines.fast_path import masks_of
from keras_lstm_custom.engines.jax_accelerator import steps_at_once
from keras_lstm_custom.engines.jax_derivatives import differentiable
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
    inputs, data = (x, tuple(state), tuple(weights)), (mask, recurrent_dropout, inputs_dropout)
    hs, final = _recurrence(step, inputs, data)
    return hs, list(final)


def _run(step, inputs, data, keep=False):
    (x, state, weights), (mask, dropout, of_inputs) = inputs, data
    kernels = step.kernels(jnp.matmul, step.projected(x[0], weights, of_inputs), state, weights, dropout)

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

    def part(state, of_part):
        x, mask = of_part
        z_x = step.projected(x, weights, of_inputs)
        return jax.lax.scan(body, state, (_by_gate(z_x, step.gates), mask), unroll=steps_at_once())

    final, (hs, kept) = _by_parts(part, state, (x, mask))
    return ((hs, final), kept) if keep else (hs, final)


def _gradient(step, inputs, data, kept, incoming):
    (x, state, weights), (mask, dropout, of_inputs) = inputs, data
    d_hs, d_final = incoming
    exact = jnp.promote_types(x.dtype, jnp.float32)
    z_0 = step.projected(x[0], weights, of_inputs)
    kernels, to_weights = jax.vjp(lambda weights: step.kernels(jnp.matmul, z_0, state, weights, dropout), weights)
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
        d_weights = _sums(d_weights, d_in_step)
        # What is there already is not written again: the gradient of a product that is only added to z_x, and a state.
        d_products = [None if dz is dz_x else dz for dz in d_products]
        return (d_state, d_weights), (dz_x, d_products, operands)

    def part(carry, of_part):
        d_state, d_weights, d_kernels = carry
        x, kept, d_hs, mask = of_part
        z_x, to_inputs = jax.vjp(lambda x, weights: step.projected(x, weights, of_inputs), x, weights)
        (d_state, d_weights), (dz_x, d_products, operands) = jax.lax.scan(
            body,
            (d_state, d_weights),
            (_by_gate(z_x, step.gates), kept, d_hs, mask),
            reverse=True,
            unroll=steps_at_once(),
        )
        before, _ = kept
        d_x, of_projection = to_inputs(dz_x)
        of_part = [
            _kernel_gradient(before[of_state[n]] if a is None else a, dz_x if dz is None else dz, exact)
            for n, (a, dz) in enumerate(zip(operands, d_products, strict=True))
        ]
        return (d_state, _sums(d_weights, of_projection), _sums(d_kernels, of_part)), d_x

    zeros = [_zeros(values, exact) for values in (weights, kernels)]
    (d_state, d_weights, d_kernels), d_x = _by_parts(part, (d_final, *zeros), (x, kept, d_hs, mask), reverse=True)
    (of_kernels,) = to_weights([d.astype(kernel.dtype) for d, kernel in zip(d_kernels, kernels, strict=True)])
    d_weights = tuple((total + d).astype(w.dtype) for total, d, w in zip(d_weights, of_kernels, weights, strict=True))
    return d_x, d_state, d_weights


def _zeros(values, exact):
    return [jnp.zeros(v.shape, exact if jnp.issubdtype(v.dtype, jnp.floating) else v.dtype) for v in values]


def _sums(totals, gradients):
    return [total + d.astype(total.dtype) for total, d in zip(totals, gradients, strict=True)]


#: How many rows a part of the steps has on a CPU: measured over 32, 500, 16, 64 and 64, 100, 64, 256 against all steps
#: at once (`options.py "own cell"`), where the projected inputs and their gradient cost more to write than to compute.
ROWS = 1024


def _by_parts(function, carry, xs, reverse=False):
    """Return `function(carry, xs)`, on a CPU of some steps at a time, so that what it makes stays in the cache."""
    x = xs[0]
    steps = _steps_of_part(*x.shape[:2]) if jax.default_backend() == "cpu" else len(x)
    if steps == len(x):
        return function(carry, xs)
    parts = jax.tree.map(lambda a: a.reshape(-1, steps, *a.shape[1:]), xs)
    carry, ys = jax.lax.scan(function, carry, parts, reverse=reverse)
    return carry, jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), ys)


def _steps_of_part(steps, batch):
    """Return the largest divisor of the steps with at most `ROWS` rows, if it has a quarter of them; else all."""
    most = max(1, ROWS // max(1, batch))
    found = next(n for n in range(min(most, steps), 0, -1) if steps % n == 0)
    return found if 4 * found >= most else steps


_recurrence = differentiable(_run, partial(_run, keep=True), _gradient)


def _by_gate(z, gates):
    """Return the gates that stand side by side in z as tensors of their own, on a CPU."""
    apart = jax.default_backend() == "cpu" and z.shape[-1] % gates == 0
    return jnp.split(z, gates, axis=-1) if apart else [z]


def _joined(gates):
    return jnp.concatenate(gates, axis=-1)


def _kernel_gradient(a, dz, dtype):
    """Return Σ aᵀ dz over all steps and rows, summed in float32 at least."""
    return jnp.einsum("t...bu,t...bg->...ug", a, dz, preferred_element_type=dtype)


@jax.custom_vjp
def _linked(a, z, kernel):
    """Return z = a W as it was kept, with the gradient of the product: dW is left to the caller, who takes dz."""
    return z


def _back(kernel, dz):
    return jnp.einsum("...bg,...ug->...bu", dz, kernel), dz, jnp.zeros_like(kernel)


_linked.defvjp(lambda a, z, kernel: (z, kernel), _back)
