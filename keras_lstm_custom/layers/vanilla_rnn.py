"""The vanilla RNN layer."""

from __future__ import annotations

import keras

from keras_lstm_custom.cells import VanillaRNNCell
from keras_lstm_custom.keras_hooks import stored_as
from keras_lstm_custom.layers.recurrent import Recurrent


@keras.saving.register_keras_serializable(package="keras_lstm_custom")
class VanillaRNN(Recurrent):
    r"""The vanilla (Elman) RNN, a drop-in for `keras.layers.SimpleRNN`.

    $$ h_t = \tanh(W x_t + U h_{t-1} + b) $$

    The hidden state is fed back at every step. Over many steps its gradient is a product of as
    many Jacobians and vanishes or explodes, which is what the LSTM's gates mend. Source:
    `keras_lstm_custom.equations.rnn_step`. The weights are those of `keras.layers.SimpleRNN`:
    `kernel` `(features, units)`, `recurrent_kernel` `(units, units)`, `bias` `(units,)`.

    Args: every argument of `keras.layers.SimpleRNN`, and
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

    keras_class = keras.layers.SimpleRNN
    cell_class = VanillaRNNCell
    cell_name = "simple_rnn_cell"


VanillaRNN.__name__ = stored_as(VanillaRNN, keras.layers.SimpleRNN)
