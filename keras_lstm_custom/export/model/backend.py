"""The one condition of every export."""

from __future__ import annotations

import keras

from keras_lstm_custom.errors import ExportError


def check_backend() -> None:
    """Raise `ExportError` unless Keras runs on TensorFlow."""
    if keras.backend.backend() != "tensorflow":
        raise ExportError(
            "TensorFlow makes every exported file.",
            expected="the TensorFlow backend",
            received=f"KERAS_BACKEND={keras.backend.backend()}",
            remedy="Save the model with model.save('model.keras'), and export it with KERAS_BACKEND=tensorflow.",
        )
