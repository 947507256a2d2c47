r"""A recurrence over time in JAX, with a gradient of its own.

The mathematics is that of `tensorflow_recurrence`: only what depends on the state stays in the loops, the
backward loop computes dz and dh from coefficients that are made of the kept gates for all steps at once,
and dU is one product after it, where JAX's own gradient of a scan adds up dU step by step.

Tensors are time-major here: `(timesteps, batch, ...)`. Loaded on first use, since it imports JAX.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import jax
from jax import numpy as jnp

from keras_lstm_custom.structures import Tensor


class Kind(NamedTuple):
    """The equations of one cell, forward and backward."""

    gates: int
    forward: Callable  #: (z, state) -> (new state, kept)
    coefficients: Callable  #: (kept over all steps) -> (coefficients, their values where a step is masked)
    backward: Callable  #: (coefficients, dh, [dc]) -> (dz, [dc before the step])


def _lstm_forward(z, state):
    z_i, z_f, z_g, z_o = jnp.split(z, 4, axis=1)
    i, f, g, o = jax.nn.sigmoid(z_i), jax.nn.sigmoid(z_f), jnp.tanh(z_g), jax.nn.sigmoid(z_o)
    _, c_before = state
    c = f * c_before + i * g
    tanh_c = jnp.tanh(c)
    return (o * tanh_c, c), (i, f, g, o, c_before, tanh_c)


def _lstm_coefficients(kept):
    i, f, g, o, c_before, tanh_c = kept
    to_z = [g * i * (1 - i), c_before * f * (1 - f), i * (1 - g * g), tanh_c * o * (1 - o)]
    return (jnp.concatenate(to_z, axis=2), o * (1 - tanh_c * tanh_c), f), (0, 0, 1)


def _lstm_backward(coefficients, dh, rest):
    to_z, h_to_c, f = coefficients
    dc = rest[0] + dh * h_to_c
    return jnp.concatenate([dc, dc, dc, dh], axis=1) * to_z, (dc * f,)


def _rnn_forward(z, state):
    h = jnp.tanh(z)
    return (h,), (h,)


def _rnn_coefficients(kept):
    (h,) = kept
    return (1 - h * h,), (0,)


def _rnn_backward(coefficients, dh, rest):
    return coefficients[0] * dh, ()


KINDS = {
    "lstm": Kind(4, _lstm_forward, _lstm_coefficients, _lstm_backward),
    "vanilla_rnn": Kind(1, _rnn_forward, _rnn_coefficients, _rnn_backward),
}


@partial(jax.jit, static_argnums=0)  # so that eager calls, too, compile once for each shape
def recurrence(
    kind: str,
    z_x: Tensor,
    state: tuple[Tensor, ...],
    recurrent_kernel: Tensor,
    mask: Tensor | None,
    dropout: Sequence[Tensor],
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Return `h` of all steps, and the final state.

    Args:
        kind: a key of `KINDS`.
        z_x: `(timesteps, batch, gates * units)`, the projected inputs.
        state: initial state, each `(batch, units)`.
        recurrent_kernel: `(units, gates * units)`.
        mask: `(timesteps, batch, 1)` booleans: a masked step keeps the state. Or None.
        dropout: no, one, or one for each gate: recurrent dropout masks `(batch, units)`. They are data: no
            gradient goes to them.
    """
    return _recurrence(kind, z_x, tuple(state), recurrent_kernel, mask, tuple(dropout))


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _recurrence(kind, *arguments):
    hs, final, _ = _forward(kind, False, *arguments)
    return hs, final


def _forward(kind, keep, z_x, state, recurrent_kernel, mask, dropout):
    product = _product(recurrent_kernel, dropout)

    def step(state, of_step):
        z, read = of_step
        new, kept = KINDS[kind].forward(z + product(state[0]), state)
        if mask is not None:
            new = tuple(jnp.where(read, n, s) for n, s in zip(new, state, strict=True))
        return new, (new[0], kept if keep else ())

    final, (hs, kept) = jax.lax.scan(step, tuple(state), (z_x, mask))
    return hs, final, kept


def _forward_and_keep(kind, z_x, state, recurrent_kernel, mask, dropout):
    hs, final, kept = _forward(kind, True, z_x, state, recurrent_kernel, mask, dropout)
    return (hs, final), (kept, hs, state[0], recurrent_kernel, mask, dropout)


def _backward(kind, residuals, incoming):
    kept, hs, h0, recurrent_kernel, mask, dropout = residuals
    d_hs, d_final = incoming
    coefficients, when_masked = KINDS[kind].coefficients(kept)
    if mask is not None:
        coefficients = tuple(
            jnp.where(mask, k, jnp.asarray(value, k.dtype)) for k, value in zip(coefficients, when_masked, strict=True)
        )
    to_h = _transposed_product(recurrent_kernel, dropout)

    def step(d_state, of_step):
        coefficients, d_h, read = of_step
        dh, *rest = d_state
        dh = dh + d_h
        dz, rest = KINDS[kind].backward(coefficients, dh, rest)
        dh_before = to_h(dz)
        return (dh_before if mask is None else jnp.where(read, dh_before, dh), *rest), dz

    d_state, dz = jax.lax.scan(step, tuple(d_final), (coefficients, d_hs, mask), reverse=True)
    h_before = jnp.concatenate([h0[None], hs[:-1]])
    return dz, d_state, _kernel_gradient(h_before, dz, dropout), None, None


_recurrence.defvjp(_forward_and_keep, _backward)


def _product(kernel, dropout):
    """Return h -> h U, with the dropout masks on h."""
    if len(dropout) <= 1:
        return lambda h: (h * dropout[0] if dropout else h) @ kernel
    blocks = jnp.split(kernel, len(dropout), axis=1)
    return lambda h: jnp.concatenate([(h * m) @ block for m, block in zip(dropout, blocks, strict=True)], axis=1)


def _transposed_product(kernel, dropout):
    """Return dz -> dh, the transpose of `_product`."""
    if len(dropout) <= 1:
        return lambda dz: (dz @ kernel.T) * dropout[0] if dropout else dz @ kernel.T
    blocks = jnp.split(kernel, len(dropout), axis=1)

    def to_h(dz):
        parts = zip(dropout, jnp.split(dz, len(dropout), axis=1), blocks, strict=True)
        return sum((part @ block.T) * m for m, part, block in parts)

    return to_h


def _kernel_gradient(h_before, dz, dropout):
    """Return dU as one product over all steps and rows, for each dropout mask."""
    masked = [h_before * m for m in dropout] or [h_before]
    parts = zip(masked, jnp.split(dz, len(masked), axis=2), strict=True)
    return jnp.concatenate([jnp.einsum("tbu,tbz->uz", h, d) for h, d in parts], axis=1)
