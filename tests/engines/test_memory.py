"""Too little memory: the framework's error, of its own class, and what can be done."""

from __future__ import annotations

import gc
from dataclasses import replace

import keras
import numpy as np
import pytest

import keras_lstm_custom as klc
from keras_lstm_custom.engines import ENGINES, memory, registry


def out_of_memory():
    """The error of the backend, as it comes from a device."""
    if keras.backend.backend() == "torch":
        import torch

        return torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    if keras.backend.backend() == "jax":
        import jax

        return jax.errors.JaxRuntimeError(
            "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 2147483648 bytes."
        )
    import tensorflow as tf

    return tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor with shape[2,9]")


@pytest.fixture
def engine_raises(monkeypatch):
    """Let the reference engine raise an error."""

    raised = []

    def let(error):
        raised.append(error)

        def run(request):
            raise error

        monkeypatch.setitem(ENGINES, "reference", replace(ENGINES["reference"], run=run))

    yield let
    for error in raised:  # torch 2.6 keeps the hooks of a checkpoint that raised as long as there are its frames
        error.__traceback__ = None
    gc.collect()


@pytest.mark.parametrize(("every", "says"), [(None, "checkpoint_every=4 keeps"), (2, "checkpoint_every=2 (it is set")])
def test_says_what_is_large_and_what_would_help(engine_raises, every, says):
    error = out_of_memory()
    engine_raises(error)
    layer = klc.LSTM(5, engine="reference", checkpoint_every=every)
    with pytest.raises(type(error)) as raised:
        layer(np.zeros((2, 20, 3), "float32"), training=True)
    text = str(raised.value)
    assert str(getattr(error, "message", error)) in text
    assert says in text
    assert "(20, 2, 20): 0 MiB" in text if every is None else "projected inputs" in text


def test_without_training_nothing_is_kept(engine_raises):
    engine_raises(out_of_memory())
    with pytest.raises(type(out_of_memory())) as raised:
        klc.LSTM(5, engine="reference")(np.zeros((2, 20, 3), "float32"))
    assert "checkpoint_every" not in str(raised.value)
    assert "smaller batches" in str(raised.value)


def test_sizes():
    """64 rows of 512 steps of an LSTM of 512 units in float32: 64 * 512 * 2048 * 4 bytes are 256 MiB."""
    layer = klc.LSTM(512)
    layer.build((64, 512, 16))
    request = layer.request(keras.KerasTensor((64, 512, 16)), [keras.KerasTensor((64, 512))] * 2, training=True)
    text = memory._advice(request)
    assert "projected inputs (512, 64, 2048): 256 MiB" in text
    assert "kept for the gradient: 384 MiB" in text
    assert "checkpoint_every=22" in text


def test_other_errors_stay_as_they_are(engine_raises):
    error = ValueError("no memory of this")
    engine_raises(error)
    layer = klc.LSTM(5, engine="reference")
    layer.build((2, 20, 3))
    request = layer.request(keras.KerasTensor((2, 20, 3)), [keras.KerasTensor((2, 5))] * 2)
    with pytest.raises(ValueError, match="no memory of this") as raised:
        registry.run("reference", request)
    assert raised.value is error
