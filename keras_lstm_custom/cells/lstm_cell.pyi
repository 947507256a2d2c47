"""The LSTM cell. Written by tools/stubs.py, with the arguments of Keras 3.15."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias

import keras

from keras_lstm_custom.cells.base import EquationCell

Activation: TypeAlias = str | Callable[..., Any] | None
Constraint: TypeAlias = str | Mapping[str, Any] | Callable[..., Any] | None
DType: TypeAlias = str | Mapping[str, Any] | keras.DTypePolicy | None
Initializer: TypeAlias = str | Mapping[str, Any] | Callable[..., Any] | None
Regularizer: TypeAlias = str | Mapping[str, Any] | Callable[..., Any] | None

class LSTMCell(EquationCell, keras.layers.LSTMCell):
    r"""One step of an LSTM, for `keras.layers.RNN` and `keras.layers.StackedRNNCells`.

    $$ c_t = f_t \odot c_{t-1} + i_t \odot g_t, \qquad h_t = o_t \odot \tanh(c_t) $$

    The gates and their source are in `keras_lstm_custom.equations.lstm_step`; what the options below change is in
    `keras_lstm_custom.equations.lstm_options_step`. They combine.

    Weights, as `keras.layers.LSTMCell` has them (gates packed in the order i, f, g, o; f, g, o if coupled):

    - `kernel` `(features, 4 * units)`
    - `recurrent_kernel` `(units, 4 * units)`; `(projection, 4 * units)` with a projection
    - `bias` `(4 * units,)`, absent with `use_bias=False`

    and after them those of the options:

    - `peephole_i`, `peephole_f`, `peephole_o` `(units,)`, drawn by `kernel_initializer`; no `peephole_i` if coupled
    - `projection_kernel` `(units, projection)`, drawn by `kernel_initializer`
    - `gate_gamma` `(4 * units,)` of layer normalisation "gate"
    - `kernel_norm_gamma`, `kernel_norm_beta`, `recurrent_norm_gamma`, `recurrent_norm_beta` `(4 * units,)`,
      `cell_norm_gamma`, `cell_norm_beta` `(units,)` of "joint" and "addons"

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
        kernel_constraint: bound on the kernel after each update, or None.
        recurrent_constraint: bound on the recurrent kernel after each update, or None.
        bias_constraint: bound on the bias after each update, or None.
        dropout: share of the input that training drops, in [0, 1); one mask for all steps.
        recurrent_dropout: the same for the hidden state that is read.
        seed: of the dropout; None draws one.
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
        name: name of the layer; None makes one.
        dtype: type of the weights and of what is computed, or a policy such as 'mixed_float16'.
        trainable: whether training changes the weights.

    Call arguments:
        inputs: `(batch, features)`.
        states: `[h, c]`, `(batch, projection or units)` and `(batch, units)`.
        training: whether dropout and zoneout apply.

    Returns:
        `(h, [h, c])`.

    Raises:
        ArgumentError: `units` is not a positive integer, a rate is outside [0, 1), an activation is unknown, or options
            do not go together.
    """

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
    kernel_constraint: Any
    recurrent_constraint: Any
    bias_constraint: Any
    dropout: float
    recurrent_dropout: float
    seed: int | None
    peepholes: bool
    coupled: bool
    projection: int | None
    projection_clip: float | None
    layer_normalization: Literal["gate", "joint", "addons"] | None
    cell_clip: float | None
    zoneout: float
    cell_zoneout: float
    recurrent_weight_dropout: float
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
        kernel_constraint: Constraint = None,
        recurrent_constraint: Constraint = None,
        bias_constraint: Constraint = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        seed: int | None = None,
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
        name: str | None = None,
        dtype: DType = None,
        trainable: bool = True,
    ) -> None: ...
