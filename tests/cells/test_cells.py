"""One step of each cell, against the oracle and against Keras' cell."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_lstm_custom as klc
from tests.descriptors import BATCH, CELLS, FEATURES, UNITS, randomise

ROWS = pytest.mark.parametrize("row", CELLS, ids=lambda row: row.name)
VANILLA = next(row for row in CELLS if row.public_class is klc.VanillaRNNCell)
WITH_TWIN = pytest.mark.parametrize("row", [r for r in CELLS if r.keras_class], ids=lambda row: row.name)


@pytest.fixture
def x(rng):
    return rng.normal(size=(BATCH, FEATURES)).astype("float32")


def built(row, rng, **options):
    cell = row.build(**options)
    cell.build((BATCH, FEATURES))
    randomise(cell, rng)
    return cell


@pytest.mark.parametrize("use_bias", [True, False])
@ROWS
def test_a_step_is_the_oracle(row, rng, x, use_bias):
    cell = built(row, rng, use_bias=use_bias)
    states = row.random_states(rng)
    h, new = cell(x, [ops.convert_to_tensor(s) for s in states])
    bias = {} if use_bias else {"bias": None}
    named = dict(zip(cell.state_type._fields, states, strict=True))
    truth = row.oracle(x[:, None], *cell.get_weights(), **bias, **named)
    np.testing.assert_allclose(ops.convert_to_numpy(h), truth["h"][:, 0], atol=2e-6)
    for name, state in zip(cell.state_type._fields, new, strict=True):
        np.testing.assert_allclose(ops.convert_to_numpy(state), truth[name][:, 0], atol=2e-6)


@WITH_TWIN
def test_a_step_is_that_of_keras_in_training_too(row, rng, x):
    options = {"dropout": 0.4, "recurrent_dropout": 0.4, "seed": 3, "activation": "softsign"}
    mine, theirs = built(row, rng, **options), row.keras_class(UNITS, **options)
    theirs.build((BATCH, FEATURES))
    theirs.set_weights(mine.get_weights())
    states = [ops.convert_to_tensor(s) for s in row.random_states(rng)]
    for training in (False, True):
        results = [keras.tree.flatten(cell(x, states, training=training)) for cell in (mine, theirs)]
        for a, b in zip(*results, strict=True):
            np.testing.assert_allclose(ops.convert_to_numpy(a), ops.convert_to_numpy(b), atol=2e-6)


@ROWS
def test_states_come_back_as_a_list_for_keras_rnn(row, rng, x):
    states = [ops.convert_to_tensor(s) for s in row.random_states(rng)]
    _, new = built(row, rng)(x, states)
    assert type(new) is list
    assert len(new) == row.states


def test_a_bare_state_comes_back_bare(rng, x):
    (state,) = VANILLA.random_states(rng)
    h, new = built(VANILLA, rng)(x, ops.convert_to_tensor(state))
    assert new.shape == (BATCH, UNITS)
    np.testing.assert_array_equal(ops.convert_to_numpy(h), ops.convert_to_numpy(new))


@ROWS
def test_project_inputs_and_step_are_the_call(row, rng, x):
    """What the engines and the tracer use is what the cell itself does."""
    cell = built(row, rng)
    states = [ops.convert_to_tensor(s) for s in row.random_states(rng)]
    step = cell.step(cell.project_inputs(x), cell.state_type(*states))
    assert type(step) is cell.step_type
    h, new = cell(x, states)
    for a, b in zip([step.h, *cell.state_of(step)], [h, *new], strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(a), ops.convert_to_numpy(b))
