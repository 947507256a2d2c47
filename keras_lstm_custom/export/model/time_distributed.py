"""The layer that stands for `keras.layers.TimeDistributed` while a model is converted."""

from __future__ import annotations

import inspect
from typing import Any

import keras
from keras import ops

from keras_lstm_custom.models.walk import walk

#: What may look at the whole batch, or keeps a state from row to row.
TOGETHER = (keras.layers.RNN, keras.layers.Lambda, keras.layers.Bidirectional)


@keras.saving.register_keras_serializable(package="keras_lstm_custom.export")
class AtOnce(keras.layers.TimeDistributed):
    """A `TimeDistributed` that runs its layer once, with the steps as rows of the batch.

    Keras calls the layer for each step: a hundred ops for a hundred steps, and slices of five axes, which the
    microcontroller runtime does not have. Keras' own layers treat the rows of a batch alike; others are called for
    each step, as are recurrent ones, whose fused op has one row.
    """

    def call(self, inputs, training=None, mask=None):
        parts = [self.layer, *(layer for _, layer in walk(self.layer))]
        if not all(map(_treats_rows_alike, parts)) or None in inputs.shape[:2]:
            return super().call(inputs, training=training, mask=mask)
        batch, timesteps = inputs.shape[:2]

        def rows(tensor: Any) -> Any:
            return ops.reshape(tensor, (batch * timesteps, *tensor.shape[2:]))

        options = {}
        if mask is not None and "mask" in inspect.signature(self.layer.call).parameters:
            options["mask"] = rows(mask)
        output = self.layer.call(rows(inputs), **options)
        return ops.reshape(output, (batch, timesteps, *output.shape[1:]))


def _treats_rows_alike(layer: Any) -> bool:
    if isinstance(layer, keras.Model):
        return type(layer) in (keras.Sequential, keras.Model) or hasattr(layer, "operations")
    own = getattr(keras.layers, type(layer).__name__, None) is type(layer) or isinstance(layer, AtOnce)
    return own and not isinstance(layer, TOGETHER)
