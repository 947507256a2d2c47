"""Functions of cells that Keras 3 does not have, or has with other numbers."""

from __future__ import annotations

import keras
from keras import ops

from keras_lstm_custom.structures import Tensor


@keras.saving.register_keras_serializable(package="keras_lstm_custom")
def keras2_hard_sigmoid(z: Tensor) -> Tensor:
    r"""Return $\operatorname{clip}(0.2 z + 0.5,\, 0,\, 1)$, the `hard_sigmoid` of Keras 1 and 2.

    Keras 3 has another function under that name, $\operatorname{clip}(z / 6 + 0.5,\, 0,\, 1)$. The old one was the
    default `recurrent_activation` of `LSTM` and `GRU` up to Keras 2.2. Source: Theano's function of
    that name.
    """
    return ops.clip(0.2 * z + 0.5, 0.0, 1.0)
