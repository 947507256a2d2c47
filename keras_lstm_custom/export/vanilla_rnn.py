r"""The vanilla RNN written as an LSTM, exactly, so that it too runs in the one fused op.

With the input gate and the candidate held at one and the forget gate at zero, the cell state is
$c = 1$ and the output is $h' = \tanh(1)\,\sigma(z_o)$. As $\tanh z = 2\sigma(2z) - 1$,

$$ z_o = 2z = 2\,(W x_t + U h_{t-1} + b) \quad\Rightarrow\quad h_t = \tfrac{2}{\tanh 1} h'_t - 1 . $$

$h_{t-1}$ is put in through $h'_{t-1}$ in the same way. There is no such op for the vanilla RNN on
microcontrollers, a loop in the file runs wrongly there, and unrolling grows with the sequence.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

SATURATED = 20.0  #: σ(20) = 1 - 2e-9, tanh(20) = 1 in float32
TOP = float(np.tanh(1.0))  #: the largest h'


class LSTMForm(NamedTuple):
    """A vanilla RNN as an LSTM, with the way into its state and out of its outputs."""

    weights: tuple[np.ndarray, np.ndarray, np.ndarray]  #: kernel, recurrent_kernel, bias in Keras' packing
    units: int  #: of the vanilla RNN
    starts_at_zero: bool  #: whether an LSTM state of zero means a vanilla state of zero

    def encode(self, h: Any) -> Any:
        """Return the LSTM's state for the vanilla RNN's state h."""
        return (h + 1.0) * (TOP / 2)

    def decode(self, outputs: Any) -> Any:
        """Return the vanilla RNN's outputs for the LSTM's."""
        own = outputs[..., : self.units] if self.starts_at_zero else outputs
        return own * (2 / TOP) - 1.0


def as_lstm(kernel: np.ndarray, recurrent_kernel: np.ndarray, bias: np.ndarray, starts_at_zero: bool) -> LSTMForm:
    """Return the LSTM that computes `h = tanh(x @ kernel + h @ recurrent_kernel + bias)`.

    Args:
        kernel: `(features, units)`.
        recurrent_kernel: `(units, units)`.
        bias: `(units,)`.
        starts_at_zero: let a state of all zeros stand for h = 0, which is how a file that keeps its
            state begins. It costs one more unit: its output is zero in such a state and `TOP` after
            any step, so that the constant part of the recurrent product comes in only then.
    """
    units = kernel.shape[1]
    offset = recurrent_kernel.sum(axis=0)
    z_kernel, z_recurrent, z_bias = 2 * kernel, (4 / TOP) * recurrent_kernel, 2 * (bias - offset)
    if starts_at_zero:
        z_kernel = np.pad(z_kernel, ((0, 0), (0, 1)))
        z_recurrent = np.pad(z_recurrent, ((0, 1), (0, 1)))
        z_recurrent[-1, :-1] = -2 * offset / TOP
        z_bias = np.append(2 * bias, SATURATED)
    size = len(z_bias)
    held = np.repeat([SATURATED, -SATURATED, SATURATED], size)
    return LSTMForm(
        weights=(
            np.pad(z_kernel, ((0, 0), (3 * size, 0))).astype(np.float32),
            np.pad(z_recurrent, ((0, 0), (3 * size, 0))).astype(np.float32),
            np.concatenate([held, z_bias]).astype(np.float32),
        ),
        units=units,
        starts_at_zero=starts_at_zero,
    )
