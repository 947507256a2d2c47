"""Chrono against its definition (Tallec & Ollivier 2018), in every cell that has a forget gate."""

import json

import keras
import numpy as np
import pytest
from keras import ops

import keras_lstm_custom as klc
from keras_lstm_custom.errors import ArgumentError
from keras_lstm_custom.initializers import Chrono

UNITS = 500


def bias_of(layer):
    layer.build((None, 4, 2))
    return dict(
        zip(layer.cell.gates, np.split(ops.convert_to_numpy(layer.cell.bias), len(layer.cell.gates)), strict=True)
    )


@pytest.mark.parametrize("options", [{}, {"unit_forget_bias": False}, {"peepholes": True}, {"projection": 3}], ids=str)
def test_forget_gates_open_for_one_to_t_max_steps(options):
    bias = bias_of(klc.LSTM(UNITS, bias_initializer=Chrono(50), **options))
    memories = np.exp(bias["f"])
    assert memories.min() >= 1
    assert memories.max() <= 49
    np.testing.assert_allclose(memories.mean(), 25, atol=4 * 48 / np.sqrt(12 * UNITS))
    assert len(np.unique(memories)) > UNITS * 0.99
    np.testing.assert_array_equal(bias["i"], -bias["f"])
    assert not bias["g"].any()
    assert not bias["o"].any()


def test_without_an_input_bias_and_with_coupled_gates():
    assert not bias_of(klc.LSTM(UNITS, bias_initializer=Chrono(50, input_bias=False)))["i"].any()
    bias = bias_of(klc.LSTM(UNITS, coupled=True, bias_initializer=Chrono(50, input_bias=False)))
    assert set(bias) == {"f", "g", "o"}
    assert np.ptp(np.exp(bias["f"])) > 40
    assert bias_of(klc.SLSTM(UNITS, bias_initializer=Chrono(50)))["f"].any()


def test_keras_lstm_takes_it_without_its_own_forget_bias():
    layer = keras.layers.LSTM(UNITS, unit_forget_bias=False, bias_initializer=Chrono(50))
    layer.build((None, 4, 2))
    b_i, b_f, b_g, b_o = np.split(ops.convert_to_numpy(layer.cell.bias), 4)
    np.testing.assert_array_equal(b_i, -b_f)
    assert (b_f >= 0).all()
    assert not np.any([b_g, b_o])


def test_it_is_saved_and_drawn_again_from_its_seed(tmp_path):
    model = keras.Sequential([keras.Input((4, 2)), klc.LSTM(7, bias_initializer=Chrono(50, False, seed=3))])
    model.save(tmp_path / "model.keras")
    layer = keras.saving.load_model(tmp_path / "model.keras").layers[0]
    again = layer.bias_initializer
    assert (type(again), again.max_timesteps, again.input_bias) == (Chrono, 50, False)
    np.testing.assert_array_equal(
        *(ops.convert_to_numpy(c((28,), "float32")) for c in (again, Chrono(50, False, seed=3)))
    )
    fresh = type(layer).from_config(layer.get_config())
    np.testing.assert_array_equal(bias_of(fresh)["f"], bias_of(model.layers[0])["f"])


@pytest.mark.parametrize("steps", [2, 0, -1, True, "50", None, float("nan"), float("inf")])
def test_a_memory_of_no_step_is_refused(steps):
    with pytest.raises(ArgumentError, match="number of steps above 2"):
        Chrono(steps)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda chrono: klc.LSTM(5, coupled=True, bias_initializer=chrono), "input_bias=False"),
        (lambda chrono: klc.LSTMCell(5, coupled=True, bias_initializer=chrono), "input_bias=False"),
        (lambda chrono: klc.GRU(4, bias_initializer=chrono), "gates z, r, n"),
        (lambda chrono: klc.GRU(4, reset_after=False, bias_initializer=chrono), "gates z, r, n"),
        (lambda chrono: klc.VanillaRNN(4, bias_initializer=chrono), "gates h"),
        (lambda chrono: chrono((2, 12)), r"\(4 \* units,\)"),
        (lambda chrono: chrono((6,)), r"\(4 \* units,\)"),
        (lambda _: Chrono(50, input_bias=1), "True or False"),
    ],
)
def test_gates_that_are_not_there_are_told(make, says):
    with pytest.raises(ArgumentError, match=f"(?s){says}"):
        make(Chrono(50))


@pytest.mark.parametrize("steps", [np.int64(50), np.float32(50)])
def test_a_number_of_numpy_is_plain_in_the_configuration(steps):
    assert json.loads(json.dumps(Chrono(steps).get_config()))["max_timesteps"] == 50
