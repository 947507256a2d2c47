"""The LSTM cell."""

from __future__ import annotations

import inspect

import keras
from keras import ops

from keras_lstm_custom.cells.base import EquationCell
from keras_lstm_custom.equations import lstm_step
from keras_lstm_custom.options import ClassSignature
from keras_lstm_custom.structures import LSTMState, LSTMStep


@keras.saving.register_keras_serializable(package="keras_lstm_custom")
class LSTMCell(EquationCell, keras.layers.LSTMCell):
    r"""One step of an LSTM, for `keras.layers.RNN` and `keras.layers.StackedRNNCells`.

    $$ c_t = f_t \odot c_{t-1} + i_t \odot g_t, \qquad h_t = o_t \odot \tanh(c_t) $$

    The gates and their source are in `keras_lstm_custom.equations.lstm_step`.

    Weights, as `keras.layers.LSTMCell` has them (gates packed in the order i, f, g, o):

    - `kernel` `(features, 4 * units)`
    - `recurrent_kernel` `(units, 4 * units)`
    - `bias` `(4 * units,)`, absent with `use_bias=False`

    Args: those of `keras.layers.LSTMCell`.

    Call arguments:
        inputs: `(batch, features)`.
        states: `[h, c]`, each `(batch, units)`.
        training: whether dropout applies.

    Returns:
        `(h, [h, c])`, each `(batch, units)`.

    Raises:
        ArgumentError: `units` is not a positive integer, a dropout rate is outside [0, 1), an
            activation is unknown.
    """

    keras_class = keras.layers.LSTMCell
    kind = "lstm"
    state_type = LSTMState
    step_type = LSTMStep
    __signature__ = ClassSignature(inspect.signature(keras_class))

    def step(self, z_x, state, recurrent_dropout=None):
        return lstm_step(
            z_x,
            state,
            ops.cast(self.recurrent_kernel, self.compute_dtype),
            activation=self.activation,
            recurrent_activation=self.recurrent_activation,
            recurrent_dropout=recurrent_dropout,
        )
