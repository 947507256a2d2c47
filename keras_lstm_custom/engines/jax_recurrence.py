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


class Form(NamedTuple):
    """How the loops are built."""

    inside: bool  #: what does not depend on the state is computed in the loops, step by step
    unroll: int  #: how many steps XLA sees at once


INSIDE = Form(inside=True, unroll=1)
OUTSIDE = Form(inside=False, unroll=1)


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
    form = INSIDE if jax.default_backend() == "cpu" else OUTSIDE
    return _compiled(kind, form, x, state, affine, mask)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _recurrence(kind, form, x, state, affine, mask):
    hs, final, _ = _forward(kind, form, False, x, state, affine, mask)
    return hs, final


# So that eager calls, too, compile once for each shape.
_compiled = jax.jit(_recurrence, static_argnums=(0, 1))


def _forward(kind, form, keep, x, state, affine, mask):
    kernel, recurrent_kernel, bias, input_masks, recurrent_masks = affine
    of_x, of_h = _product(kernel, input_masks), _product(recurrent_kernel, recurrent_masks)
    add_bias = (lambda z: z) if bias is None else (lambda z: z + bias)
    if not form.inside:
        x = add_bias(of_x(x))

        def of_both(x, h):
            return x + of_h(h)
    elif input_masks or recurrent_masks or len(x) < 16:  # to join the weights costs as much as a few steps

        def of_both(x, h):
            return add_bias(of_x(x) + of_h(h))
    else:
        of_joined = _product(jnp.concatenate([kernel, recurrent_kernel]), ())

        def of_both(x, h):
            return add_bias(of_joined(jnp.concatenate([x, h], axis=1)))

    def step(state, of_step):
        x, read = of_step
        new, kept = KINDS[kind].forward(of_both(x, state[0]), state)
        if mask is not None:
            new = tuple(jnp.where(read, n, s) for n, s in zip(new, state, strict=True))
        return new, (new[0], kept if keep else ())

    final, (hs, kept) = jax.lax.scan(step, state, (x, mask), unroll=form.unroll)
    return hs, final, kept


def _forward_and_keep(kind, form, x, state, affine, mask):
    hs, final, kept = _forward(kind, form, True, x, state, affine, mask)
    return (hs, final), (kept, x, hs, state[0], affine, mask)


def _backward(kind, form, residuals, incoming):
    inside = form.inside
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

    to_x = _transposed_product(affine.kernel, affine.input_masks)
    to_h = _transposed_product(affine.recurrent_kernel, affine.recurrent_masks)

    def step(carry, of_step):
        (dh, *rest), sums = carry
        kept, x, h, d_h, read = of_step
        dh = dh + d_h
        dz, rest_before = KINDS[kind].backward(kept, dh, rest)
        dh_before = to_h(dz)
        if mask is not None:
            dz = jnp.where(read, dz, jnp.zeros((), dz.dtype))
            dh_before = jnp.where(read, dh_before, dh)
            rest_before = tuple(jnp.where(read, new, old) for new, old in zip(rest_before, rest, strict=True))
        if inside:
            sums = jax.tree.map(jnp.add, sums, weights(x, h, dz))
        return ((dh_before, *rest_before), sums), to_x(dz) if inside else dz

    kernel, recurrent_kernel, bias, input_masks, recurrent_masks = affine
    parts = _by_mask(kernel, input_masks), _by_mask(recurrent_kernel, recurrent_masks), bias
    sums = jax.tree.map(lambda part: jnp.zeros(part.shape, exact), parts) if inside else None
    steps = kept, x, h_before, d_hs, mask
    (d_state, sums), out = jax.lax.scan(step, (d_final, sums), steps, reverse=True, unroll=form.unroll)
    d_x, sums = (out, sums) if inside else (to_x(out), weights(x, h_before, out))
    *d_kernels, d_bias = jax.tree.map(lambda total, part: total.astype(part.dtype), sums, parts)
    d_kernels = [jnp.concatenate(columns, axis=1) for columns in d_kernels]
    return d_x, d_state, Affine._make([*d_kernels, d_bias, None, None]), None


_recurrence.defvjp(_forward_and_keep, _backward)


# With a dropout mask for each gate a product is one for each. The columns of the weights are taken apart before the
# loops, and those of their gradients are put together after: each would go through memory at every step.


def _by_mask(kernel, masks):
    """Return the columns of the gates that each dropout mask is for."""
    return jnp.split(kernel, max(1, len(masks)), axis=1)


def _product(kernel, masks):
    """Return x -> x W over the last axis, with the dropout masks on x."""
    parts = list(zip(masks or (1,), _by_mask(kernel, masks), strict=True))
    return lambda x: jnp.concatenate([(x * m) @ columns for m, columns in parts], axis=-1)


def _transposed_product(kernel, masks):
    """Return dz -> dx, the transpose of `_product`."""
    parts = [(m, columns.T) for m, columns in zip(masks or (1,), _by_mask(kernel, masks), strict=True)]

    def product(dz):
        of_gates = jnp.split(dz, len(parts), axis=-1)
        return sum((part @ rows) * m for part, (m, rows) in zip(of_gates, parts, strict=True))

    return product


def _kernel_gradient(x, dz, masks, dtype):
    """Return dW as one product over all steps and rows for each dropout mask: the columns of its gates."""

    def product(x, dz):
        x, dz = (array.reshape(-1, array.shape[-1]) for array in (x, dz))
        return jnp.matmul(x.T, dz, preferred_element_type=dtype)

    masked = [x * m for m in masks or (1,)]
    return [product(*pair) for pair in zip(masked, jnp.split(dz, len(masked), axis=-1), strict=True)]
