"""One step of the gated recurrent unit."""

from __future__ import annotations

from collections.abc import Callable

from keras import ops

from keras_lstm_custom.equations.projection import DropoutMask, project
from keras_lstm_custom.structures import GRUStep, RNNState, Tensor


def gru_step(
    z_x: Tensor,
    state: RNNState,
    recurrent_kernel: Tensor,
    recurrent_bias: Tensor | None = None,
    *,
    reset_after: bool = True,
    activation: Callable[[Tensor], Tensor] = ops.tanh,
    recurrent_activation: Callable[[Tensor], Tensor] = ops.sigmoid,
    recurrent_dropout: DropoutMask = None,
) -> GRUStep:
    r"""Compute the gates and the new hidden state of a GRU.

    $$
    \begin{aligned}
    z_t &= \sigma(W_z x_t + b_z + U_z h_{t-1} + d_z) && \text{update gate: which share of } h_{t-1} \text{ stays} \\
    r_t &= \sigma(W_r x_t + b_r + U_r h_{t-1} + d_r) && \text{reset gate: how much of it the candidate sees} \\
    n_t &= \tanh(W_n x_t + b_n + r_t \odot (U_n h_{t-1} + d_n)) && \text{candidate} \\
    h_t &= z_t \odot h_{t-1} + (1 - z_t) \odot n_t
    \end{aligned}
    $$

    That is `reset_after=True`, the form of cuDNN. With `reset_after=False`, the form of the paper, the gate comes
    before the product, $n_t = \tanh(W_n x_t + b_n + U_n (r_t \odot h_{t-1}))$, and there is no second bias d.

    Source: Cho et al. 2014, *Learning Phrase Representations using RNN Encoder-Decoder* (arXiv 1406.1078),
    equations 5 to 8.

    Args:
        z_x: `(batch, 3 * units)`, the input part $W x_t + b$, gates in order z, r, n (`project`).
        state: `RNNState(h)` of the step before, `(batch, units)`.
        recurrent_kernel: `(units, 3 * units)`, $[U_z, U_r, U_n]$.
        recurrent_bias: `(3 * units,)`, $[d_z, d_r, d_n]$, or None.
        reset_after: whether the reset gate applies after the product with $h_{t-1}$.
        activation: the function written tanh above.
        recurrent_activation: the function written σ above.
        recurrent_dropout: mask on $h_{t-1}$, as in `project`.

    Returns:
        `GRUStep(h, z, r, n)`, each `(batch, units)`.
    """
    x_z, x_r, x_n = ops.split(z_x, 3, axis=-1)
    if reset_after:
        u_z, u_r, u_n = ops.split(project(state.h, recurrent_kernel, recurrent_bias, recurrent_dropout), 3, axis=-1)
        z, r = recurrent_activation(x_z + u_z), recurrent_activation(x_r + u_r)
        n = activation(x_n + r * u_n)
    else:
        *of_gates, of_n = recurrent_dropout if isinstance(recurrent_dropout, (list, tuple)) else [recurrent_dropout] * 2
        gates = 2 * state.h.shape[-1]
        to_gates, to_n = recurrent_kernel[:, :gates], recurrent_kernel[:, gates:]  # `ops.split` waits for the GPU
        u_z, u_r = ops.split(
            project(state.h, to_gates, mask=of_gates if len(of_gates) > 1 else of_gates[0]), 2, axis=-1
        )
        z, r = recurrent_activation(x_z + u_z), recurrent_activation(x_r + u_r)
        n = activation(x_n + project(r * state.h, to_n, mask=of_n))
    return GRUStep(h=z * state.h + (1 - z) * n, z=z, r=r, n=n)
