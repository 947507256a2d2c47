"""The GRU layer."""

from __future__ import annotations

import keras

from keras_lstm_custom.cells import GRUCell
from keras_lstm_custom.layers.recurrent import Recurrent


@keras.saving.register_keras_serializable(package="keras_lstm_custom")
class GRU(Recurrent):
    r"""The gated recurrent unit, a drop-in for `keras.layers.GRU`.

    $$
    \begin{aligned}
    z_t &= \sigma(W_z x_t + b_z + U_z h_{t-1} + d_z) & r_t &= \sigma(W_r x_t + b_r + U_r h_{t-1} + d_r) \\
    n_t &= \tanh(W_n x_t + b_n + r_t \odot (U_n h_{t-1} + d_n)) & h_t &= z_t \odot h_{t-1} + (1 - z_t) \odot n_t
    \end{aligned}
    $$

    What each gate does, the form with `reset_after=False`, and the source are in
    `keras_lstm_custom.equations.gru_step`. The weights are those of `keras.layers.GRU`, in its order (z, r, n):
    `kernel` `(features, 3 * units)`, `recurrent_kernel` `(units, 3 * units)`, `bias` `(2, 3 * units)` (b and d), or
    `(3 * units,)` with `reset_after=False`.

    Args: every argument of `keras.layers.GRU`, and
        engine: how to run over time: "auto" picks the first engine that can serve; a name from
            `keras_lstm_custom.engines.ENGINES` forces that engine, which raises if it cannot.
        checkpoint_every: for long sequences: training keeps the gates of this many steps at a time and
            computes the others again in the backward pass. The gradients are the same, memory grows
            with `timesteps / checkpoint_every`; None keeps the gates of all steps.

    Call arguments:
        sequences: `(batch, timesteps, features)`.
        initial_state: `[h]`, `(batch, units)`; zeros if None.
        mask: `(batch, timesteps)` booleans. A masked step keeps the state and repeats the output
            before it (zeros at the start), on every backend.
        training: whether dropout applies.

    Returns:
        `h` of the last step `(batch, units)`, or of all steps `(batch, timesteps, units)` with
        `return_sequences=True`; with `return_state=True` followed by the final `h`.

    Raises:
        ArgumentError: an option is not usable.
        EngineError: the engine is unknown, or was forced and cannot serve.
        InputError: the input, the mask or the initial state has the wrong shape.
    """

    keras_class = keras.layers.GRU
    cell_class = GRUCell
