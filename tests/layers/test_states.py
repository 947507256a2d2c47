"""Initial states, returned states, stateful layers, and sequences without timesteps."""

import keras
import numpy as np
import pytest
from keras import ops

from tests.descriptors import BATCH, FEATURES, LAYERS, NOT_ON_JAX, TIMESTEPS, UNITS, randomise

ROWS = pytest.mark.parametrize("row", LAYERS, ids=lambda row: row.name)
SHAPE = (BATCH, TIMESTEPS, FEATURES)


@pytest.fixture
def x(rng):
    return rng.normal(size=SHAPE).astype("float32")


def numpy(tensors):
    return [np.asarray(ops.convert_to_numpy(tensor)) for tensor in tensors]


def assert_close(these, those):
    for a, b in zip(numpy(these), numpy(those), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


@ROWS
def test_no_state_is_a_state_of_zeros(row, x):
    layer = row.build(return_state=True)
    assert_close(layer(x), layer(x, initial_state=[np.zeros((BATCH, UNITS), "float32")] * row.states))


@ROWS
def test_symbolic_states_give_what_eager_states_give(row, rng, x):
    layer = row.build(return_state=True)
    layer.build(SHAPE)
    randomise(layer, rng)
    states = row.random_states(rng)
    inputs = [keras.Input(SHAPE[1:]), *(keras.Input((UNITS,)) for _ in states)]
    model = keras.Model(inputs, layer(inputs[0], initial_state=inputs[1:]))
    assert_close(model.predict([x, *states], verbose=0), layer(x, initial_state=states))


@ROWS
def test_a_state_may_be_a_tuple_or_the_named_tuple(row, rng, x):
    layer = row.build(return_state=True)
    states = row.random_states(rng)
    truth = layer(x, initial_state=states)
    assert_close(layer(x, initial_state=tuple(states)), truth)
    assert_close(layer(x, initial_state=layer.cell.state_type(*states)), truth)


def test_a_vanilla_rnn_takes_its_one_state_bare(rng, x):
    layer = LAYERS[1].build()
    (state,) = LAYERS[1].random_states(rng)
    assert_close([layer(x, initial_state=state)], [layer(x, initial_state=[state])])


@ROWS
def test_the_last_state_is_the_last_output(row, x):
    y, h, *_ = row.build(return_sequences=True, return_state=True)(x)
    assert_close([y[:, -1]], [h])


@ROWS
def test_stateful_goes_on_and_reset_state_starts_again(row, rng):
    x = rng.normal(size=(BATCH, 2 * TIMESTEPS, FEATURES)).astype("float32")
    layer, plain = row.build(stateful=True, return_sequences=True), row.build(return_sequences=True)
    layer.build(SHAPE)
    plain.build(SHAPE)
    randomise(layer, rng)
    plain.set_weights(layer.get_weights())
    whole = plain(x)
    for _ in range(2):
        assert_close([layer(x[:, :TIMESTEPS]), layer(x[:, TIMESTEPS:])], [whole[:, :TIMESTEPS], whole[:, TIMESTEPS:]])
        layer.reset_state()
        assert all((state == 0).all() for state in numpy(layer.states))


@NOT_ON_JAX
@ROWS
def test_stateful_predict_goes_on_between_calls(row, rng):
    x = rng.normal(size=(BATCH, 2 * TIMESTEPS, FEATURES)).astype("float32")
    layer = row.build(stateful=True)
    model = keras.Sequential([keras.Input(batch_shape=(BATCH, None, FEATURES)), layer])
    for half in (x[:, :TIMESTEPS], x[:, TIMESTEPS:]):
        y = model.predict(half, verbose=0)
    layer.reset_state()
    assert_close([model.predict(x, verbose=0)], [y])


@ROWS
def test_no_timesteps_leave_a_state_as_it_is(row, rng, x):
    states = row.random_states(rng)
    output, *final = row.build(return_state=True)(x[:, :0], initial_state=states)
    assert_close([output, *final], [states[0], *states])
    outputs, *final = row.build(return_state=True, return_sequences=True)(x[:, :0], initial_state=states)
    assert outputs.shape == (BATCH, 0, UNITS)
    assert_close(final, states)


@ROWS
def test_no_timesteps_leave_a_stateful_layer_as_it_is(row, x):
    layer = row.build(stateful=True)
    truth = layer(x)
    assert_close([layer(x[:, :0])], [truth])


@ROWS
def test_a_symbolic_call_knows_its_shapes(row):
    outputs = row.build(return_sequences=True, return_state=True)(keras.Input((None, FEATURES)))
    assert [tuple(y.shape) for y in outputs] == [(None, None, UNITS)] + [(None, UNITS)] * row.states


@ROWS
@pytest.mark.filterwarnings("error:On JAX")
def test_says_where_keras_drops_the_state(row, x):
    layer = row.public_class(UNITS, stateful=True)
    if keras.backend.backend() == "jax":
        with pytest.raises(UserWarning, match="do not keep the state"):
            layer.build(x.shape)
    else:
        layer.build(x.shape)
