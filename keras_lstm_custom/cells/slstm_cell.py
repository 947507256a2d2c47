"""The sLSTM cell."""

from __future__ import annotations

from typing import Any

import keras

from keras_lstm_custom.cells.recurrent_cell import RecurrentCell
from keras_lstm_custom.equations.slstm import slstm_step
from keras_lstm_custom.errors import ArgumentError
from keras_lstm_custom.structures import SLSTMState, SLSTMStep
from keras_lstm_custom.symbols import Formula, Symbol


@keras.saving.register_keras_serializable(package="keras_lstm_custom")
class SLSTMCell(RecurrentCell):
    r"""One step of an sLSTM, the scalar cell of xLSTM, for `keras.layers.RNN` and `keras.layers.StackedRNNCells`.

    $$ c_t = f_t \odot c_{t-1} + i_t \odot g_t, \quad n_t = f_t \odot n_{t-1} + i_t, \quad h_t = o_t \odot c_t / n_t $$

    The gates, exponential ones with their stabiliser, and their source are in `keras_lstm_custom.equations.slstm_step`.

    Weights (gates packed in the order i, f, g, o): `kernel` `(features, 4 * units)`, `recurrent_kernel`
    `(heads, units / heads, 4 * units / heads)`, `bias` `(4 * units,)`, absent with `use_bias=False`.

    Args: those of `keras.layers.SimpleRNNCell`, and
        heads: how many blocks of units see only their own h; must divide `units`.

    Call arguments:
        inputs: `(batch, features)`.
        states: `[h, c, n, m]`, each `(batch, units)`. A sequence starts from `get_initial_state`: zeros, m = -∞.
        training: whether dropout applies.

    Returns:
        `(h, [h, c, n, m])`, each `(batch, units)`.

    Raises:
        ArgumentError: `units` is not a positive integer, `heads` does not divide it, a dropout rate is outside [0, 1).
    """

    gates = ("i", "f", "g", "o")
    state_type = SLSTMState
    step_type = SLSTMStep
    title = "sLSTM"
    symbols = {
        "i": Symbol("input gate", "share", does="enters"),
        "f": Symbol("forget gate", "share", does="stays", keeps="c", enters="i_t g_t"),
        "g": Symbol("candidate", "signed"),
        "o": Symbol("output gate", "share", does="leaves"),
        "m": Symbol("stabiliser"),
        "n": Symbol("normaliser"),
        "c": Symbol("cell state", label="long-term"),
        "h": Symbol("hidden state", "signed", label="short-term"),
    }
    formulas = (
        Formula("m", r"\max(W_i x_t + U_i h_{t-1} + b_i, \log\sigma(W_f x_t + U_f h_{t-1} + b_f) + m_{t-1})",
                "stabiliser: the largest exponent so far"),
        Formula("f", r"\exp(\log\sigma(W_f x_t + U_f h_{t-1} + b_f) + m_{t-1} - m_t)",
                "forget gate: [f_t %] of the memory stays"),
        Formula("i", r"\exp(W_i x_t + U_i h_{t-1} + b_i - m_t)", "input gate: [i_t %] of the candidate enters"),
        Formula("g", r"\tanh(W_g x_t + U_g h_{t-1} + b_g)", "candidate: pushes the memory [g_t: down, up]"),
        Formula("o", r"\sigma(W_o x_t + U_o h_{t-1} + b_o)", "output gate: [o_t %] of the memory leaves"),
        Formula("c", r"f_t \odot c_{t-1} + i_t \odot g_t", "memory: [f_t * c_{t-1}] stays, [i_t * g_t] enters"),
        Formula("n", r"f_t \odot n_{t-1} + i_t", "normaliser: the sum of the weights in c"),
        Formula("h", r"o_t \odot c_t / n_t", "short-term memory: what leaves of the weighted mean c / n"),
    )  # fmt: skip

    def __init__(self, *args: Any, heads: int = 1, **kwargs: Any):
        super().__init__(*args, **kwargs)
        whole = hasattr(heads, "__index__") and not isinstance(heads, bool)
        if not whole or heads < 1 or self.units % heads:
            raise ArgumentError(
                "`heads` is the number of blocks that the units are cut into.",
                expected=f"a positive integer that divides units = {self.units}",
                received=repr(heads),
                remedy="Pass a divisor of `units`, or heads=1 for one block.",
            )
        self.heads = int(heads)

    @property
    def recurrent_kernel_shape(self):
        width = self.units // self.heads
        return (self.heads, width, len(self.gates) * width)

    def step(self, z_x, state, recurrent_dropout=None):
        return slstm_step(
            z_x,
            state,
            self.tensor("recurrent_kernel"),
            activation=self.activation,
            recurrent_dropout=recurrent_dropout,
        )

    def get_initial_state(self, batch_size=None):
        *zeros, m = super().get_initial_state(batch_size)
        return [*zeros, m - float("inf")]  # `ops.full_like` waits for the GPU on torch

    def get_config(self):
        return {**super().get_config(), "heads": self.heads}
