"""The sLSTM cell. Written by tools/stubs.py, with the arguments of Keras 3.15."""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import keras

from keras_lstm_custom.cells.recurrent_cell import RecurrentCell

Activation: TypeAlias = str | Callable[..., Any] | None
Constraint: TypeAlias = str | Mapping[str, Any] | Callable[..., Any] | None
DType: TypeAlias = str | Mapping[str, Any] | keras.DTypePolicy | None
Initializer: TypeAlias = str | Mapping[str, Any] | Callable[..., Any] | None
Regularizer: TypeAlias = str | Mapping[str, Any] | Callable[..., Any] | None

class SLSTMCell(RecurrentCell):
    r"""One step of an sLSTM, the scalar cell of xLSTM, for `keras.layers.RNN` and `keras.layers.StackedRNNCells`.

    $$ c_t = f_t \odot c_{t-1} + i_t \odot g_t, \quad n_t = f_t \odot n_{t-1} + i_t, \quad h_t = o_t \odot c_t / n_t $$

    The gates, exponential ones with their stabiliser, and their source are in `keras_lstm_custom.equations.slstm_step`.

    Weights (gates packed in the order i, f, g, o): `kernel` `(features, 4 * units)`, `recurrent_kernel`
    `(heads, units / heads, 4 * units / heads)`, `bias` `(4 * units,)`, absent with `use_bias=False`.

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
        kernel_constraint: bound on the kernel after each update, or None.
        recurrent_constraint: bound on the recurrent kernel after each update, or None.
        bias_constraint: bound on the bias after each update, or None.
        dropout: share of the input that training drops, in [0, 1); one mask for all steps.
        recurrent_dropout: the same for the hidden state that is read.
        seed: of the dropout; None draws one.
        heads: how many blocks of units see only their own h; must divide `units`.
        name: name of the layer; None makes one.
        dtype: type of the weights and of what is computed, or a policy such as 'mixed_float16'.
        trainable: whether training changes the weights.

    Call arguments:
        inputs: `(batch, features)`.
        states: `[h, c, n, m]`, each `(batch, units)`. A sequence starts from `get_initial_state`: zeros, m = -∞.
        training: whether dropout applies.

    Returns:
        `(h, [h, c, n, m])`, each `(batch, units)`.

    Raises:
        ArgumentError: `units` is not a positive integer, `heads` does not divide it, a dropout rate is outside [0, 1).
    """

    units: int
    activation: Any
    use_bias: bool
    kernel_initializer: Any
    recurrent_initializer: Any
    bias_initializer: Any
    kernel_regularizer: Any
    recurrent_regularizer: Any
    bias_regularizer: Any
    kernel_constraint: Any
    recurrent_constraint: Any
    bias_constraint: Any
    dropout: float
    recurrent_dropout: float
    seed: int | None
    heads: int
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
        kernel_constraint: Constraint = None,
        recurrent_constraint: Constraint = None,
        bias_constraint: Constraint = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        seed: int | None = None,
        *,
        heads: int = 1,
        name: str | None = None,
        dtype: DType = None,
        trainable: bool = True,
    ) -> None: ...
