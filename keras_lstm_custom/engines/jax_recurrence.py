r"""A recurrence over time in JAX, with a gradient of its own.

Forward, the gates are kept. Backward, one step of the LSTM is, with the kept gates,

$$
dc_t = dc + dh \odot o_t \odot (1 - \tanh^2 c_t), \qquad
dz_t = [dc_t, dc_t, dc_t, dh] \odot k_t, \qquad
dh_{t-1} = dz_t U^\top, \qquad dc_{t-1} = dc_t \odot f_t
$$

($k_t$: the slopes of the gates times what they are multiplied with). What does not depend on the state is placed
where it is measured faster. On a GPU or TPU, where each operation costs a launch, that is outside of the loops: one
product for all inputs before, one for each weight after. On a CPU it is inside: there the projected inputs and dz of
all steps would go through memory twice, which costs more than smaller products do.

Tensors are time-major here: `(timesteps, batch, ...)`. Loaded on first use, since it imports JAX.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
from jax import numpy as jnp

from keras_lstm_custom.structures import Tensor


class Affine(NamedTuple):
    r"""The arguments of $z = (x \odot m) W + (h \odot r) U + b$."""

    kernel: Tensor  #: W: `(features, gates * units)`
    recurrent_kernel: Tensor  #: U: `(units, gates * units)`
    bias: Tensor | None  #: b: `(gates * units,)`
    input_masks: tuple[Tensor, ...]  #: m: no, one, or one dropout mask for each gate, `(batch, features)`
    recurrent_masks: tuple[Tensor, ...]  #: r: likewise, `(batch, units)`


class Kind(NamedTuple):
    """The equations of one cell, forward and backward."""

    forward: Callable  #: (z, state) -> (new state, kept)
    backward: Callable  #: (kept, dh, [dc]) -> (dz, [dc before the step])


def _lstm_forward(z, state):
    z_i, z_f, z_g, z_o = jnp.split(z, 4, axis=1)
    i, f, g, o = jax.nn.sigmoid(z_i), jax.nn.sigmoid(z_f), jnp.tanh(z_g), jax.nn.sigmoid(z_o)
    _, c_before = state
    c = f * c_before + i * g
    return (o * jnp.tanh(c), c), (i, f, g, o, c_before)


def _lstm_backward(kept, dh, rest):
    i, f, g, o, c_before = kept
    tanh_c = jnp.tanh(f * c_before + i * g)  # cheaper than to keep it
    dc = rest[0] + dh * o * (1 - tanh_c * tanh_c)
    dz = [dc * g * i * (1 - i), dc * c_before * f * (1 - f), dc * i * (1 - g * g), dh * tanh_c * o * (1 - o)]
    return jnp.concatenate(dz, axis=1), (dc * f,)


def _rnn_forward(z, state):
    h = jnp.tanh(z)
    return (h,), (h,)


def _rnn_backward(kept, dh, rest):
    (h,) = kept
    return dh * (1 - h * h), ()


KINDS = {"lstm": Kind(_lstm_forward, _lstm_backward), "vanilla_rnn": Kind(_rnn_forward, _rnn_backward)}


def recurrence(
    kind: str, x: Tensor, state: tuple[Tensor, ...], affine: Affine, mask: Tensor | None
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Return `h` of all steps, and the final state.

    Args:
        kind: a key of `KINDS`.
        x: `(timesteps, batch, features)`.
        state: initial state, each `(batch, units)`.
        affine: weights and dropout masks. The masks are data: no gradient goes to them.
        mask: `(timesteps, batch, 1)` booleans: a masked step keeps the state. Or None.
    """
    return _compiled(kind, jax.default_backend() == "cpu", x, state, affine, mask)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _recurrence(kind, inside, x, state, affine, mask):
    hs, final, _ = _forward(kind, inside, False, x, state, affine, mask)
    return hs, final


# So that eager calls, too, compile once for each shape.
_compiled = jax.jit(_recurrence, static_argnums=(0, 1))


def _forward(kind, inside, keep, x, state, affine, mask):
    def of_inputs(x):
        z = _product(x, affine.kernel, affine.input_masks)
        return z if affine.bias is None else z + affine.bias

    def step(state, of_step):
        x, read = of_step
        z = (of_inputs(x) if inside else x) + _product(state[0], affine.recurrent_kernel, affine.recurrent_masks)
        new, kept = KINDS[kind].forward(z, state)
        if mask is not None:
            new = tuple(jnp.where(read, n, s) for n, s in zip(new, state, strict=True))
        return new, (new[0], kept if keep else ())

    final, (hs, kept) = jax.lax.scan(step, state, (x if inside else of_inputs(x), mask))
    return hs, final, kept


def _forward_and_keep(kind, inside, x, state, affine, mask):
    hs, final, kept = _forward(kind, inside, True, x, state, affine, mask)
    return (hs, final), (kept, x, hs, state[0], affine, mask)


def _backward(kind, inside, residuals, incoming):
    kept, x, hs, h0, affine, mask = residuals
    d_hs, d_final = incoming
    h_before = jnp.concatenate([h0[None], hs[:-1]])

    exact = jnp.promote_types(hs.dtype, jnp.float32)

    def weights(x, h, dz):
        """Return the gradients of the weights from any number of steps, summed in float32 at least."""
        kernel = _kernel_gradient(x, dz, affine.input_masks, exact)
        recurrent_kernel = _kernel_gradient(h, dz, affine.recurrent_masks, exact)
        bias = None if affine.bias is None else dz.sum(axis=tuple(range(dz.ndim - 1)), dtype=exact)
        return kernel, recurrent_kernel, bias

    def inputs(dz):
        return _transposed_product(dz, affine.kernel, affine.input_masks)

    def step(carry, of_step):
        (dh, *rest), sums = carry
        kept, x, h, d_h, read = of_step
        dh = dh + d_h
        dz, rest_before = KINDS[kind].backward(kept, dh, rest)
        dh_before = _transposed_product(dz, affine.recurrent_kernel, affine.recurrent_masks)
        if mask is not None:
            dz = jnp.where(read, dz, jnp.zeros((), dz.dtype))
            dh_before = jnp.where(read, dh_before, dh)
            rest_before = tuple(jnp.where(read, new, old) for new, old in zip(rest_before, rest, strict=True))
        if inside:
            sums = jax.tree.map(jnp.add, sums, weights(x, h, dz))
        return ((dh_before, *rest_before), sums), inputs(dz) if inside else dz

    sums = jax.tree.map(lambda weight: jnp.zeros(weight.shape, exact), affine[:3]) if inside else None
    (d_state, sums), out = jax.lax.scan(step, (d_final, sums), (kept, x, h_before, d_hs, mask), reverse=True)
    d_x, sums = (out, sums) if inside else (inputs(out), weights(x, h_before, out))
    d_weights = jax.tree.map(lambda total, weight: total.astype(weight.dtype), sums, affine[:3])
    return d_x, d_state, Affine._make((*d_weights, None, None)), None


_recurrence.defvjp(_forward_and_keep, _backward)


def _product(x, kernel, masks):
    """Return x W over the last axis, with the dropout masks on x."""
    if len(masks) <= 1:
        return (x * masks[0] if masks else x) @ kernel
    blocks = jnp.split(kernel, len(masks), axis=1)
    return jnp.concatenate([(x * m) @ block for m, block in zip(masks, blocks, strict=True)], axis=-1)


def _transposed_product(dz, kernel, masks):
    """Return dz -> dx, the transpose of `_product`."""
    if len(masks) <= 1:
        return (dz @ kernel.T) * masks[0] if masks else dz @ kernel.T
    parts = zip(masks, jnp.split(dz, len(masks), axis=-1), jnp.split(kernel, len(masks), axis=1), strict=True)
    return sum((part @ block.T) * m for m, part, block in parts)


def _kernel_gradient(x, dz, masks, dtype):
    """Return dW as one product over all steps and rows, for each dropout mask."""

    def product(x, dz):
        x, dz = (array.reshape(-1, array.shape[-1]) for array in (x, dz))
        return jnp.matmul(x.T, dz, preferred_element_type=dtype)

    masked = [x * m for m in masks] or [x]
    parts = zip(masked, jnp.split(dz, len(masked), axis=-1), strict=True)
    return jnp.concatenate([product(*part) for part in parts], axis=1)
