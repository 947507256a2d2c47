"""The sLSTM layer."""

from __future__ import annotations

import keras

from keras_lstm_custom.cells import SLSTMCell
from keras_lstm_custom.layers.recurrent import Recurrent


@keras.saving.register_keras_serializable(package="keras_lstm_custom")
class SLSTM(Recurrent):
    r"""The scalar cell of xLSTM: an LSTM with exponential gates and a memory that is a weighted mean.

    $$
    \begin{aligned}
    m_t &= \max(\tilde i_t, \log\sigma(\tilde f_t) + m_{t-1}) & i_t &= \exp(\tilde i_t - m_t) \\
    f_t &= \exp(\log\sigma(\tilde f_t) + m_{t-1} - m_t) & c_t &= f_t \odot c_{t-1} + i_t \odot \tanh(\tilde g_t) \\
    n_t &= f_t \odot n_{t-1} + i_t & h_t &= \sigma(\tilde o_t) \odot c_t / n_t
    \end{aligned}
    $$

    A new input may outweigh all that was read before it, which the LSTM's gates cannot. Source, and what each line
    does: `keras_lstm_custom.equations.slstm_step`. Weights: `keras_lstm_custom.SLSTMCell`.

    Args: every argument of `keras.layers.SimpleRNN`, `heads` of `keras_lstm_custom.SLSTMCell`, and those of
        `keras_lstm_custom.Recurrent`.

    Call arguments:
        sequences: `(batch, timesteps, features)`.
        initial_state: `[h, c, n, m]`, each `(batch, units)`; zeros, and m = -∞, if None.
        mask: `(batch, timesteps)` booleans. A masked step keeps the state and repeats the output
            before it (zeros at the start), on every backend.
        training: whether dropout applies.

    Returns:
        `h` of the last step `(batch, units)`, or of all steps `(batch, timesteps, units)` with
        `return_sequences=True`; with `return_state=True` followed by the final `h`, `c`, `n`, `m`.

    Raises:
        ArgumentError: an option is not usable.
        EngineError: the engine is unknown, or was forced and cannot serve.
        InputError: the input, the mask or the initial state has the wrong shape.
    """

    cell_class = SLSTMCell
