"""Float files: one fused op for each direction, right on both runtimes, invocation after invocation."""

import keras
import numpy as np
import pytest

import keras_lstm_custom as klc
from tests.export import models
from tests.export.conftest import exported
from tests.export.interpreters import LITERT, LITERT_PLAIN, MICRO, RUNTIMES, run

pytestmark = pytest.mark.tensorflow

layers = keras.layers

#: float32 rounds at 6e-8; the vanilla RNN's h = 2 h'/tanh(1) - 1 loses two bits.
TOLERANCE = 3e-6

#: How many fused ops each model must have.
FUSED = dict.fromkeys(models.MODELS, 1)
FUSED |= dict.fromkeys(["ours", "theirs", "two_cell_sizes", "backwards", "vanilla", "vanilla_sequences", "skip"], 2)
FUSED |= dict.fromkeys(["skip_concatenate", "several", "nested", "shared", "encoder_decoder"], 2)
FUSED |= {"bidirectional": 4, "cells": 4, "time_distributed": 4}  # one for each of three outer steps, and one


def convert(model, **options):
    from keras_lstm_custom.export.model.prepare import prepare
    from tests.export.files import float_file

    stateful = options.pop("stateful", False)
    return float_file(prepare(model, **options), stateful=stateful)


def ops(content):
    from tests.export.files import op_counts

    return op_counts(content)


@pytest.mark.parametrize("runtime", [*RUNTIMES, LITERT_PLAIN])
def test_a_file_gives_the_models_numbers(zoo, runtime):
    """The rows go in one after another without a reset, so a state that is kept would show."""
    for got, expected in zip(run(zoo.content, zoo.inputs, runtime), zoo.outputs, strict=True):
        np.testing.assert_allclose(got, expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("name", models.MODELS)
def test_every_direction_is_one_fused_op(name):
    counts = ops(exported(name).content)
    assert counts["UNIDIRECTIONAL_SEQUENCE_LSTM"] == FUSED[name]
    assert "WHILE" not in counts
    assert not [op for op in counts if op.startswith(("Flex", "keras"))]


@pytest.mark.parametrize("name", ["ours", "bidirectional"])
def test_the_data_of_each_tensor_is_aligned(name):
    """As the schema asks; the generated classes write it at any address."""
    from ai_edge_litert.schema_py_generated import Model

    content = np.frombuffer(exported(name).content, np.uint8)
    file = Model.GetRootAs(content)
    data = [file.Buffers(k).DataAsNumpy() for k in range(file.BuffersLength()) if file.Buffers(k).DataLength()]
    assert len(data) > 10
    assert {(values.ctypes.data - content.ctypes.data) % 16 for values in data} == {0}


def test_names_and_order_are_the_models():
    from keras_lstm_custom.export.file.graph import Graph, signature_of

    inputs, outputs = signature_of(Graph(exported("several").content))
    assert list(inputs) == ["zulu", "alpha"]
    assert [*outputs][::2] == ["yes", "class"]


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_the_cell_is_not_clipped(runtime):
    """An integrator whose cell state goes to 40; the op clips at 10 as the converter writes it."""
    model, x = integrator(timesteps=100)
    (got,) = run(convert(model), [x], runtime)
    np.testing.assert_allclose(got, model(x), rtol=0, atol=2e-5)  # the microcontroller's float tanh is good to 1e-5


def integrator(timesteps):
    model = keras.Sequential([keras.Input((timesteps, 3)), layers.LSTM(4, return_sequences=True)])
    rng = np.random.default_rng(3)
    kernel, recurrent_kernel = (0.05 * rng.standard_normal(shape) for shape in ((3, 16), (4, 16)))
    kernel[0, 8:12] += [1.0, 0.8, 0.5, -1.0]
    model.set_weights([kernel, recurrent_kernel, np.repeat([8.0, 8.0, 0.0, 8.0], 4)])
    x = np.zeros((1, timesteps, 3), np.float32)
    x[0, : timesteps // 2, 0], x[0, timesteps // 2 :, 0] = 1, -1
    return model, x


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("layer", [klc.LSTM, klc.VanillaRNN])
def test_a_stateful_file_continues_where_it_stopped(layer, runtime):
    model = models.randomised(keras.Sequential([keras.Input((None, 3)), layer(5, return_sequences=True)]))
    x = np.random.default_rng(1).standard_normal((1, 9, 3)).astype(np.float32)
    content = convert(model, timesteps=3, stateful=True)
    (got,) = run(content, [x.reshape(3, 3, 3)], runtime)
    np.testing.assert_allclose(got.reshape(1, 9, 5), model(x), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_the_state_of_a_stateful_file_can_be_reset(runtime):
    model = models.randomised(models.vanilla())
    x = models.inputs_for(model, rows=3)
    (got,) = run(convert(model, stateful=True), x, runtime, reset=True)
    np.testing.assert_allclose(got, model(x[0]), rtol=0, atol=TOLERANCE)


def test_a_length_can_be_chosen():
    model = models.randomised(models.open_length())
    x = models.inputs_for(model, rows=2, timesteps=13)
    np.testing.assert_allclose(run(convert(model, timesteps=13), x)[0], model(x[0]), rtol=0, atol=TOLERANCE)


def test_a_stateful_model_with_its_own_batch_size():
    model = keras.Sequential([keras.Input(batch_shape=(4, 6, 3)), layers.LSTM(5, stateful=True), layers.Dense(2)])
    models.randomised(model)
    x = np.random.default_rng(1).standard_normal((4, 6, 3)).astype(np.float32)
    expected = np.asarray(model(x))
    np.testing.assert_allclose(run(convert(model), [x])[0], expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float64"])
def test_a_model_of_another_dtype_is_exported_in_float32(policy):
    keras.config.set_dtype_policy(policy)
    model = models.randomised(models.theirs())
    x = models.inputs_for(model, rows=2)
    coarse = {"mixed_float16": 2e-3, "mixed_bfloat16": 2e-2, "float64": TOLERANCE}[policy]
    np.testing.assert_allclose(run(convert(model), x, MICRO)[0], model(x[0]), rtol=0, atol=coarse)


def test_the_model_is_left_as_it_is():
    model = models.randomised(models.ours())
    x = models.inputs_for(model, rows=2)[0]
    before = np.asarray(model(x))
    convert(model)
    np.testing.assert_array_equal(model(x), before)
    assert isinstance(model.layers[0], klc.LSTM)


def test_dropout_is_not_in_the_file():
    model = keras.Sequential(
        [keras.Input((7, 5)), layers.LSTM(6, dropout=0.5, recurrent_dropout=0.5), layers.Dropout(0.5), layers.Dense(2)]
    )
    models.randomised(model)
    x = models.inputs_for(model, rows=2)
    np.testing.assert_allclose(run(convert(model), x, LITERT)[0], model(x[0]), rtol=0, atol=TOLERANCE)
