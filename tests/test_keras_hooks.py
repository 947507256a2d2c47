"""Guards of the undocumented parts of Keras that `keras_hooks` stands on: each failure names the hook."""

import inspect

import keras
import numpy as np
import pytest
from keras import ops

from keras_lstm_custom.keras_hooks import (
    EngineRNN,
    dropout_masks,
    loop_over_time,
    methods_replaced,
    symbolic_dropout_masks,
)


class Accumulator(keras.layers.Layer):
    """A cell that adds up what it reads."""

    state_size = 1

    def call(self, inputs, states):
        total = states[0] + inputs
        return total, [total]


def column(*rows):
    return np.array(rows, "float32")[:, :, None]


def test_inner_loop_takes_what_we_override():
    parameters = list(inspect.signature(keras.layers.RNN.inner_loop).parameters)
    assert parameters == ["self", "sequences", "initial_state", "mask", "training"], (
        "Keras changed the hook `RNN.inner_loop`: its arguments are no longer those that "
        "`keras_hooks.EngineRNN.inner_loop` overrides and `keras_hooks.loop_over_time` calls."
    )


@pytest.mark.parametrize("return_sequences", [True, False])
def test_inner_loop_is_what_the_layer_calls(return_sequences):
    calls = []

    class Fixed(EngineRNN):
        def run_loop(self, sequences, initial_state, mask, training):
            calls.append((sequences, initial_state, mask, training))
            return initial_state[0] + 1, sequences * 2, [initial_state[0] + 3]

    x = column([1, 2, 3])
    layer = Fixed(Accumulator(), return_sequences=return_sequences, return_state=True)
    output, state = layer(x, initial_state=[np.zeros((1, 1), "float32")], training=True)
    why = "Keras changed the hook `RNN.inner_loop`: "
    assert len(calls) == 1, why + "`RNN.call` does not call it once"
    assert calls[0][3] is True, why + "`training` does not arrive"
    expected = x * 2 if return_sequences else [[1.0]]
    np.testing.assert_array_equal(ops.convert_to_numpy(output), expected, err_msg=why + "other results")
    np.testing.assert_array_equal(ops.convert_to_numpy(state), [[3.0]], err_msg=why + "other results")


ZERO = {"zero_output_for_mask": True}


@pytest.mark.parametrize(
    ("options", "outputs", "state"),
    [
        ({}, [1, 1, 4], 4),
        (ZERO, [1, 0, 4], 4),
        ({"go_backwards": True}, [3, 3, 4], 4),
        ({"go_backwards": True, **ZERO}, [3, 0, 4], 4),
        ({"unroll": True}, [1, 1, 4], 4),
        ({"unroll": True, "go_backwards": True}, [3, 3, 4], 4),
    ],
    ids=str,
)
def test_loop_over_time_counts(options, outputs, state):
    """Adding up 1, (2), 3, the middle one masked: readable by eye."""
    last, every, (final,) = loop_over_time(
        lambda x, states: (states[0] + x, [states[0] + x]),
        ops.convert_to_tensor(column([1, 2, 3])),
        [ops.zeros((1, 1))],
        ops.convert_to_tensor([[True, False, True]]),
        return_sequences=True,
        **options,
    )
    why = "Keras changed the hook `RNN.inner_loop`: `keras_hooks.loop_over_time` loops differently"
    assert ops.convert_to_numpy(every)[0, :, 0].tolist() == outputs, why
    assert (float(last[0, 0]), float(final[0, 0])) == (outputs[-1], state), why


@pytest.mark.parametrize("cell_class", [keras.layers.LSTMCell, keras.layers.SimpleRNNCell])
@pytest.mark.parametrize("hook", ["get_dropout_mask", "get_recurrent_dropout_mask"])
def test_dropout_masks_are_drawn_once_for_each_call(cell_class, hook):
    why = f"Keras changed the hook `{hook}` of its recurrent cells: "
    cell = cell_class(3, dropout=0.5, recurrent_dropout=0.5)
    assert callable(getattr(cell, hook, None)), why + "it is gone"
    x = ops.ones((40, 3))
    first = keras.tree.flatten(getattr(cell, hook)(x))
    again = keras.tree.flatten(getattr(cell, hook)(x))
    assert all(a is b for a, b in zip(first, again, strict=True)), why + "it draws anew at every step"
    assert len(first) == (4 if cell_class is keras.layers.LSTMCell else 1), why + "another number of masks"
    values = np.unique(ops.convert_to_numpy(first[0]))
    assert values.tolist() == [0, 2], why + "a mask is no longer 0 and 1 / (1 - rate)"

    layer = keras.layers.RNN(cell)
    layer(ops.ones((40, 2, 3)), training=True)
    fresh = keras.tree.flatten(getattr(cell, hook)(x))
    assert fresh[0] is not first[0], why + "`keras.layers.RNN` does not forget the mask after a call"


def test_no_masks_outside_training():
    cell = keras.layers.LSTMCell(3, dropout=0.5, recurrent_dropout=0.5)
    assert dropout_masks(cell, ops.ones((2, 3)), ops.ones((2, 3)), training=False) == (None, None)
    inputs, recurrent = dropout_masks(cell, ops.ones((2, 3)), ops.ones((2, 3)), training=True)
    assert len(inputs) == len(recurrent) == 4


@pytest.mark.parametrize("rates", [(0.5, 0.5), (0.0, 0.5), (0.5, 0.0)], ids=str)
@pytest.mark.parametrize("cell_class", [keras.layers.LSTMCell, keras.layers.SimpleRNNCell])
def test_symbolic_masks_are_like_those_that_are_drawn(cell_class, rates):
    """So that `explain_engine` answers what a call would get."""
    cell = cell_class(5, dropout=rates[0], recurrent_dropout=rates[1])

    def shape(mask):
        return (
            [shape(m) for m in mask] if isinstance(mask, (list, tuple)) else None if mask is None else tuple(mask.shape)
        )

    for training in (True, False):
        drawn = dropout_masks(cell, ops.ones((2, 3)), ops.ones((2, 5)), training)
        symbolic = symbolic_dropout_masks(cell, (2, 3), (2, 5), training)
        assert shape(symbolic) == shape(drawn)


def test_a_layer_calls_the_function_that_stands_for_its_method():
    layer = keras.layers.Masking()
    model = keras.Sequential([keras.Input((2, 1)), layer])
    own = column([1, 2])
    with methods_replaced([(layer, "call", lambda inputs: inputs + 1)]):
        inside = ops.convert_to_numpy(model(own))
    why = "Keras changed the hook `Layer.__call__`: it does not look up `call` on the layer itself"
    np.testing.assert_array_equal(inside, own + 1, err_msg=why)
    np.testing.assert_array_equal(ops.convert_to_numpy(model(own)), own, err_msg="the method was not put back")
    assert "call" not in vars(layer)
