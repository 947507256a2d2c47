r"""The LSTM's recurrence in JAX, with a gradient of its own.

Forward, the gates are kept. Backward, one step of the LSTM is, with the kept gates,

$$
dc_t = dc + dh \odot o_t \odot (1 - \tanh^2 c_t), \qquad
dz_t = [dc_t, dc_t, dc_t, dh] \odot k_t, \qquad
dh_{t-1} = dz_t U^\top, \qquad dc_{t-1} = dc_t \odot f_t
$$

($k_t$: the slopes of the gates times what they are multiplied with). What does not depend on the state is placed
where it is measured faster. On a GPU or TPU, where each operation costs a launch, that is outside of the loops
(`accelerator`). On a CPU it is inside, here: outside, the projected inputs and dz of all steps would go through
memory twice, which costs more than smaller products do.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
from jax import numpy as jnp

from keras_lstm_custom.engines.jax import accelerator
from keras_lstm_custom.engines.jax.derivatives import differentiable
from keras_lstm_custom.engines.jax.products import by_mask, joined, kernel_gradient, product, transposed_product
from keras_lstm_custom.structures import Tensor


class Affine(NamedTuple):
    r"""The arguments of $z = (x \odot m) W + (h \odot r) U + b$."""

    kernel: Tensor  #: W: `(features, gates * units)`
    recurrent_kernel: Tensor  #: U: `(units, gates * units)`
    bias: Tensor | None  #: b: `(gates * units,)`
    input_masks: tuple[Tensor, ...]  #: m: no, one, or one dropout mask for each gate, `(batch, features)`
    recurrent_masks: tuple[Tensor, ...]  #: r: likewise, `(batch, units)`


def _step(z, state):
    """Return the new state, and what `_step_back` needs."""
    z_i, z_f, z_g, z_o = jnp.split(z, 4, axis=1)
    i, f, g, o = jax.nn.sigmoid(z_i), jax.nn.sigmoid(z_f), jnp.tanh(z_g), jax.nn.sigmoid(z_o)
    _, c_before = state
    c = f * c_before + i * g
    return (o * jnp.tanh(c), c), (i, f, g, o, c_before)


def _step_back(kept, dh, dc):
    """Return dz, and dc before the step."""
    i, f, g, o, c_before = kept
    tanh_c = jnp.tanh(f * c_before + i * g)  # cheaper than to keep it
    dc = dc + dh * o * (1 - tanh_c * tanh_c)
    dz = [dc * g * i * (1 - i), dc * c_before * f * (1 - f), dc * i * (1 - g * g), dh * tanh_c * o * (1 - o)]
    return jnp.concatenate(dz, axis=1), dc * f


def recurrence(
    x: Tensor, state: tuple[Tensor, Tensor], affine: Affine, mask: Tensor | None
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Return `h` of all steps, and the final state.

    Args:
        x: `(timesteps, batch, features)`.
        state: h and c to start from, each `(batch, units)`.
        affine: weights and dropout masks. The masks are data: no gradient goes to them.
        mask: `(timesteps, batch, 1)` booleans: a masked step keeps the state. Or None.
    """
    on_cpu = jax.default_backend() == "cpu"
    weights, dropout = affine[:3], affine[3:]
    return _compiled(on_cpu, (x, state, weights), (dropout, mask))


def _run(on_cpu, inputs, data, keep=False):
    (x, state, weights), (dropout, mask) = inputs, data
    hs, final, kept = _way(on_cpu)[0](keep, x, state, Affine(*weights, *dropout), mask)
    return ((hs, final), (hs, kept)) if keep else (hs, final)


def _gradient(on_cpu, inputs, data, kept, incoming):
    (x, state, weights), (dropout, mask), (hs, kept) = inputs, data, kept
    affine = Affine(*weights, *dropout)
    d_x, d_state, sums = _way(on_cpu)[1](kept, x, hs, state, affine, mask, incoming)
    return d_x, d_state, joined(sums, affine)


# Compiled, so that eager calls, too, compile once for each shape.
_compiled = jax.jit(differentiable(_run, partial(_run, keep=True), _gradient), static_argnums=0)


def _way(on_cpu):
    return (_forward, _backward) if on_cpu else (accelerator.forward, accelerator.backward)


def _forward(keep, x, state, affine, mask):
    kernel, recurrent_kernel, bias, input_masks, recurrent_masks = affine
    of_x, of_h = product(kernel, input_masks), product(recurrent_kernel, recurrent_masks)
    add_bias = (lambda z: z) if bias is None else (lambda z: z + bias)
    if input_masks or recurrent_masks or len(x) < 16:  # to join the weights costs as much as a few steps

        def of_both(x, h):
            return add_bias(of_x(x) + of_h(h))
    else:
        of_joined = product(jnp.concatenate([kernel, recurrent_kernel]), ())

        def of_both(x, h):
            return add_bias(of_joined(jnp.concatenate([x, h], axis=1)))

    def step(state, of_step):
        x, read = of_step
        new, kept = _step(of_both(x, state[0]), state)
        if mask is not None:
            new = tuple(jnp.where(read, n, s) for n, s in zip(new, state, strict=True))
        return new, (new[0], kept if keep else ())

    final, (hs, kept) = jax.lax.scan(step, state, (x, mask))
    return hs, final, kept


def _backward(kept, x, hs, state, affine, mask, incoming):
    d_hs, d_final = incoming
    h_before = jnp.concatenate([state[0][None], hs[:-1]])
    exact = jnp.promote_types(hs.dtype, jnp.float32)
    kernel, recurrent_kernel, bias, input_masks, recurrent_masks = affine

    def weights(x, h, dz):
        """Return the gradients of the weights from one step, summed in float32 at least."""
        d_bias = None if bias is None else dz.sum(axis=0, dtype=exact)
        return kernel_gradient(x, dz, input_masks, exact), kernel_gradient(h, dz, recurrent_masks, exact), d_bias

    to_x, to_h = transposed_product(kernel, input_masks), transposed_product(recurrent_kernel, recurrent_masks)

    def step(carry, of_step):
        (dh, dc), sums = carry
        kept, x, h, d_h, read = of_step
        dh = dh + d_h
        dz, dc_before = _step_back(kept, dh, dc)
        dh_before = to_h(dz)
        if mask is not None:
            dz = jnp.where(read, dz, jnp.zeros((), dz.dtype))
            dh_before = jnp.where(read, dh_before, dh)
            dc_before = jnp.where(read, dc_before, dc)
        return ((dh_before, dc_before), jax.tree.map(jnp.add, sums, weights(x, h, dz))), to_x(dz)

    parts = by_mask(kernel, input_masks), by_mask(recurrent_kernel, recurrent_masks), bias
    sums = jax.tree.map(lambda part: jnp.zeros(part.shape, exact), parts)
    (d_state, sums), d_x = jax.lax.scan(step, (d_final, sums), (kept, x, h_before, d_hs, mask), reverse=True)
    return d_x, d_state, sums
