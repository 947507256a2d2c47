"""The LSTM's recurrence in JAX for a GPU or TPU: as few operations in the loops as can be, for each is a launch.

Inputs are projected before the loop, and the weights' gradients are one product each after it. Forward, z is kept
as it is; from it the coefficients of the backward step are computed for all steps at once, so that the backward
loop multiplies and adds. z is `(batch, gates, units)`, so that nothing is concatenated, and with a dropout mask for
each gate the products of all gates are one.
"""

from __future__ import annotations

import jax
from jax import numpy as jnp

from keras_lstm_custom.engines.jax.products import kernel_gradient, product, transposed_product

#: How many steps XLA sees at once: measured on an H100 against 1, 2, 4 and 16 (`docs/engines.md`).
UNROLL = 8


def steps_at_once() -> int:
    """Return how many steps of a scan XLA is to see at once, where it runs."""
    return 1 if jax.default_backend() == "cpu" else UNROLL


def _step(z, state):
    i, f, g, o = _gates(z)
    c = f * state[1] + i * g
    return o * jnp.tanh(c), c


def _gates(z):
    i, f, g, o = (z[..., n, :] for n in range(4))
    return jax.nn.sigmoid(i), jax.nn.sigmoid(f), jnp.tanh(g), jax.nn.sigmoid(o)


def _coefficients(kept, c_start):
    """Return what dz is made by, of all steps: the factors of each gate, and those from dh to dc and from dc on."""
    z, c = kept
    i, f, g, o = _gates(z)
    c_before = jnp.concatenate([c_start[None], c[:-1]])
    tanh_c = jnp.tanh(f * c_before + i * g)  # not of c: a masked step has kept another
    to_z = [g * i * (1 - i), c_before * f * (1 - f), i * (1 - g * g), tanh_c * o * (1 - o)]
    return jnp.stack(to_z, axis=2), o * (1 - tanh_c * tanh_c), f


def _step_back(coefficients, dh, dc):
    to_z, h_to_c, f = coefficients
    dc = dc + dh * h_to_c
    of_o = jnp.arange(4)[:, None] == 3
    return to_z * jnp.where(of_o, dh[:, None], dc[:, None]), dc * f


def forward(keep, x, state, affine, mask):
    """Return h of all steps, the final state, and what all steps keep for `backward`."""
    z_x = product(affine.kernel, affine.input_masks)(x)
    z_x = _by_gate(z_x if affine.bias is None else z_x + affine.bias, state[0].shape[1])
    of_h, _ = _recurrent_products(affine)

    def step(state, of_step):
        z_x, read = of_step
        z = z_x + of_h(state[0])
        new = _step(z, state)
        if mask is not None:
            new = tuple(jnp.where(read, n, s) for n, s in zip(new, state, strict=True))
        return new, (new[0], (z, new[1]) if keep else ())

    final, (hs, kept) = jax.lax.scan(step, state, (z_x, mask), unroll=UNROLL)
    return hs, final, kept


def backward(kept, x, hs, state, affine, mask, incoming):
    """Return the gradients of the inputs, of the state, and of the columns of the weights and the bias."""
    d_hs, d_final = incoming
    to_z, *others = _coefficients(kept, state[1])
    if mask is not None:
        to_z = jnp.where(mask[..., None], to_z, jnp.zeros((), to_z.dtype))
    _, to_h = _recurrent_products(affine)

    def step(carry, of_step):
        dh, dc = carry
        coefficients, d_h, read = of_step
        dh = dh + d_h
        dz, dc_before = _step_back(coefficients, dh, dc)
        dh_before = to_h(dz)
        if mask is not None:
            dh_before, dc_before = jnp.where(read, dh_before, dh), jnp.where(read, dc_before, dc)
        return (dh_before, dc_before), dz

    d_state, dz = jax.lax.scan(step, d_final, ((to_z, *others), d_hs, mask), reverse=True, unroll=UNROLL)
    dz = dz.reshape(*dz.shape[:2], -1)
    h_before = jnp.concatenate([state[0][None], hs[:-1]])
    exact = jnp.promote_types(hs.dtype, jnp.float32)  # what the weights' gradients are summed in
    sums = (
        kernel_gradient(x, dz, affine.input_masks, exact),
        kernel_gradient(h_before, dz, affine.recurrent_masks, exact),
        None if affine.bias is None else dz.sum(axis=(0, 1), dtype=exact),
    )
    return transposed_product(affine.kernel, affine.input_masks)(dz), d_state, sums


def _by_gate(z, units):
    return z.reshape(*z.shape[:-1], -1, units)


def _recurrent_products(affine):
    """Return h -> h U and dz -> dz U^T, with the dropout masks on h and dh; z and dz are by gate."""
    kernel, masks = affine.recurrent_kernel, affine.recurrent_masks
    units = kernel.shape[0]
    if len(masks) <= 1:
        (mask,) = masks or (1,)
        return lambda h: _by_gate((h * mask) @ kernel, units), lambda dz: (dz.reshape(len(dz), -1) @ kernel.T) * mask
    blocks, stacked = _by_gate(kernel, units).swapaxes(0, 1), jnp.stack(masks)

    def of_h(h):
        return jnp.einsum("gbh,ghu->bgu", h * stacked, blocks)

    def to_h(dz):
        return (jnp.einsum("bgu,ghu->gbh", dz, blocks) * stacked).sum(axis=0)

    return of_h, to_h
