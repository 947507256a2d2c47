"""The layer that stands for `keras.layers.Embedding` while a model is converted."""

from __future__ import annotations

import keras


@keras.saving.register_keras_serializable(package="keras_lstm_custom.export")
class GatheredEmbedding(keras.layers.Embedding):
    """An embedding that is one GATHER.

    Keras counts a negative token from the end, with a SELECT of integers that the microcontroller
    runtime does not have. Tokens of a file are 0 and up.
    """

    def call(self, inputs):
        import tensorflow as tf

        return tf.gather(tf.convert_to_tensor(self.embeddings), tf.cast(inputs, "int32"))
