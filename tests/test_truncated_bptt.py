"""Truncated backpropagation through time over a stateful layer: the windows, the resets, and what training does."""

from __future__ import annotations

from functools import partial

import keras
import numpy as np
import pytest

from keras_lstm_custom import timeseries
from keras_lstm_custom.errors import ArgumentError, DataError
from tests.descriptors import LAYERS, NOT_ON_JAX, TWINS
from tests.oracles import numpy_cells

SERIES, TIMESTEPS, WINDOW, FEATURES, UNITS = 2, 9, 3, 1, 2
LEARNING_RATE = 0.125  #: small enough that no error of the differences grows from step to step
#: The differences are good to 1e-9. Under torch, `fit` was seen to be off by a rounding of float32 (4e-8); a state
#: that is not carried, or a gradient that crosses a window, is off by 1e-3 and more.
TOLERANCE = {"tensorflow": 1e-8, "torch": 1e-6}
ROWS = pytest.mark.parametrize("row", TWINS, ids=lambda row: row.name)


@pytest.fixture
def data(rng):
    """Numbers that float32 holds too: Keras converts to it what `fit` is given."""
    x, y = rng.normal(size=(SERIES, TIMESTEPS, FEATURES)), rng.normal(size=(SERIES, TIMESTEPS, 1))
    return tuple(values.astype("float32").astype("float64") for values in (x, y))


def test_batches_go_on_where_the_one_before_ended():
    x = np.arange(4 * 6 * 2).reshape(4, 6, 2)
    windows = timeseries.consecutive_windows(x, x[..., 0], window=2)
    assert (windows.x.shape, windows.y.shape, windows.batch_size) == ((12, 2, 2), (12, 2), 4)
    for number in range(3):  # plain loops say what each batch must hold
        for series in range(4):
            for step in range(2):
                row = windows.batch_size * number + series
                assert (windows.x[row, step] == x[series, 2 * number + step]).all()
                assert windows.y[row, step] == x[series, 2 * number + step, 0]
    assert timeseries.consecutive_windows(x, window=6).y is None


@pytest.mark.parametrize(
    ("x", "y", "window", "words"),
    [
        ((2, 7, 1), None, 3, r"1 would be left out[\s\S]*x\[:, 1:\]"),
        ((7, 1), None, 7, r"\(series, timesteps, features\)[\s\S]*\(7, 1\)[\s\S]*x\[None\]"),
        ((2, 6, 1), (2, 5, 1), 3, r"\(2, 5, 1\)"),
        ((0, 6, 1), None, 3, r"not empty"),
    ],
)
def test_what_does_not_fit_is_refused(x, y, window, words):
    with pytest.raises(DataError, match=words):
        timeseries.consecutive_windows(np.zeros(x), None if y is None else np.zeros(y), window=window)


def test_a_window_is_a_number_of_steps(data):
    with pytest.raises(ArgumentError, match="`window`"):
        timeseries.consecutive_windows(data[0], window=0)


def model_of(row, **options):
    layer = row.public_class(UNITS, return_sequences=True, stateful=True, dtype="float64", **options)
    inputs = keras.Input(batch_shape=(SERIES, WINDOW, FEATURES), dtype="float64")
    model = keras.Model(inputs, keras.layers.Dense(1, dtype="float64")(layer(inputs)))
    model.compile(keras.optimizers.SGD(LEARNING_RATE), keras.losses.MeanSquaredError(dtype="float64"))
    return model


def by_hand(row, weights, x, y, epochs):
    """Truncated BPTT in NumPy: in each window the state it starts from is a constant; gradients are differences."""
    names = ["h", "c"][: row.states]

    def run(weights, state, here):
        *recurrent, kernel, bias = weights
        steps = row.oracle(x[:, here], *recurrent, *state)
        return np.mean((steps["y"] @ kernel + bias - y[:, here]) ** 2), [steps[name][:, -1] for name in names]

    for _ in range(epochs):
        state = [np.zeros((SERIES, UNITS)) for _ in names]
        for start in range(0, TIMESTEPS, WINDOW):
            here = slice(start, start + WINDOW)

            def loss(value, place, weights=weights, state=state, here=here):
                return run([*weights[:place], value, *weights[place + 1 :]], state, here)[0]

            gradients = [
                numpy_cells.finite_difference(partial(loss, place=place), weight)
                for place, weight in enumerate(weights)
            ]
            _, state = run(weights, state, here)
            weights = [w - LEARNING_RATE * g for w, g in zip(weights, gradients, strict=True)]
    return weights


@NOT_ON_JAX
@ROWS
@pytest.mark.parametrize("every", [None, 2], ids=["plain", "checkpointed"])
def test_training_is_truncated_bptt(row, every, data):
    """Two epochs: the state goes on within an epoch, no gradient crosses a window, and each epoch starts from zeros."""
    x, y = data
    model = model_of(row, checkpoint_every=every)
    expected = by_hand(row, model.get_weights(), x, y, epochs=2)
    windows = timeseries.consecutive_windows(x, y, window=WINDOW)
    model.fit(
        *windows[:2],
        batch_size=windows.batch_size,
        shuffle=False,
        epochs=2,
        callbacks=[timeseries.ResetStates()],
        verbose=0,
    )
    for ours, theirs in zip(model.get_weights(), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=TOLERANCE[keras.backend.backend()])


@NOT_ON_JAX
def test_the_states_of_several_cells_are_reset(data):
    """Keras' `reset_state` raises for those."""
    cells = [keras.layers.LSTMCell(3), keras.layers.GRUCell(2)]
    inputs = keras.Input(batch_shape=(SERIES, WINDOW, FEATURES))
    model = keras.Model(inputs, keras.layers.RNN(cells, stateful=True)(inputs))
    call = {"batch_size": SERIES, "callbacks": [timeseries.ResetStates()], "verbose": 0}
    x = data[0][:, :WINDOW]
    first = model.predict(x, **call)
    assert all(np.abs(s).max() > 0 for s in map(keras.ops.convert_to_numpy, keras.tree.flatten(model.layers[1].states)))
    np.testing.assert_array_equal(model.predict(x, **call), first)


@NOT_ON_JAX
def test_states_are_reset_where_series_start_again(data):
    x, y = data
    model = model_of(LAYERS[0])
    layer = model.layers[1]
    windows = timeseries.consecutive_windows(x, y, window=WINDOW)
    call = {"batch_size": SERIES, "callbacks": [timeseries.ResetStates()], "verbose": 0}
    first = model.predict(windows.x, **call)
    assert np.abs(keras.ops.convert_to_numpy(layer.states[0])).min() > 0  # so there is something to reset
    np.testing.assert_array_equal(model.predict(windows.x, **call), first)
    assert model.evaluate(*windows[:2], **call) == model.evaluate(*windows[:2], **call)
    without = model.predict(windows.x, batch_size=SERIES, verbose=0)
    assert np.abs(without - first).max() > 1e-3


def test_reset_finds_layers_inside_wrappers_and_models():
    inner = keras.Sequential([keras.Input(batch_shape=(2, 3, 1)), keras.layers.GRU(2, stateful=True)])
    both = keras.layers.Bidirectional(LAYERS[0].public_class(2, stateful=True, return_sequences=True))
    x = keras.Input(batch_shape=(2, 3, 1))
    model = keras.Model(x, [both(x), inner(x)])
    states = [*both.forward_layer.states, *both.backward_layer.states, *inner.layers[0].states]
    for state in states:
        state.assign(keras.ops.ones(state.shape))
    callback = timeseries.ResetStates()
    callback.set_model(model)
    callback.on_epoch_begin(0)
    assert len(states) == 5
    assert not any(keras.ops.convert_to_numpy(state).any() for state in states)


def test_a_model_without_states_is_refused(data):
    model = keras.Sequential([keras.Input((WINDOW, FEATURES)), LAYERS[0].public_class(2), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    with pytest.raises(ArgumentError, match="stateful=True"):
        model.fit(data[0][:, :WINDOW], data[1][:, 0], callbacks=[timeseries.ResetStates()], verbose=0)
