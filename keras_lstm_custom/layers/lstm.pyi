"""The LSTM layer. Written by tools/stubs.py, with the arguments of Keras 3.15."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias

import keras

from keras_lstm_custom.cells.lstm_cell import LSTMCell
from keras_lstm_custom.layers.recurrent import Recurrent

Activation: TypeAlias = str | Callable[..., Any] | None
Constraint: TypeAlias = str | Mapping[str, Any] | Callable[..., Any] | None
DType: TypeAlias = str | Mapping[str, Any] | keras.DTypePolicy | None
Initializer: TypeAlias = str | Mapping[str, Any] | Callable[..., Any] | None
Regularizer: TypeAlias = str | Mapping[str, Any] | Callable[..., Any] | None

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

    Args:
        units: size of the hidden state, a positive integer.
        activation: function of the candidate and of what leaves; a name, a callable, or None.
        recurrent_activation: function of the gates; a name, a callable, or None.
        use_bias: whether there is a bias.
        kernel_initializer: where the kernel starts from; a name or a Keras initializer.
        recurrent_initializer: where the recurrent kernel starts from; a name or a Keras initializer.
        bias_initializer: where the bias starts from; a name or a Keras initializer.
        unit_forget_bias: whether the forget gate's bias starts at 1.
        kernel_regularizer: penalty on the kernel, or None.
        recurrent_regularizer: penalty on the recurrent kernel, or None.
        bias_regularizer: penalty on the bias, or None.
        activity_regularizer: penalty on the output, or None.
        kernel_constraint: bound on the kernel after each update, or None.
        recurrent_constraint: bound on the recurrent kernel after each update, or None.
        bias_constraint: bound on the bias after each update, or None.
        dropout: share of the input that training drops, in [0, 1); one mask for all steps.
        recurrent_dropout: the same for the hidden state that is read.
        seed: of the dropout; None draws one.
        return_sequences: whether the output holds every step, or the last one alone.
        return_state: whether the final state comes with the output.
        go_backwards: whether the sequence is read from its end; the output is in that order, too.
        stateful: whether a row goes on from the state in which the batch before left it.
        unroll: whether the loop is written out: faster for few steps, and larger.
        use_cudnn: whether cuDNN may serve; better chosen by `engine`.
        peepholes: whether i and f see c_{t-1} and o sees c_t, each by a weight for each unit.
        coupled: whether i = 1 - f: three gates, a quarter fewer weights.
        projection: width of h, at most `units`; None for h as wide as c.
        projection_clip: h is clipped to ± this after the projection; None for no bound.
        layer_normalization: None, "gate" (each gate by itself, the form of TFLite's fused op), "joint" (Ba 2016), or
            "addons" (that of TensorFlow Addons: as "joint", and the normalised c is carried on).
        cell_clip: c is clipped to ± this; None for no bound.
        zoneout: probability that a unit of h keeps its value of the step before, in [0, 1).
        cell_zoneout: the same for c.
        recurrent_weight_dropout: share of the recurrent kernel that training sets to zero, one mask for all steps of
            a call (Merity et al. 2018, AWD-LSTM).
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

    cell: LSTMCell
    units: int
    activation: Any
    recurrent_activation: Any
    use_bias: bool
    kernel_initializer: Any
    recurrent_initializer: Any
    bias_initializer: Any
    unit_forget_bias: bool
    kernel_regularizer: Any
    recurrent_regularizer: Any
    bias_regularizer: Any
    activity_regularizer: Any
    kernel_constraint: Any
    recurrent_constraint: Any
    bias_constraint: Any
    dropout: float
    recurrent_dropout: float
    seed: int | None
    return_sequences: bool
    return_state: bool
    go_backwards: bool
    stateful: bool
    unroll: bool
    use_cudnn: Literal["auto", True, False]
    peepholes: bool
    coupled: bool
    projection: int | None
    projection_clip: float | None
    layer_normalization: Literal["gate", "joint", "addons"] | None
    cell_clip: float | None
    zoneout: float
    cell_zoneout: float
    recurrent_weight_dropout: float
    engine: str
    checkpoint_every: int | None
    def __init__(
        self,
        units: int,
        activation: Activation = "tanh",
        recurrent_activation: Activation = "sigmoid",
        use_bias: bool = True,
        kernel_initializer: Initializer = "glorot_uniform",
        recurrent_initializer: Initializer = "orthogonal",
        bias_initializer: Initializer = "zeros",
        unit_forget_bias: bool = True,
        kernel_regularizer: Regularizer = None,
        recurrent_regularizer: Regularizer = None,
        bias_regularizer: Regularizer = None,
        activity_regularizer: Regularizer = None,
        kernel_constraint: Constraint = None,
        recurrent_constraint: Constraint = None,
        bias_constraint: Constraint = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        seed: int | None = None,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        use_cudnn: Literal["auto", True, False] = "auto",
        *,
        peepholes: bool = False,
        coupled: bool = False,
        projection: int | None = None,
        projection_clip: float | None = None,
        layer_normalization: Literal["gate", "joint", "addons"] | None = None,
        cell_clip: float | None = None,
        zoneout: float = 0.0,
        cell_zoneout: float = 0.0,
        recurrent_weight_dropout: float = 0.0,
        engine: str = "auto",
        checkpoint_every: int | None = None,
        zero_output_for_mask: bool = False,
        name: str | None = None,
        dtype: DType = None,
        trainable: bool = True,
    ) -> None: ...
