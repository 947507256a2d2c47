"""The vanilla RNN cell."""

from __future__ import annotations

import keras
import numpy as np
from keras import ops

from keras_lstm_custom.cells.base import EquationCell
from keras_lstm_custom.cells.lstm_form import LSTMForm
from keras_lstm_custom.equations import rnn_step
from keras_lstm_custom.equations.weight_layout import GATES
from keras_lstm_custom.keras_hooks import stored_as
from keras_lstm_custom.structures import RNNState, RNNStep
from keras_lstm_custom.symbols import Formula, Symbol

SATURATED = 20.0  #: σ(20) = 1 - 2e-9


@keras.saving.register_keras_serializable(package="keras_lstm_custom")
class VanillaRNNCell(EquationCell, keras.layers.SimpleRNNCell):
    r"""One step of a vanilla RNN, for `keras.layers.RNN` and `keras.layers.StackedRNNCells`.

    $$ h_t = \tanh(W x_t + U h_{t-1} + b) $$

    Weights, as `keras.layers.SimpleRNNCell` has them: `kernel` `(features, units)`,
    `recurrent_kernel` `(units, units)`, `bias` `(units,)` (absent with `use_bias=False`).
    Source: `keras_lstm_custom.equations.rnn_step`.

    Args: those of `keras.layers.SimpleRNNCell`.

    Call arguments:
        inputs: `(batch, features)`.
        states: `[h]` or `h`, `(batch, units)`.
        training: whether dropout applies.

    Returns:
        `(h, [h])`, or `(h, h)` when the state came bare; each `(batch, units)`.

    Raises:
        ArgumentError: `units` is not a positive integer, a dropout rate is outside [0, 1), an
            activation is unknown.
    """

    keras_class = keras.layers.SimpleRNNCell
    kind = "vanilla_rnn"
    equation = staticmethod(rnn_step)
    gates = ("h",)
    state_type = RNNState
    step_type = RNNStep
    title = "vanilla RNN"
    symbols = {"z": Symbol("pre-activation"), "h": Symbol("hidden state", "signed")}
    formulas = (
        Formula("z", "W x_t + U h_{t-1} + b", "pre-activation: the input and the state before, weighed"),
        Formula("h", r"\tanh(z_t)", "hidden state, and the layer's output"),
    )

    def step(self, z_x, state, recurrent_dropout=None):
        return rnn_step(
            z_x,
            state,
            ops.cast(self.recurrent_kernel, self.compute_dtype),
            activation=self.activation,
            recurrent_dropout=recurrent_dropout,
        )

    def lstm_form(self, values, gain):
        r"""Return an LSTM whose forget gate is held at zero, its output gate at one, its input gate at γ, the gain.

        With the pre-activation in the candidate, $c_t = \gamma \tanh(z_t) = \gamma h_t$, and the LSTM puts out

        $$ h'_t = \tanh(\gamma h_t) = \gamma h_t \left(1 - \tfrac{1}{3} (\gamma h_t)^2 + \dots\right), $$

        which is $\gamma h_t$ up to a share of $\gamma^2 / 3$. The recurrent kernel and the outputs are divided by
        $\gamma$, and a state of zero stays a state of zero. The price is four times the multiplications.
        """
        kernel, recurrent_kernel = values(self.kernel), values(self.recurrent_kernel)
        bias = np.zeros(self.units) if self.bias is None else values(self.bias)
        held = {"i": np.log(gain / (1 - gain)), "f": -SATURATED, "o": SATURATED}

        def in_candidate(array, others):
            return {gate: np.float32(array if gate == "g" else np.full_like(array, others[gate])) for gate in GATES}

        nothing = dict.fromkeys(held, 0.0)
        return LSTMForm(
            in_candidate(kernel, nothing),
            in_candidate(recurrent_kernel / gain, nothing),
            in_candidate(bias, held),
            gain=gain,
        )


VanillaRNNCell.__name__ = stored_as(VanillaRNNCell, keras.layers.SimpleRNNCell)
