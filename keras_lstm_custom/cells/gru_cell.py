"""The GRU cell."""

from __future__ import annotations

import keras
from keras import ops

from keras_lstm_custom.cells.base import EquationCell
from keras_lstm_custom.equations import gru_step
from keras_lstm_custom.structures import GRUStep, RNNState
from keras_lstm_custom.symbols import Formula, Symbol


@keras.saving.register_keras_serializable(package="keras_lstm_custom")
class GRUCell(EquationCell, keras.layers.GRUCell):
    r"""One step of a GRU, for `keras.layers.RNN` and `keras.layers.StackedRNNCells`.

    $$ h_t = z_t \odot h_{t-1} + (1 - z_t) \odot n_t $$

    The gates and their source are in `keras_lstm_custom.equations.gru_step`.

    Weights, as `keras.layers.GRUCell` has them (gates packed in the order z, r, n):

    - `kernel` `(features, 3 * units)`
    - `recurrent_kernel` `(units, 3 * units)`
    - `bias` `(2, 3 * units)`: of the products with x and with h; `(3 * units,)` with `reset_after=False`;
      absent with `use_bias=False`

    Args: those of `keras.layers.GRUCell`.

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

    keras_class = keras.layers.GRUCell
    kind = "gru"
    gates = ("z", "r", "n")
    state_type = RNNState
    step_type = GRUStep
    title = "GRU"
    symbols = {
        "z": Symbol("update gate", "share", does="stays", keeps="h", enters="(1-z_t) n_t"),
        "r": Symbol("reset gate", "share", does="is seen by the candidate"),
        "n": Symbol("candidate", "signed"),
        "h": Symbol("hidden state", "signed"),
    }

    @property
    def features(self):
        return frozenset() if self.reset_after else frozenset({"reset_after=False"})

    @property
    def formulas(self):
        seen = r"r_t \odot (U_n h_{t-1} + d_n)" if self.reset_after else r"U_n (r_t \odot h_{t-1})"
        kept = "[z_t * h_{t-1}]"
        return (
            Formula("z", r"\sigma(W_z x_t + b_z + U_z h_{t-1} + d_z)", "update gate: [z_t %] of the memory stays"),
            Formula("r", r"\sigma(W_r x_t + b_r + U_r h_{t-1} + d_r)", "reset gate: the candidate sees [r_t %] of it"),
            Formula("n", rf"\tanh(W_n x_t + b_n + {seen})", "candidate: the value that h is drawn to"),
            Formula("h", r"z_t \odot h_{t-1} + (1 - z_t) \odot n_t", f"memory and output: {kept} stays"),
        )

    @property
    def input_bias(self):
        return self.bias if self.bias is None or not self.reset_after else self.bias[0]

    def step(self, z_x, state, recurrent_dropout=None):
        bias = self.bias[1] if self.reset_after and self.bias is not None else None
        return gru_step(
            z_x,
            state,
            ops.cast(self.recurrent_kernel, self.compute_dtype),
            None if bias is None else ops.cast(bias, self.compute_dtype),
            reset_after=self.reset_after,
            activation=self.activation,
            recurrent_activation=self.recurrent_activation,
            recurrent_dropout=recurrent_dropout,
        )
