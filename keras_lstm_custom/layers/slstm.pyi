"""The sLSTM layer. Written by tools/stubs.py, with the arguments of Keras 3.15."""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import keras

from keras_lstm_custom.cells.slstm_cell import SLSTMCell
from keras_lstm_custom.engines.contract import EngineName
from keras_lstm_custom.layers.recurrent import Recurrent

Activation: TypeAlias = str | Callable[..., Any] | None
Constraint: TypeAlias = str | Mapping[str, Any] | Callable[..., Any] | None
DType: TypeAlias = str | Mapping[str, Any] | keras.DTypePolicy | None
Initializer: TypeAlias = str | Mapping[str, Any] | Callable[..., Any] | None
Regularizer: TypeAlias = str | Mapping[str, Any] | Callable[..., Any] | None

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

    Args:
        units: size of the hidden state, a positive integer.
        activation: function of the candidate and of what leaves; a name, a callable, or None.
        use_bias: whether there is a bias.
        kernel_initializer: where the kernel starts from; a name or a Keras initializer.
        recurrent_initializer: where the recurrent kernel starts from; a name or a Keras initializer.
        bias_initializer: where the bias starts from; a name or a Keras initializer.
        kernel_regularizer: penalty on the kernel, or None.
        recurrent_regularizer: penalty on the recurrent kernel, or None.
        bias_regularizer: penalty on the bias, or None.
        activity_regularizer: penalty on the output, or None.
        kernel_constraint: bound on the kernel after each update, or None.
        recurrent_constraint: bound on the recurrent kernel after each update, or None.
        bias_constraint: bound on the bias after each update, or None.
        dropout: share of the input that training drops, in [0, 1); one mask for all steps.
        recurrent_dropout: the same for the hidden state that is read.
        return_sequences: whether the output holds every step, or the last one alone.
        return_state: whether the final state comes with the output.
        go_backwards: whether the sequence is read from its end; the output is in that order, too.
        stateful: whether a row goes on from the state in which the batch before left it.
        unroll: whether the loop is written out: faster for few steps, and larger.
        seed: of the dropout; None draws one.
        heads: how many blocks of units see only their own h; must divide `units`.
        engine: how to run over time: "auto" picks the first engine that can serve; a name from
            `keras_lstm_custom.engines.ENGINES` forces that engine, which raises if it cannot.
        checkpoint_every: for long sequences: training keeps the gates of this many steps at a time and
            computes the others again in the backward pass. The gradients are the same, memory grows
            with `timesteps / checkpoint_every`; None keeps the gates of all steps.
        zero_output_for_mask: whether the output is zero at masked steps, with `return_sequences`.
        name: name of the layer; None makes one.
        dtype: type of the weights and of what is computed, or a policy such as 'mixed_float16'.
        trainable: whether training changes the weights.

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

    cell: SLSTMCell
    units: int
    activation: Any
    use_bias: bool
    kernel_initializer: Any
    recurrent_initializer: Any
    bias_initializer: Any
    kernel_regularizer: Any
    recurrent_regularizer: Any
    bias_regularizer: Any
    activity_regularizer: Any
    kernel_constraint: Any
    recurrent_constraint: Any
    bias_constraint: Any
    dropout: float
    recurrent_dropout: float
    return_sequences: bool
    return_state: bool
    go_backwards: bool
    stateful: bool
    unroll: bool
    seed: int | None
    heads: int
    engine: EngineName
    checkpoint_every: int | None
    def __init__(
        self,
        units: int,
        activation: Activation = "tanh",
        use_bias: bool = True,
        kernel_initializer: Initializer = "glorot_uniform",
        recurrent_initializer: Initializer = "orthogonal",
        bias_initializer: Initializer = "zeros",
        kernel_regularizer: Regularizer = None,
        recurrent_regularizer: Regularizer = None,
        bias_regularizer: Regularizer = None,
        activity_regularizer: Regularizer = None,
        kernel_constraint: Constraint = None,
        recurrent_constraint: Constraint = None,
        bias_constraint: Constraint = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        seed: int | None = None,
        *,
        heads: int = 1,
        engine: EngineName = "auto",
        checkpoint_every: int | None = None,
        zero_output_for_mask: bool = False,
        name: str | None = None,
        dtype: DType = None,
        trainable: bool = True,
    ) -> None: ...
