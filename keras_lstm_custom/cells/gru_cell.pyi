"""The GRU cell. Written by tools/stubs.py, with the arguments of Keras 3.15."""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import keras

from keras_lstm_custom.cells.base import EquationCell

Activation: TypeAlias = str | Callable[..., Any] | None
Constraint: TypeAlias = str | Mapping[str, Any] | Callable[..., Any] | None
DType: TypeAlias = str | Mapping[str, Any] | keras.DTypePolicy | None
Initializer: TypeAlias = str | Mapping[str, Any] | Callable[..., Any] | None
Regularizer: TypeAlias = str | Mapping[str, Any] | Callable[..., Any] | None

class GRUCell(EquationCell, keras.layers.GRUCell):
    r"""One step of a GRU, for `keras.layers.RNN` and `keras.layers.StackedRNNCells`.

    $$ h_t = z_t \odot h_{t-1} + (1 - z_t) \odot n_t $$

    The gates and their source are in `keras_lstm_custom.equations.gru_step`.

    Weights, as `keras.layers.GRUCell` has them (gates packed in the order z, r, n):

    - `kernel` `(features, 3 * units)`
    - `recurrent_kernel` `(units, 3 * units)`
    - `bias` `(2, 3 * units)`: of the products with x and with h; `(3 * units,)` with `reset_after=False`;
      absent with `use_bias=False`

    Args:
        units: size of the hidden state, a positive integer.
        activation: function of the candidate and of what leaves; a name, a callable, or None.
        recurrent_activation: function of the gates; a name, a callable, or None.
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
        reset_after: whether the reset gate comes after the product with the recurrent kernel.
        seed: of the dropout; None draws one.
        name: name of the layer; None makes one.
        dtype: type of the weights and of what is computed, or a policy such as 'mixed_float16'.
        trainable: whether training changes the weights.

    Call arguments:
        inputs: `(batch, features)`.
        states: `[h]` or `h`, `(batch, units)`.
        training: whether dropout applies.

    Returns:
        `(h, [h])`, or `(h, h)` when the state came bare; each `(batch, units)`.

    Raises:
        ArgumentError: `units` is not a positive integer, a dropout rate is outside [0, 1), an
            activation is unknown.
    """

    units: int
    activation: Any
    recurrent_activation: Any
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
    reset_after: bool
    seed: int | None
    def __init__(
        self,
        units: int,
        activation: Activation = "tanh",
        recurrent_activation: Activation = "sigmoid",
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
        reset_after: bool = True,
        seed: int | None = None,
        *,
        name: str | None = None,
        dtype: DType = None,
        trainable: bool = True,
    ) -> None: ...
