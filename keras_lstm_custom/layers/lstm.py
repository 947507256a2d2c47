"""The LSTM layer."""

from __future__ import annotations

import keras

from keras_lstm_custom.cells import LSTMCell
from keras_lstm_custom.layers.recurrent import Recurrent


@keras.saving.register_keras_serializable(package="keras_lstm_custom")
class LSTM(Recurrent):
    r"""Long short-term memory, a drop-in for `keras.layers.LSTM`.

    $$
    \begin{aligned}
    i_t &= \sigma(W_i x_t + U_i h_{t-1} + b_i) & f_t &= \sigma(W_f x_t + U_f h_{t-1} + b_f) \\
    g_t &= \tanh(W_g x_t + U_g h_{t-1} + b_g) & o_t &= \sigma(W_o x_t + U_o h_{t-1} + b_o) \\
    c_t &= f_t \odot c_{t-1} + i_t \odot g_t & h_t &= o_t \odot \tanh(c_t)
    \end{aligned}
    $$

    What each gate does, and the source, is in `keras_lstm_custom.equations.lstm_step`. The weights
    are those of `keras.layers.LSTM`, in its order (i, f, g, o): `kernel` `(features, 4 * units)`,
    `recurrent_kernel` `(units, 4 * units)`, `bias` `(4 * units,)`; so `set_weights` moves them both
    ways.

    ```python
    layer = LSTM(64, return_sequences=True)
    outputs = layer(x)                            # (batch, timesteps, 64)
    print(layer.explain_engine((32, 100, 8)))     # which engine serves, and why
    ```

    Args: every argument of `keras.layers.LSTM`, the options of `keras_lstm_custom.LSTMCell`, which combine, and those
        of `keras_lstm_custom.Recurrent`.

    Call arguments:
        sequences: `(batch, timesteps, features)`.
        initial_state: `[h, c]`, each `(batch, units)`; zeros if None.
        mask: `(batch, timesteps)` booleans. A masked step keeps the state and repeats the output
            before it (zeros at the start), on every backend.
        training: whether dropout applies.

    Returns:
        `h` of the last step `(batch, units)`, or of all steps `(batch, timesteps, units)` with
        `return_sequences=True`; with `return_state=True` followed by the final `h` and `c`.

    Raises:
        ArgumentError: an option is not usable.
        EngineError: the engine is unknown, or was forced and cannot serve.
        InputError: the input, the mask or the initial state has the wrong shape.
    """

    keras_class = keras.layers.LSTM
    cell_class = LSTMCell
