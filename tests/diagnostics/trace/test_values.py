"""`trace` against the NumPy oracle, and against what the model itself gives out."""

from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_lstm_custom import LSTM, VanillaRNN, trace
from keras_lstm_custom.diagnostics import tracing
from tests.diagnostics.trace.models import (
    BATCH,
    FEATURES,
    KERAS,
    OURS,
    TIMESTEPS,
    TOLERANCE,
    UNITS,
    assert_agrees,
    oracle,
    randomised,
)


@pytest.mark.parametrize("kind", ["lstm", "vanilla_rnn"])
@pytest.mark.parametrize("source", [OURS, KERAS], ids=["ours", "keras"])
@pytest.mark.parametrize(("go_backwards", "unroll"), [(False, False), (True, False), (False, True)])
def test_agrees_with_the_oracle_from_a_given_state_and_under_a_mask(kind, source, go_backwards, unroll, rng, x):
    states = [rng.normal(size=(BATCH, UNITS)).astype("float32") for _ in range(2 if kind == "lstm" else 1)]
    sequences = keras.Input((TIMESTEPS, FEATURES))
    state_inputs = [keras.Input((UNITS,)) for _ in states]
    mask_input = keras.Input((TIMESTEPS,), dtype="bool")  # beside a state, Keras drops the mask of a Masking layer
    layer = source[kind](UNITS, go_backwards=go_backwards, unroll=unroll, return_sequences=True, name="memory")
    output = layer(sequences, initial_state=state_inputs, mask=mask_input)
    model = randomised(keras.Model([sequences, mask_input, *state_inputs], output), rng)
    mask = np.ones((BATCH, TIMESTEPS), bool)
    mask[0, 2:4] = mask[1, 0] = mask[2, -1] = False  # in the middle, at the start, at the end
    traced = trace(model, [x, mask, *states])["memory"]
    assert_agrees(traced, oracle(layer, x, states, mask, go_backwards))
    np.testing.assert_array_equal(traced.mask, mask)
    np.testing.assert_array_equal(traced.x, x)
    np.testing.assert_array_equal(traced.initial_h, states[0])


@pytest.mark.parametrize("kind", ["lstm", "vanilla_rnn"])
def test_h_is_the_layers_output_bit_for_bit(kind, rng, x):
    layer = OURS[kind](UNITS, return_sequences=True, engine="reference")
    model = randomised(keras.Sequential([keras.Input((TIMESTEPS, FEATURES)), layer]), rng)
    output = ops.convert_to_numpy(model(ops.convert_to_tensor(x), training=False))
    assert layer.last_engine == "reference"
    np.testing.assert_array_equal(trace(model, x)[layer.name].h, output)


@pytest.mark.parametrize("return_sequences", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_a_stack_of_cells_computes_what_keras_computes(return_sequences, masked, rng, x):
    x[0, 2:4] = x[1, 0] = x[2, -1] = 0
    stack = layers.StackedRNNCells([layers.LSTMCell(5), layers.SimpleRNNCell(UNITS)])
    model = keras.Sequential(
        [
            keras.Input((TIMESTEPS, FEATURES)),
            *([layers.Masking()] if masked else []),
            layers.RNN(stack, return_sequences=return_sequences, go_backwards=True),
            layers.Activation("linear") if return_sequences else layers.RepeatVector(2),
            LSTM(3, name="after"),
        ]
    )
    randomised(model, rng)
    given = trace(model, x)["after"].x
    expected = ops.convert_to_numpy(keras.Sequential(model.layers[:-1])(ops.convert_to_tensor(x)))
    np.testing.assert_allclose(given, expected, **TOLERANCE)


def test_a_stateful_layer_is_read_from_its_state_and_left_in_it(rng, x):
    for source in (LSTM, layers.LSTM):
        layer = source(UNITS, stateful=True, return_sequences=True, name="memory")
        model = randomised(keras.Sequential([keras.Input(batch_shape=(BATCH, TIMESTEPS, FEATURES)), layer]), rng)
        model(x)
        before = [ops.convert_to_numpy(state) for state in layer.states]
        assert np.abs(before).min() > 0
        assert_agrees(trace(model, x)["memory"], oracle(layer, x, before))
        np.testing.assert_array_equal([ops.convert_to_numpy(state) for state in layer.states], before)


@pytest.mark.parametrize("return_sequences", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("go_backwards", [False, True])
def test_chunks_of_batch_and_time_change_nothing(return_sequences, masked, go_backwards, rng, x, monkeypatch):
    x[0, 2:5] = x[1, :4] = x[2, -3:] = 0
    model = keras.Sequential(
        [
            keras.Input((TIMESTEPS, FEATURES)),
            *([layers.Masking()] if masked else []),
            LSTM(UNITS, return_sequences=return_sequences, go_backwards=go_backwards, name="first"),
            *([] if return_sequences else [layers.RepeatVector(TIMESTEPS)]),
            VanillaRNN(3, name="second"),
        ]
    )
    randomised(model, rng)
    whole = trace(model, x)
    monkeypatch.setattr(tracing, "CHUNK", 2 * 2 * UNITS * 10)  # two steps of two sequences
    parts = trace(model, x, batch_size=2)
    for name in whole:
        for symbol in ("x", *whole[name].symbols):
            # Products of fewer rows may be summed in another order: a few roundings of numbers of order 1.
            np.testing.assert_allclose(getattr(parts[name], symbol), getattr(whole[name], symbol), rtol=1e-6, atol=1e-6)


def test_mixed_precision_is_traced_as_it_was_computed(x):
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = keras.Sequential(
        [keras.Input((TIMESTEPS, FEATURES)), LSTM(UNITS, return_sequences=True, engine="reference", name="lstm")]
    )
    traced = trace(model, x)["lstm"]
    assert traced.h.dtype == np.float32
    np.testing.assert_array_equal(traced.h, ops.convert_to_numpy(ops.cast(model(x), "float32")))


def test_what_is_forgotten_kept_and_entered_adds_up(rng, x):
    for go_backwards in (False, True):
        layer = LSTM(UNITS, go_backwards=go_backwards)
        model = randomised(keras.Sequential([keras.Input((TIMESTEPS, FEATURES)), layer]), rng)
        t = trace(model, x)[layer.name]
        np.testing.assert_allclose(t.kept + t.entered, t.c, **TOLERANCE)
        np.testing.assert_allclose(t.kept + t.forgotten, t.c_before, **TOLERANCE)
        first, second = (-1, -2) if go_backwards else (0, 1)
        np.testing.assert_array_equal(t.c_before[:, first], t.initial_c)
        np.testing.assert_array_equal(t.h_before[:, second], t.h[:, first])


def test_what_stands_before_a_layer_of_keras_is_the_model_itself(x):
    normalise = layers.Normalization()
    normalise.adapt(x * 5 + 3)
    factor = 0.5
    scale = layers.Lambda(lambda v: v * factor)
    model = keras.Sequential([keras.Input(x.shape[1:]), normalise, scale, layers.LSTM(2, name="memory")])
    np.testing.assert_allclose(trace(model, x)["memory"].h[:, -1], ops.convert_to_numpy(model(x)), atol=1e-6)


def test_two_threads_trace_one_model_of_keras(rng, x):
    model = randomised(keras.Sequential([keras.Input(x.shape[1:]), layers.LSTM(2, name="memory")]), rng)
    expected = trace(model, x)["memory"].h
    with ThreadPoolExecutor(2) as pool:
        traced = list(pool.map(lambda part: trace(model, part)["memory"].h, [x[k % 3 :] for k in range(6)]))
    for k, h in enumerate(traced):
        np.testing.assert_allclose(h, expected[k % 3 :], atol=1e-6)
