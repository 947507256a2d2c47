r"""A recurrence over time in torch, with a gradient of its own.

The mathematics is that of `tensorflow.recurrence`: only what depends on the state stays in the loops, the
backward loop computes dz and dh from coefficients that are made of the kept gates for all steps at once,
and dU is one product after it. Inside `torch.autograd.Function` nothing is recorded, so a step writes
into tensors that are there already, and costs a handful of calls. A few steps are over sooner under torch's own
gradient, and so are all in a gradient that is to be differentiated again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from typing import NamedTuple

import torch

from keras_lstm_custom.engines.torch import fused, graphs
from keras_lstm_custom.engines.torch.products import kernel_gradient, masked_product, product, transposed_product
from keras_lstm_custom.equations import lstm_step, rnn_step
from keras_lstm_custom.structures import Tensor

FEW_STEPS = 4  #: up to so many are left to torch's own gradient


class Kind(NamedTuple):
    """The equations of one cell, forward and backward."""

    step: Callable  #: (z, state) -> new state, for torch's own gradient
    kept: int  #: how many tensors `(batch, units)` each step keeps next to its z and its states
    forward: Callable  #: (z, state, places for the new state, places for what is kept); z may be overwritten
    coefficients: Callable  #: (z left by all steps, states around all steps, kept) -> coefficients, the first one new
    backward: Callable  #: (coefficients, dh, [dc]) -> [dc before the step]; the first coefficient becomes dz


def _lstm_step(z, state):
    i, f, g, o = z.chunk(4, dim=1)
    c = f.sigmoid() * state[1] + i.sigmoid() * g.tanh()
    return [o.sigmoid() * c.tanh(), c]


def _lstm_forward(z, state, new, kept):
    units = z.shape[1] // 4
    i_f, g, o = z.split((2 * units, units, units), dim=1)
    i, f = i_f.sigmoid_().chunk(2, dim=1)
    torch.mul(f, state[1], out=new[1]).addcmul_(i, g.tanh_())
    torch.mul(o.sigmoid_(), torch.tanh(new[1], out=kept[0]), out=new[0])


def _lstm_coefficients(gates, states, kept):
    i, f, g, o = gates.chunk(4, dim=2)
    c_before, (tanh_c,) = states[1][:-1], kept
    to_z = torch.empty_like(gates)
    to_i, to_f, to_g, to_o = to_z.chunk(4, dim=2)
    for place, gate, factor in ((to_i, i, g), (to_f, f, c_before), (to_o, o, tanh_c)):
        torch.addcmul(gate, gate, gate, value=-1, out=place).mul_(factor)
    torch.addcmul(i, i * g, g, value=-1, out=to_g)
    return [to_z, torch.addcmul(o, o * tanh_c, tanh_c, value=-1), f]


def _lstm_backward(coefficients, dh, rest):
    to_z, h_to_c, f = coefficients
    dc = torch.addcmul(rest[0], dh, h_to_c)
    by_gate = to_z.unflatten(1, (4, -1))
    by_gate[:, :3].mul_(dc[:, None])
    by_gate[:, 3].mul_(dh)
    return [dc * f]


def _rnn_step(z, state):
    return [z.tanh()]


def _rnn_forward(z, state, new, kept):
    torch.tanh(z, out=new[0])


def _rnn_coefficients(z, states, kept):
    h = states[0][1:]
    return [torch.addcmul(torch.ones_like(h), h, h, value=-1)]


def _rnn_backward(coefficients, dh, rest):
    coefficients[0].mul_(dh)
    return []


KINDS = {
    lstm_step: Kind(_lstm_step, 1, _lstm_forward, _lstm_coefficients, _lstm_backward),
    rnn_step: Kind(_rnn_step, 0, _rnn_forward, _rnn_coefficients, _rnn_backward),
}


def recurrence(
    equation: Callable,
    projected: Callable[..., Tensor],
    sources: Sequence[Tensor | None],
    state: Sequence[Tensor],
    recurrent_kernel: Tensor,
    mask: Tensor | None = None,
    dropout: Sequence[Tensor] = (),
) -> tuple[Tensor, list[Tensor]]:
    """Return `h` of all steps, and the final state.

    Args:
        equation: a key of `KINDS`.
        projected: makes of `sources` the projected inputs `(timesteps, batch, gates * units)`.
        sources: the inputs, the kernel and the bias. A gradient of the gradient projects them again, instead of
            all training having to keep what comes of it.
        state: initial state, each `(batch, units)`.
        recurrent_kernel: `(units, gates * units)`.
        mask: `(timesteps, batch, 1)` booleans: a masked step keeps the state.
        dropout: no, one, or one for each gate: recurrent dropout masks `(batch, units)`.
    """
    z_x = projected(*sources)
    if len(z_x) <= FEW_STEPS and not dropout:
        return _step_by_step(KINDS[equation].step, z_x, list(state), recurrent_kernel, mask)
    masks = torch.stack(list(dropout)) if dropout else None
    # Not inside the Function: there the gradient mode is always off.
    keep = torch.is_grad_enabled() and any(t.requires_grad for t in (z_x, recurrent_kernel, *state))
    way = (fused.serves(z_x) and FUSED.get(equation)) or WAYS[equation]
    if graphs.serves(z_x):
        way = IN_GRAPHS[way]
    again = KINDS[equation].step, projected  # for a gradient of the gradient
    hs, *final = _Recurrence.apply(way, keep, again, tuple(sources), z_x, recurrent_kernel, mask, masks, *state)
    return hs, final


def _step_by_step(step, z_x, state, recurrent_kernel, mask, dropout=None):
    of_h = None if dropout is None else masked_product(recurrent_kernel, dropout)
    hs = []
    for t, z_t in enumerate(z_x.unbind()):
        z = torch.addmm(z_t, state[0], recurrent_kernel) if of_h is None else z_t + of_h(state[0])
        new = step(z, state)
        state = new if mask is None else [torch.where(mask[t], *pair) for pair in zip(new, state, strict=True)]
        hs.append(state[0])
    return torch.stack(hs), state


class _Recurrence(torch.autograd.Function):
    @staticmethod
    def forward(ctx, way, keep, again, sources, z_x, recurrent_kernel, mask, dropout, *state):
        with _as_it_is(z_x):
            hs, final, saved = way.forward(keep, z_x, recurrent_kernel, mask, dropout, state)
        if keep:
            ctx.way, ctx.again, ctx.states = way, again, len(state)
            ctx.save_for_backward(hs, recurrent_kernel, mask, dropout, *sources, *state, *saved)
            ctx.set_materialize_grads(False)
        return hs, *final

    @staticmethod
    def backward(ctx, *incoming):
        hs, recurrent_kernel, mask, dropout, *saved = ctx.saved_tensors
        sources, state, saved = saved[:3], saved[3 : 3 + ctx.states], saved[3 + ctx.states :]
        if torch.is_grad_enabled():  # create_graph=True
            step, projected = ctx.again
            z_x = projected(*sources)
            gradients = _differentiable_gradient(step, incoming, z_x, state, recurrent_kernel, mask, dropout)
        else:
            with _as_it_is(hs):
                gradients = ctx.way.backward(incoming, hs, recurrent_kernel, mask, dropout, saved)
        dz, d_kernel, d_state = gradients
        return None, None, None, None, dz, d_kernel, None, None, *d_state


def _as_it_is(tensor):
    """Return a context without autocast: all is in one dtype here already. ("meta" has none.)"""
    kind = tensor.device.type
    return torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext()


def _differentiable_gradient(step, incoming, z_x, state, recurrent_kernel, mask, dropout):
    """Do what `_backward` does by operations of torch that it can differentiate again."""
    inputs = [t if t.requires_grad else t.detach().requires_grad_() for t in (z_x, recurrent_kernel, *state)]
    z_x, recurrent_kernel, *state = inputs
    hs, final = _step_by_step(step, z_x, state, recurrent_kernel, mask, dropout)
    given = [(y, dy) for y, dy in zip((hs, *final), incoming, strict=True) if dy is not None]
    outputs, incoming = zip(*given, strict=True)
    gradients = torch.autograd.grad(outputs, inputs, incoming, create_graph=True, allow_unused=True)
    dz, d_kernel, *d_state = gradients
    return dz, d_kernel, d_state


class Way(NamedTuple):
    """How all steps run, forward and backward."""

    forward: Callable  #: (keep, z_x, recurrent kernel, mask, dropout, state) -> h of all steps, final state, saved
    backward: Callable  #: (incoming, hs, recurrent kernel, mask, dropout, saved) -> dz, dU, gradients of the state


def _forward(kind, keep, z_x, recurrent_kernel, mask, dropout, state):
    count, batch, _ = z_x.shape
    slots = count if keep else 1

    def places(number, width):
        return z_x.new_empty(number, batch, width)

    units = recurrent_kernel.shape[0]
    z = places(slots if kind.kept else 1, z_x.shape[2])
    # Around the steps: states[n][t] is before step t, states[n][t + 1] after it. Only h is given out.
    states = [places(count + 1, units), *(places(slots + 1, units) for _ in state[1:])]
    kept = [places(slots, units) for _ in range(kind.kept)]
    for values, initial in zip(states, state, strict=True):
        values[0] = initial
    of_step = product(recurrent_kernel, dropout)
    for t in range(count):
        before = [values[t % len(values)] for values in states]
        after = [values[(t + 1) % len(values)] for values in states]
        z_t = of_step(z_x[t], before[0], z[t % len(z)])
        kind.forward(z_t, before, after, [values[t % slots] for values in kept])
        if mask is not None:
            for new, old in zip(after, before, strict=True):
                torch.where(mask[t], new, old, out=new)
    final = [values[count % len(values)].clone() for values in states]
    return states[0][1:], final, [z, *states, *kept]


def _backward(kind, incoming, hs, recurrent_kernel, mask, dropout, saved):
    d_hs, *d_state = incoming
    z, states, kept = saved[0], saved[1 : 1 + len(d_state)], saved[1 + len(d_state) :]
    coefficients = kind.coefficients(z, states, kept)
    if mask is not None:
        coefficients[0].masked_fill_(~mask, 0.0)
    dh, *rest = [torch.zeros_like(s[0]) if d is None else d for d, s in zip(d_state, states, strict=True)]
    to_h = transposed_product(recurrent_kernel, dropout)
    dz = coefficients[0]  # written step by step
    for t in reversed(range(len(dz))):
        if d_hs is not None:
            dh = dh + d_hs[t]
        before = [*kind.backward([k[t] for k in coefficients], dh, rest), to_h(dz[t])]
        if mask is not None:  # the state was kept: its gradients pass on
            before = [torch.where(mask[t], *pair) for pair in zip(before, [*rest, dh], strict=True)]
        *rest, dh = before
    return dz, kernel_gradient(states[0][:-1], dz, dropout), [dh, *rest]


WAYS = {equation: Way(partial(_forward, kind), partial(_backward, kind)) for equation, kind in KINDS.items()}
#: Those that torch has a kernel of its own for, on a GPU.
FUSED = {lstm_step: Way(fused.forward, fused.backward)}


def _in_graphs(way: Way) -> Way:
    """Return the same way, recorded as CUDA graphs."""

    def of_steps(z_x, mask, state, constants):
        hs, final, _ = way.forward(False, z_x, constants[0], mask, constants[1], state)
        return hs, *final

    def gradient(z_x, mask, state, constants, incoming):
        kernel, dropout = constants
        hs, _, saved = way.forward(True, z_x, kernel, mask, dropout, state)
        dz, d_kernel, d_state = way.backward(incoming, hs, kernel, mask, dropout, saved)
        return dz, *d_state, d_kernel, None

    steps = graphs.Steps(way, of_steps, gradient)

    def forward(keep, z_x, recurrent_kernel, mask, dropout, state):
        hs, final, before = graphs.forward(steps, keep, z_x, mask, state, (recurrent_kernel, dropout))
        return hs, final, [z_x, *before]

    def backward(incoming, hs, recurrent_kernel, mask, dropout, saved):
        z_x, *before = saved
        constants = recurrent_kernel, dropout
        dz, d_state, (d_kernel, _) = graphs.backward(steps, incoming, z_x, mask, before, constants)
        return dz, d_kernel, d_state

    return Way(forward, backward)


IN_GRAPHS = {way: _in_graphs(way) for way in (*WAYS.values(), *FUSED.values())}
