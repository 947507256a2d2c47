"""A layer that gives out the mask of its input."""

from __future__ import annotations

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_lstm_custom")
class MaskOf(keras.layers.Layer):
    """The mask that comes with a sequence, as a tensor `(batch, timesteps)`; all True where there is none.

    Keras 3 hands the mask of an input on by itself only to a layer that is called on one tensor. A recurrent layer that
    is called with an `initial_state`, too, reads masked steps, which Keras 2 skipped; with
    `layer(x, initial_state=states, mask=MaskOf()(x))` it skips them.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True
        self.found = False  #: whether the latest input had a mask

    def call(self, inputs, mask=None):
        self.found = mask is not None
        return ops.ones(ops.shape(inputs)[:2], "bool") if mask is None else mask

    def compute_mask(self, inputs, mask=None):
        return None
