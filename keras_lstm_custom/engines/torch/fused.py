"""The LSTM's steps on a GPU: one product and one kernel each, forward and backward.

Launches bound a recurrence there. All that a step does after its product is one kernel of torch's own, behind
`torch.nn.LSTMCell`: it adds up the two halves of z and keeps the gates. `recurrence` computes the same in seven.
"""

from __future__ import annotations

import torch

from keras_lstm_custom.engines.torch.products import kernel_gradient, product_alone, transposed_product
from keras_lstm_custom.keras_hooks import fused_lstm_kernels

FORWARD, BACKWARD = fused_lstm_kernels()


def serves(z_x) -> bool:
    """Return whether these steps can run: on a GPU, under a torch that has the kernels."""
    return z_x.is_cuda and FORWARD is not None and BACKWARD is not None


def forward(keep, z_x, recurrent_kernel, mask, dropout, state):
    """Return h of all steps, the final state, and what `backward` needs: lists of tensors, one for each step."""
    hs, cs, gates = [], [state[1]], []
    h, c = state
    product, step = product_alone(recurrent_kernel, dropout), FORWARD.default
    for t, z_t in enumerate(z_x.unbind()):
        new_h, new_c, gates_t = step(z_t, product(h), c)
        if mask is not None:
            new_h, new_c = torch.where(mask[t], new_h, h), torch.where(mask[t], new_c, c)
        h, c = new_h, new_c
        hs.append(h)
        if keep:
            cs.append(c)
            gates.append(gates_t)
    return torch.stack(hs), [h, c], [state[0], *cs, *gates] if keep else []


def backward(incoming, hs, recurrent_kernel, mask, dropout, saved):
    """Return the gradients of the projected inputs, the recurrent kernel and the state."""
    count = len(hs)
    h_before, cs, gates = torch.cat([saved[0][None], hs[:-1]]), saved[1 : count + 2], saved[count + 2 :]
    d_hs, *d_state = incoming
    dh, dc = [torch.zeros_like(saved[0]) if d is None else d for d in d_state]
    to_h, step = transposed_product(recurrent_kernel, dropout), BACKWARD.default
    dzs = []
    for t in reversed(range(count)):
        if d_hs is not None:
            dh = dh + d_hs[t]
        dz, dc_before, _ = step(dh, dc, cs[t], cs[t + 1], gates[t], False)
        if mask is not None:  # the state was kept: its gradients pass on
            dz = torch.where(mask[t], dz, 0.0)
            dc_before = torch.where(mask[t], dc_before, dc)
        dh_before = to_h(dz)
        dh = dh_before if mask is None else torch.where(mask[t], dh_before, dh)
        dc = dc_before
        dzs.append(dz)
    dz = torch.stack(dzs[::-1])
    return dz, kernel_gradient(h_before, dz, dropout), [dh, dc]
