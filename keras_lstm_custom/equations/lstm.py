"""One step of the LSTM."""

from __future__ import annotations

from collections.abc import Callable

from keras import ops

from keras_lstm_custom.equations.projection import DropoutMask, project
from keras_lstm_custom.structures import LSTMState, LSTMStep, Tensor


def lstm_step(
    z_x: Tensor,
    state: LSTMState,
    recurrent_kernel: Tensor,
    *,
    activation: Callable[[Tensor], Tensor] = ops.tanh,
    recurrent_activation: Callable[[Tensor], Tensor] = ops.sigmoid,
    recurrent_dropout: DropoutMask = None,
) -> LSTMStep:
    r"""Compute all gates and the new state of an LSTM.

    With $x_t$ the input, $h$ the hidden state (short-term memory), $c$ the cell state (long-term
    memory), $\sigma$ the logistic function and $\odot$ the element-wise product:

    $$
    \begin{aligned}
    i_t &= \sigma(W_i x_t + U_i h_{t-1} + b_i) && \text{input gate: how much of the candidate enters} \\
    f_t &= \sigma(W_f x_t + U_f h_{t-1} + b_f) && \text{forget gate: which share of } c_{t-1} \text{ stays} \\
    g_t &= \tanh(W_g x_t + U_g h_{t-1} + b_g) && \text{candidate: how each element of } c \text{ should change} \\
    o_t &= \sigma(W_o x_t + U_o h_{t-1} + b_o) && \text{output gate: which share of the memory leaves} \\
    c_t &= f_t \odot c_{t-1} + i_t \odot g_t \\
    h_t &= o_t \odot \tanh(c_t)
    \end{aligned}
    $$

    The products with the input do not depend on the state, so the caller computes them for all
    steps at once: $z_x = [W_i x_t + b_i,\; W_f x_t + b_f,\; W_g x_t + b_g,\; W_o x_t + b_o]$
    (`project`).

    Source: Hochreiter & Schmidhuber 1997, *Long Short-Term Memory*, with the forget gate of Gers,
    Schmidhuber & Cummins 2000; Staudemeyer & Morris 2019 (arXiv 1909.09586), sections 7 and 8.

    Args:
        z_x: `(batch, 4 * units)`, the input part of the pre-activations, gates in order i, f, g, o.
        state: `LSTMState(h, c)` of the step before, each `(batch, units)`.
        recurrent_kernel: `(units, 4 * units)`, $[U_i, U_f, U_g, U_o]$.
        activation: the function written tanh above.
        recurrent_activation: the function written σ above.
        recurrent_dropout: mask on $h_{t-1}$, as in `project`.

    Returns:
        `LSTMStep(h, c, i, f, g, o)`, each `(batch, units)`.
    """
    z = z_x + project(state.h, recurrent_kernel, mask=recurrent_dropout)
    z_i, z_f, z_g, z_o = ops.split(z, 4, axis=-1)
    i = recurrent_activation(z_i)
    f = recurrent_activation(z_f)
    g = activation(z_g)
    o = recurrent_activation(z_o)
    c = f * state.c + i * g
    h = o * activation(c)
    return LSTMStep(h=h, c=c, i=i, f=f, g=g, o=o)
