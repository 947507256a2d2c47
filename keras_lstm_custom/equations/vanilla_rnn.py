"""One step of the vanilla (Elman) RNN."""

from __future__ import annotations

from collections.abc import Callable

from keras import ops

from keras_lstm_custom.equations.projection import DropoutMask, project
from keras_lstm_custom.structures import RNNState, RNNStep, Tensor


def rnn_step(
    z_x: Tensor,
    state: RNNState,
    recurrent_kernel: Tensor,
    *,
    activation: Callable[[Tensor], Tensor] = ops.tanh,
    recurrent_dropout: DropoutMask = None,
) -> RNNStep:
    r"""Compute the new hidden state of a vanilla RNN.

    $$ h_t = \tanh(z_t), \qquad z_t = W x_t + U h_{t-1} + b $$

    Source: Elman 1990, *Finding Structure in Time*; Staudemeyer & Morris 2019 (arXiv 1909.09586),
    section 5.

    Args:
        z_x: `(batch, units)`, the input part $W x_t + b$ (`project`).
        state: `RNNState(h)` of the step before, `(batch, units)`.
        recurrent_kernel: `(units, units)`, $U$.
        activation: the function written tanh above.
        recurrent_dropout: mask on $h_{t-1}$, as in `project`.

    Returns:
        `RNNStep(h, z)`, each `(batch, units)`.
    """
    z = z_x + project(state.h, recurrent_kernel, mask=recurrent_dropout)
    return RNNStep(h=activation(z), z=z)
