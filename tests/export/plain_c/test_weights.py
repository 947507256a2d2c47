"""Weights as int8: rounded with a view to what they are multiplied with."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from keras_lstm_custom.export.plain_c import weights
from keras_lstm_custom.export.plain_c.build import emitter_for, read
from keras_lstm_custom.export.plain_c.integer_data import observe
from keras_lstm_custom.export.plain_c.ir import ordered
from tests.export.plain_c.zoo import inputs_for, randomised, sequential

pytestmark = pytest.mark.tensorflow
layers = keras.layers


def product_of(rows: np.ndarray, seen: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return kernel and bias of a dense layer, and those of its product once it is quantised."""
    model = randomised(sequential(layers.Dense(6), shape=rows.shape[1:]))
    outputs = read(model)
    (product,) = [value for value in ordered(outputs) if value.kind == "linear"]
    (kernel,), bias = product.kernels, product.bias
    weights.quantise(outputs, observe(outputs, [rows]).moments if seen else None)
    ((numbers, scales),) = product.quantised
    return kernel, bias, (numbers * scales[:, None]).T, product.bias


@pytest.mark.parametrize(("block", "share"), [(1024, 0.25), (7, 0.5)])
def test_inputs_that_vary_together_make_up_for_each_others_rounding(block, share, monkeypatch):
    monkeypatch.setattr(weights, "BLOCK", block)
    rng = np.random.default_rng(0)
    hidden = rng.standard_normal((400, 3)) @ rng.standard_normal((3, 12)) + 2.0
    x = hidden + 0.05 * rng.standard_normal(hidden.shape)
    errors = {}
    for seen in (False, True):
        kernel, bias, rounded, its_bias = product_of(x[:300], seen)
        assert np.abs(rounded - kernel).max() < 0.1 * np.abs(kernel).max()
        away = x[300:] @ (rounded - kernel) + its_bias - bias
        errors[seen] = float(np.sqrt(np.mean(away**2)))
    assert errors[True] < share * errors[False]


def test_without_a_bias_nothing_stays_nothing():
    """A layer normalisation behind it would make the smallest offset as large as any signal."""
    x = np.abs(np.random.default_rng(0).standard_normal((50, 5)))
    model = randomised(sequential(layers.Dense(6, use_bias=False), shape=(5,)))
    outputs = read(model)
    weights.quantise(outputs, observe(outputs, [x]).moments)
    (product,) = [value for value in ordered(outputs) if value.kind == "linear"]
    assert not product.bias.any()


def test_without_real_input_each_weight_goes_to_the_nearest():
    kernel, bias, rounded, its_bias = product_of(np.ones((4, 5)), seen=False)
    assert (np.abs(rounded - kernel) <= np.abs(kernel).max(0) / 254 * 1.0001).all()
    np.testing.assert_array_equal(its_bias, bias)


@pytest.mark.parametrize("quantize", ["int8", "int16x8"])
def test_weights_of_a_layer_that_is_called_twice_stand_in_flash_once(quantize):
    shared = layers.LSTM(6)
    inputs = [keras.Input((5, 4)), keras.Input((5, 4))]
    twice = randomised(keras.Model(inputs, layers.Concatenate()([shared(x) for x in inputs])))
    once = randomised(keras.Model(inputs[0], layers.Concatenate()([shared(inputs[0]), inputs[0][:, -1]])))
    sizes = []
    for model in (once, twice):
        emitter = emitter_for("net", model, quantize, inputs_for(model, 12))
        for number, phase in enumerate(emitter.schedule.phases):
            emitter.phase(number, phase)
        found = [content for kind, content, *_ in emitter.constants if kind in ("int8_t", "uint32_t")]
        sizes.append(sum(map(len, found)))
    assert sizes[0] == sizes[1] > 0
