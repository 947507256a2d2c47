"""One step of the sLSTM, the scalar cell of xLSTM."""

from __future__ import annotations

from collections.abc import Callable

from keras import ops

from keras_lstm_custom.equations.projection import DropoutMask, project
from keras_lstm_custom.structures import SLSTMState, SLSTMStep, Tensor


def slstm_step(
    z_x: Tensor,
    state: SLSTMState,
    recurrent_kernel: Tensor,
    *,
    activation: Callable[[Tensor], Tensor] = ops.tanh,
    recurrent_dropout: DropoutMask = None,
) -> SLSTMStep:
    r"""Compute the gates and the new state of an sLSTM.

    With $\tilde i, \tilde f, \tilde g, \tilde o$ the pre-activations $W x_t + b + U h_{t-1}$ of the gates:

    $$
    \begin{aligned}
    m_t &= \max(\tilde i_t,\; \log\sigma(\tilde f_t) + m_{t-1}) && \text{stabiliser: the largest exponent so far} \\
    i_t &= \exp(\tilde i_t - m_t) && \text{input gate} \\
    f_t &= \exp(\log\sigma(\tilde f_t) + m_{t-1} - m_t) && \text{forget gate} \\
    c_t &= f_t \odot c_{t-1} + i_t \odot \tanh(\tilde g_t) && \text{cell state} \\
    n_t &= f_t \odot n_{t-1} + i_t && \text{normaliser: the sum of the weights in } c_t \\
    h_t &= \sigma(\tilde o_t) \odot c_t / n_t
    \end{aligned}
    $$

    m cancels out of $c_t / n_t$, so h does not depend on it. A sequence starts from m = -∞: then m is the first input
    gate's exponent, and n is never below 1. U is block-diagonal: a head sees its own units of h only.

    Source: Beck et al. 2024, *xLSTM* (arXiv 2405.04517), equations 8 to 17, with the forget gate as a sigmoid. n is as
    in the paper; a published kernel clamps it at 1.

    Args:
        z_x: `(batch, 4 * units)`, the input part $W x_t + b$, gates in order i, f, g, o (`project`).
        state: `SLSTMState(h, c, n, m)` of the step before, each `(batch, units)`.
        recurrent_kernel: `(heads, units / heads, 4 * units / heads)`, of each head $[U_i, U_f, U_g, U_o]$.
        activation: the function written tanh above.
        recurrent_dropout: mask on $h_{t-1}$, `(batch, units)`.

    Returns:
        `SLSTMStep(h, c, n, m, i, f, g, o)`, each `(batch, units)`.
    """
    heads, width, _ = recurrent_kernel.shape
    h = state.h if recurrent_dropout is None else state.h * recurrent_dropout
    # A product for each head: (heads, batch, units / heads).
    u = project(ops.transpose(ops.reshape(h, (-1, heads, width)), (1, 0, 2)), recurrent_kernel)
    of_gates = [ops.reshape(ops.transpose(part, (1, 0, 2)), ops.shape(h)) for part in ops.split(u, 4, axis=-1)]
    z_i, z_f, z_g, z_o = (x + u for x, u in zip(ops.split(z_x, 4, axis=-1), of_gates, strict=True))
    forgotten = ops.log_sigmoid(z_f) + state.m
    m = ops.maximum(z_i, forgotten)
    i, f = ops.exp(z_i - m), ops.exp(forgotten - m)
    g, o = activation(z_g), ops.sigmoid(z_o)
    c = f * state.c + i * g
    n = f * state.n + i
    return SLSTMStep(h=o * c / n, c=c, n=n, m=m, i=i, f=f, g=g, o=o)
