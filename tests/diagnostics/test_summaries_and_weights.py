"""Summaries of traces made by hand, and weights taken apart."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_lstm_custom import LSTM, VanillaRNN, trace
from keras_lstm_custom.diagnostics import GateTrace, RNNTrace, gate_weights, summary
from keras_lstm_custom.errors import ArgumentError

BATCH, TIMESTEPS, FEATURES, UNITS = 2, 5, 3, 4


def gate_trace(**changes):
    shape = (BATCH, TIMESTEPS, UNITS)
    half = {symbol: np.full(shape, 0.5) for symbol in ("i", "f", "g", "o", "c", "h")}
    x = np.random.default_rng(0).normal(size=(BATCH, TIMESTEPS, FEATURES))
    state = np.zeros((BATCH, UNITS))
    return GateTrace(**{"name": "lstm", "x": x, "initial_h": state, "initial_c": state, **half, **changes})


def test_saturation_is_the_share_of_steps_below_a_tenth_or_above_nine_tenths():
    f = np.full((BATCH, TIMESTEPS, UNITS), 0.5)
    f[..., 0] = 0.95  # always open
    f[..., 1] = 0.05  # always closed
    f[0, :3, 2] = 0.91  # open in 3 of 10
    f[1, 0, 2] = 0.09  # closed in 1 of 10
    layer = summary(gate_trace(f=f))["lstm"]
    np.testing.assert_allclose(layer.open["f"], [1, 0, 0.3, 0])
    np.testing.assert_allclose(layer.closed["f"], [0, 1, 0.1, 0])
    assert (list(layer.always_open["f"]), list(layer.always_closed["f"])) == ([0], [1])
    np.testing.assert_allclose(layer.mean["f"], f.mean(axis=(0, 1)))


def test_memory_length_is_the_time_to_1_over_e():
    f = np.broadcast_to([np.exp(-1 / 20), 1.0, 0.0, 0.5], (BATCH, TIMESTEPS, UNITS))
    lengths = summary(gate_trace(f=f))["lstm"].memory_length
    np.testing.assert_allclose(lengths, [20, np.inf, 0, 1 / np.log(2)])


def test_dead_units_and_correlation_with_the_input():
    h = np.random.default_rng(1).uniform(0.2, 0.3, size=(BATCH, TIMESTEPS, UNITS))
    h[..., 3] = 0.009
    x = np.random.default_rng(2).normal(size=(BATCH, TIMESTEPS, FEATURES))
    h[..., 1] = -0.1 * x[..., 2]
    layer = summary(gate_trace(h=h, x=x))["lstm"]
    assert list(layer.dead) == [3]
    assert layer.strongest_input()[:2] == (2, 1)
    expected = [[np.corrcoef(x[..., j].ravel(), h[..., k].ravel())[0, 1] for k in range(3)] for j in range(FEATURES)]
    np.testing.assert_allclose(layer.input_correlation[:, :3], expected)
    assert np.isnan(layer.input_correlation[:, 3]).all()  # a constant goes with nothing


def test_masked_steps_do_not_count():
    mask = np.ones((BATCH, TIMESTEPS), bool)
    mask[0, 2:] = False
    f = np.where(mask[..., None], 0.95, np.nan) * np.ones(UNITS)
    layer = summary(gate_trace(f=f, mask=mask))["lstm"]
    np.testing.assert_array_equal(layer.open["f"], 1)
    assert np.isfinite(layer.memory_length).all()


def test_a_vanilla_rnn_saturates_where_tanh_is_flat():
    h = np.zeros((BATCH, TIMESTEPS, UNITS))
    h[..., 0], h[0, :, 1] = -0.95, 0.91
    x, z = np.ones((BATCH, TIMESTEPS, FEATURES)), np.arctanh(h)
    layer = summary(RNNTrace(name="rnn", x=x, z=z, h=h, initial_h=h[:, 0]))["rnn"]
    np.testing.assert_allclose(layer.saturated, [1, 0.5, 0, 0])
    assert list(layer.dead) == [2, 3]


def test_prints_a_table_and_gives_one(rng):
    model = keras.Sequential(
        [keras.Input((None, FEATURES)), LSTM(UNITS, return_sequences=True, name="a"), VanillaRNN(2, name="b")]
    )
    layers_ = summary(trace(model, rng.normal(size=(BATCH, TIMESTEPS, FEATURES)).astype("float32")))
    text = str(layers_)
    for part in ("a (4 units)", "b (2 units)", "forget gate", "> 0.9", "memory length", "dead units", "saturated"):
        assert part in text
    frame = layers_.to_frame()
    assert len(frame) == UNITS + 2
    assert {"layer", "unit", "f_mean", "i_closed", "o_open", "memory_length", "saturated", "r_input_2"} <= set(frame)


@pytest.mark.parametrize("source", [LSTM, layers.LSTM], ids=["ours", "keras"])
def test_weights_by_gate_are_the_packed_ones_in_order(source, rng):
    layer = source(UNITS, name="lstm")
    model = keras.Sequential([keras.Input((None, FEATURES)), layers.Bidirectional(layer, name="both")])
    model.set_weights([rng.normal(size=w.shape) for w in model.get_weights()])
    found = gate_weights(model)
    assert list(found) == ["both/forward_lstm", "both/backward_lstm"] or sorted(found) == sorted(
        ["both/forward_lstm", "both/backward_lstm"]
    )
    weights = found["both/forward_lstm"]
    kernel, recurrent_kernel, bias = model.get_weights()[:3]
    for n, gate in enumerate("ifgo"):
        at = slice(n * UNITS, (n + 1) * UNITS)
        np.testing.assert_array_equal(weights.kernel[gate], kernel[:, at])
        np.testing.assert_array_equal(weights.recurrent_kernel[gate], recurrent_kernel[:, at])
        np.testing.assert_array_equal(weights.bias[gate], bias[at])
    counts, edges = weights.histogram("recurrent_kernel", bins=7)
    assert [count.sum() for count in counts.values()] == [UNITS**2] * 4
    assert (len(edges), edges[0]) == (8, recurrent_kernel.min())
    assert "spectral radius" in str(weights)
    assert len(weights.to_frame()) == 12


def test_the_spectral_radius_of_a_vanilla_rnn():
    model = keras.Sequential([keras.Input((None, FEATURES)), VanillaRNN(2, use_bias=False, name="rnn")])
    # A rotation by 90 degrees, stretched: its eigenvalues are ±sqrt(-0.5 * 2) = ±i.
    model.set_weights([np.ones((FEATURES, 2)), np.array([[0, -0.5], [2, 0]])])
    weights = gate_weights(model)["rnn"]
    np.testing.assert_allclose(weights.spectral_radius["h"], 1, rtol=1e-6)
    np.testing.assert_allclose(weights.largest_singular_value["h"], 2, rtol=1e-6)
    assert list(weights.parts()) == ["kernel", "recurrent_kernel"]
    with pytest.raises(ArgumentError, match="'kernel', 'recurrent_kernel'"):
        weights.histogram("bias")


def test_says_that_there_are_no_weights():
    with pytest.raises(ArgumentError, match="no recurrent layer with weights"):
        gate_weights(keras.Sequential([keras.Input((3,)), layers.Dense(1)]))
