"""Our layers and cells inside Keras' wrappers."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_lstm_custom import LSTM, LSTMCell, VanillaRNNCell
from tests.descriptors import BATCH, FEATURES, LAYERS, TIMESTEPS, TWINS, UNITS, randomise

ROWS = pytest.mark.parametrize("row", LAYERS, ids=lambda row: row.name)
WITH_TWIN = pytest.mark.parametrize("row", TWINS, ids=lambda row: row.name)
SHAPE = (BATCH, TIMESTEPS, FEATURES)
MASK = np.array([[0, 1, 1, 1], [1, 1, 0, 0], [1, 0, 1, 1]], bool)


def assert_same(mine, theirs, rng, x, **call):
    for layer in (mine, theirs):
        layer.build(x.shape)
    randomise(theirs, rng)
    mine.set_weights(theirs.get_weights())
    results = [keras.tree.flatten(layer(x, **call)) for layer in (mine, theirs)]
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(ops.convert_to_numpy(a), ops.convert_to_numpy(b), atol=2e-6)


@pytest.mark.parametrize("merge_mode", ["concat", "sum", None])
@WITH_TWIN
def test_bidirectional(row, rng, merge_mode):
    x = rng.normal(size=SHAPE).astype("float32")
    for options in ({}, {"return_sequences": True}, {"return_sequences": True, "return_state": True}):
        pair = [
            keras.layers.Bidirectional(build(**options), merge_mode=merge_mode) for build in (row.build, row.keras_twin)
        ]
        assert_same(*pair, rng, x)
        assert_same(*pair, rng, x, mask=ops.convert_to_tensor(MASK))


@WITH_TWIN
def test_bidirectional_keeps_the_engine_and_takes_states(row, rng):
    layer = keras.layers.Bidirectional(row.build(engine="reference"))
    assert layer.backward_layer.engine == layer.forward_layer.engine == "reference"
    assert layer.backward_layer.go_backwards
    x, states = rng.normal(size=SHAPE).astype("float32"), row.random_states(rng) + row.random_states(rng)
    twin = keras.layers.Bidirectional(row.keras_twin())
    assert_same(layer, twin, rng, x, initial_state=[ops.convert_to_tensor(s) for s in states])


@WITH_TWIN
def test_time_distributed(row, rng):
    x = rng.normal(size=(BATCH, 6, TIMESTEPS, FEATURES)).astype("float32")
    assert_same(*(keras.layers.TimeDistributed(build()) for build in (row.build, row.keras_twin)), rng, x)


def test_rnn_over_one_cell_and_over_a_stack(rng):
    x = rng.normal(size=SHAPE).astype("float32")
    keras_cells = {LSTMCell: keras.layers.LSTMCell, VanillaRNNCell: keras.layers.SimpleRNNCell}
    for stack in ([LSTMCell], [VanillaRNNCell], [LSTMCell, VanillaRNNCell, LSTMCell]):
        pair = []
        for of in (lambda cls: cls, keras_cells.get):
            cells = [of(cls)(UNITS + n) for n, cls in enumerate(stack)]  # Keras cannot mask a stack of one cell
            pair.append(keras.layers.RNN(cells if len(cells) > 1 else cells[0], return_sequences=True))
        assert_same(*pair, rng, x)
        assert_same(*pair, rng, x, mask=ops.convert_to_tensor(MASK))


@ROWS
def test_rnn_over_the_cell_is_the_layer(row, rng):
    layer = row.build(return_sequences=True, return_state=True)
    loop = keras.layers.RNN(row.public_class.cell_class(UNITS), return_sequences=True, return_state=True)
    assert_same(layer, loop, rng, rng.normal(size=SHAPE).astype("float32"))


@ROWS
def test_shared_layer_is_one_layer(row, rng):
    layer = row.build()
    inputs = [keras.Input(SHAPE[1:]) for _ in range(2)]
    model = keras.Model(inputs, [layer(each) for each in inputs])
    assert len(model.weights) == 3
    x = rng.normal(size=SHAPE).astype("float32")
    np.testing.assert_array_equal(*model.predict([x, x], verbose=0))


def test_stack_of_every_kind_trains(rng):
    model = keras.Sequential(
        [
            keras.Input(SHAPE[1:]),
            keras.layers.Masking(),
            keras.layers.Bidirectional(LSTM(3, return_sequences=True)),
            LSTM(4, return_sequences=True, go_backwards=True),
            keras.layers.RNN([LSTMCell(3), VanillaRNNCell(2)]),
        ]
    )
    model.compile("sgd", "mse", jit_compile=False)
    before = model.get_weights()
    model.fit(rng.normal(size=SHAPE), rng.normal(size=(BATCH, 2)), verbose=0)
    assert all((a != b).any() for a, b in zip(before, model.get_weights(), strict=True))
