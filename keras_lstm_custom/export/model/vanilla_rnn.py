r"""The vanilla RNN written as an LSTM, so that it too runs in the one fused op.

Hold the forget gate at zero, the output gate at one, and the input gate at a small gain $\gamma$.
With the vanilla pre-activation in the candidate, $c_t = \gamma \tanh(z_t) = \gamma h_t$, and the op puts out

$$ h'_t = \tanh(\gamma h_t) = \gamma h_t \left(1 - \tfrac{1}{3} (\gamma h_t)^2 + \dots\right), $$

which is $\gamma h_t$ up to a share of $\gamma^2 / 3$. The recurrent kernel and the outputs are divided by
$\gamma$, and a state of zero stays a state of zero.

There is no op for the vanilla RNN on microcontrollers, a loop in the file runs wrongly there, and
unrolling grows with the sequence. The price is four times the multiplications.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

FLOAT_GAIN = 2.0**-11  #: a share of 8e-8, the rounding of float32
#: A share of 1e-3, well below what int8 weights cost, with 2^11 steps left of the cell state's int16.
INTEGER_GAIN = 2.0**-4
SATURATED = 20.0  #: σ(20) = 1 - 2e-9


class LSTMForm(NamedTuple):
    """A vanilla RNN as an LSTM, with the way into its state and out of its outputs."""

    kernel: np.ndarray
    recurrent_kernel: np.ndarray
    bias: np.ndarray
    gain: float

    def encode(self, h: Any) -> Any:
        """Return the LSTM's state for the vanilla RNN's state h."""
        return h * self.gain

    def decode(self, outputs: Any) -> Any:
        """Return the vanilla RNN's outputs for the LSTM's."""
        return outputs / self.gain


def as_lstm(kernel: np.ndarray, recurrent_kernel: np.ndarray, bias: np.ndarray, gain: float) -> LSTMForm:
    """Return the LSTM, in Keras' packing, that computes `h = tanh(x @ kernel + h @ recurrent_kernel + bias)`.

    Args:
        kernel: `(features, units)`.
        recurrent_kernel: `(units, units)`.
        bias: `(units,)`.
        gain: γ above, between 0 and 1.
    """
    units = kernel.shape[1]
    held = np.full(units, np.log(gain / (1 - gain))), np.full(units, -SATURATED), np.full(units, SATURATED)
    around = ((0, 0), (2 * units, units))  # the candidate stands third of i, f, g, o
    return LSTMForm(
        np.pad(kernel, around).astype(np.float32),
        np.pad(recurrent_kernel / gain, around).astype(np.float32),
        np.concatenate([held[0], held[1], bias, held[2]]).astype(np.float32),
        gain,
    )
