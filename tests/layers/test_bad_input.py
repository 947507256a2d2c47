"""Bad input gets a message that says what is wrong, what was expected, what came, and what to do."""

import keras
import numpy as np
import pytest

from keras_lstm_custom import LSTM, LSTMCell, VanillaRNN, VanillaRNNCell
from keras_lstm_custom.errors import ArgumentError, EngineError, InputError, RecurrentError
from tests.descriptors import LAYERS

X = np.zeros((3, 4, 2), "float32")
STATE = np.zeros((3, 5), "float32")
ROWS = pytest.mark.parametrize("row", LAYERS, ids=lambda row: row.name)


def assert_says(caught, *words):
    """The four parts are there, and the words in them."""
    text = str(caught.value)
    for word in ("Expected:", "Received:", "What to do:", *words):
        assert word in text, text


@pytest.mark.parametrize("units", [0, -3, 2.5, "8", True, None], ids=repr)
@pytest.mark.parametrize("public_class", [LSTM, LSTMCell, VanillaRNN, VanillaRNNCell])
def test_units(public_class, units):
    with pytest.raises(ArgumentError) as caught:
        public_class(units)
    assert_says(caught, "`units`", "positive", f"Received: {units!r}")


@pytest.mark.parametrize("rate", [-0.1, 1, 1.5, float("nan"), "0.2", None, True], ids=repr)
@pytest.mark.parametrize("option", ["dropout", "recurrent_dropout"])
@pytest.mark.parametrize("public_class", [LSTM, VanillaRNNCell])
def test_dropout(public_class, option, rate):
    with pytest.raises(ArgumentError) as caught:
        public_class(5, **{option: rate})
    assert_says(caught, f"`{option}`", "[0, 1)", f"Received: {rate!r}")


@pytest.mark.parametrize("steps", [0, -3, 2.5, "8", True], ids=repr)
@ROWS
def test_checkpoint_every(row, steps):
    with pytest.raises(ArgumentError) as caught:
        row.build(checkpoint_every=steps)
    assert_says(caught, "`checkpoint_every`", "positive", f"Received: {steps!r}")


def test_numpy_numbers_will_do():
    layer = LSTM(np.int64(5), dropout=np.float32(0.5))
    assert (layer.units, layer.dropout) == (5, 0.5)


@pytest.mark.parametrize("option", ["activation", "recurrent_activation"])
def test_activation(option):
    with pytest.raises(ArgumentError) as caught:
        LSTM(5, **{option: "tanhh"})
    assert_says(caught, f"`{option}`", "'tanhh'")


def test_missing_and_unknown_arguments():
    with pytest.raises(TypeError, match="units"):
        LSTM()
    with pytest.raises((TypeError, ValueError), match="unitz"):
        VanillaRNN(5, unitz=3)


@pytest.mark.parametrize(
    ("public_class", "wrong", "right"),
    [
        (LSTM, "peephole", "peepholes"),
        (LSTM, "return_sequence", "return_sequences"),
        (LSTM, "engin", "engine"),
        (LSTMCell, "cell_zone_out", "cell_zoneout"),
        (VanillaRNN, "drop_out", "dropout"),
        (VanillaRNNCell, "use_biases", "use_bias"),
    ],
)
def test_a_misspelt_argument_comes_with_the_one_that_may_be_meant(public_class, wrong, right):
    with pytest.raises(ArgumentError, match="Unrecognized keyword arguments passed to") as caught:
        public_class(5, **{wrong: True})
    assert_says(caught, f"Expected: {right!r}", f"Received: {wrong}=True")


def test_what_keras_says_of_another_argument_stays_as_it_is():
    with pytest.raises(ValueError, match="initializer identifier: glorot") as caught:
        LSTM(5, kernel_initializer="glorot", zero_output_for_mask=True)
    assert not isinstance(caught.value, RecurrentError)


@pytest.mark.parametrize("x", [X.astype("complex64"), np.full((3, 4, 2), "a")], ids=["complex", "text"])
@ROWS
def test_what_is_no_real_number(row, x):
    if x.dtype.kind == "U" and keras.backend.backend() != "tensorflow":
        pytest.skip("has no tensors of text")
    with pytest.raises(InputError) as caught:
        row.build()(x)
    assert_says(caught, "real numbers", "TextVectorization")


@ROWS
def test_an_unknown_number_of_features(row):
    with pytest.raises(InputError) as caught:
        row.build()(keras.Input((4, None)))
    assert_says(caught, "number of features", "(None, 4, None)")


@ROWS
def test_engine(row):
    with pytest.raises(EngineError) as caught:
        row.build(engine="fastest")
    assert_says(caught, "'fastest'", "'auto'", "'reference'")


@pytest.mark.parametrize("dtype", ["int32", "bool"])
@ROWS
def test_dtype(row, dtype):
    with pytest.raises(ArgumentError) as caught:
        row.build(dtype=dtype)
    assert_says(caught, "floating-point", f"dtype={dtype!r}")


def test_use_cudnn():
    with pytest.raises(ArgumentError) as caught:
        LSTM(5, use_cudnn="yes")
    assert_says(caught, "'yes'")


@pytest.mark.parametrize("shape", [(3,), (3, 4), (3, 4, 2, 2)], ids=str)
@ROWS
def test_rank(row, shape):
    for call in (row.build(), row.build().build, row.build().explain_engine):
        with pytest.raises(InputError) as caught:
            call(np.zeros(shape, "float32") if isinstance(call, keras.layers.Layer) else shape)
        assert_says(caught, "(batch, timesteps, features)", str(shape))
    with pytest.raises(InputError):
        row.build()(keras.Input(shape[1:]))


@ROWS
def test_features_that_differ_from_those_it_was_built_for(row):
    layer = row.build()
    layer(X)
    with pytest.raises(InputError) as caught:
        layer(np.zeros((3, 4, 7), "float32"))
    assert_says(caught, "(batch, timesteps, 2)", "(3, 4, 7)")


@pytest.mark.parametrize("shape", [(3, 5), (2, 4), (3, 4, 2), (3,)], ids=str)
@ROWS
def test_mask(row, shape):
    with pytest.raises(InputError) as caught:
        row.build()(X, mask=np.ones(shape, bool))
    assert_says(caught, "(3, 4)", str(shape))


@pytest.mark.parametrize("shape", [(3, 4), (2, 5), (5,), (3, 5, 1)], ids=str)
@ROWS
def test_state_of_the_wrong_size(row, shape):
    with pytest.raises(InputError) as caught:
        row.build()(X, initial_state=[np.zeros(shape, "float32")] * row.states)
    assert_says(caught, "(3, 5)", str(shape))


@ROWS
def test_wrong_number_of_states(row):
    for count in (0, row.states + 1):
        with pytest.raises(InputError) as caught:
            row.build()(X, initial_state=[STATE] * count)
        assert_says(caught, f"{row.states} tensor(s)", f"Received: {count} tensor(s)")


@ROWS
def test_stateful_with_an_unknown_batch(row):
    with pytest.raises(InputError) as caught:
        row.build(stateful=True)(keras.Input((4, 2)))
    assert_says(caught, "batch_shape=", "(None, 4, 2)")


@ROWS
def test_stateful_with_another_batch(row):
    layer = row.build(stateful=True)
    layer(X)
    with pytest.raises(InputError) as caught:
        layer(X[:2])
    assert_says(caught, "batch size of 3", "(2, 4, 2)")


@ROWS
def test_symbolic_calls_are_checked_when_the_model_is_made(row):
    with pytest.raises(InputError):
        row.build()(keras.Input((4, 2)), initial_state=[keras.Input((6,))] * row.states)
    with pytest.raises(InputError):
        row.build()(keras.Input((4, 2)), mask=keras.Input((3,), dtype="bool"))


def test_errors_can_be_caught_as_one_family_and_as_what_python_calls_them():
    assert issubclass(InputError, RecurrentError)
    assert issubclass(InputError, ValueError)
    with pytest.raises(RecurrentError):
        LSTM(0)
