"""Forecasters in tests learn from few batches, for which compiling takes longer than running."""

import keras
import pytest

from keras_lstm_custom import timeseries
from tests.timeseries.forecasters import QUICK, SMALL, hourly


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


@pytest.fixture(scope="package")
def frame():
    return hourly(tz="+01:00")


@pytest.fixture(scope="package")
def fitted(frame):
    return timeseries.Forecaster("load", **SMALL).fit(frame, **QUICK)
