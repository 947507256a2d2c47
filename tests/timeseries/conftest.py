"""Forecasters in tests learn from few batches, for which compiling takes longer than running."""

import keras
import pytest


@pytest.fixture(scope="package", autouse=True)
def without_compilation():
    """Under TensorFlow, run training and prediction step by step."""
    if keras.backend.backend() != "tensorflow":
        yield
        return
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)
