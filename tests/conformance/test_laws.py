"""Laws that hold whatever the numbers are; shapes and options drawn by hypothesis."""

from __future__ import annotations

from dataclasses import dataclass

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from tests.descriptors import LAYERS, randomise

ROWS = pytest.mark.parametrize("row", LAYERS, ids=lambda row: row.name)
TOLERANCE = 5e-6  # the same sums in another order


@dataclass
class Case:
    """A random shape, input, state and choice of options."""

    row: object
    batch: int
    timesteps: int
    features: int
    units: int
    seed: int
    options: dict

    def __post_init__(self):
        self.rng = np.random.default_rng(self.seed)
        self.x = self.rng.normal(size=(self.batch, self.timesteps, self.features)).astype("float32")
        self.states = self.row.random_states(self.rng, self.batch, self.units)
        self.weights = None

    def layer(self, **options):
        """Build the layer; every layer of one case has the same weights."""
        layer = self.row.public_class(self.units, return_state=True, **{**self.options, **options})
        layer.build(self.x.shape)
        if self.weights is None:
            randomise(layer, self.rng)
            self.weights = layer.get_weights()
        layer.set_weights(self.weights)
        return layer


@st.composite
def cases(draw):
    size = st.integers(1, 4)
    options = {
        "activation": draw(st.sampled_from(["tanh", "softsign", "linear"])),
        "use_bias": draw(st.booleans()),
        "return_sequences": draw(st.booleans()),
    }
    return Case(
        row=draw(st.sampled_from(LAYERS)),
        batch=draw(size),
        timesteps=draw(st.integers(1, 6)),
        features=draw(size),
        units=draw(size),
        seed=draw(st.integers(0, 999)),
        options=options,
    )


def run(layer, x, states=None, mask=None):
    mask = None if mask is None else ops.convert_to_tensor(mask)
    return [ops.convert_to_numpy(y) for y in layer(x, initial_state=states, mask=mask)]


def assert_equal(these, those):
    for a, b in zip(these, those, strict=True):
        np.testing.assert_allclose(a, b, atol=TOLERANCE, rtol=TOLERANCE)


#: Each case is compiled anew; on JAX and torch fewer of them leave time for the other tests.
CASES = 15 if keras.backend.backend() == "tensorflow" else 4


def law(function):
    """Check the law on random cases; not timed, and the same ones at every run."""
    return settings(max_examples=CASES, deadline=None, derandomize=True, database=None)(given(case=cases())(function))


@law
def test_a_sequence_in_two_parts_with_the_state_carried_is_the_whole(case):
    layer = case.layer(return_sequences=True)
    whole = run(layer, case.x, case.states)
    for cut in range(1, case.timesteps):
        head, *carried = run(layer, case.x[:, :cut], case.states)
        tail, *final = run(layer, case.x[:, cut:], carried)
        assert_equal([np.concatenate([head, tail], axis=1), *final], whole)


@law
def test_padding_changes_nothing(case):
    """On the left or on the right, whatever stands there."""
    layer = case.layer(return_sequences=False)
    truth = run(layer, case.x, case.states)
    junk = case.rng.normal(size=(case.batch, 2, case.features)).astype("float32") * 9
    valid, padding = np.ones(case.x.shape[:2], bool), np.zeros(junk.shape[:2], bool)
    for parts in ([(case.x, valid), (junk, padding)], [(junk, padding), (case.x, valid)]):
        x, mask = (np.concatenate(part, axis=1) for part in zip(*parts, strict=True))
        assert_equal(run(layer, x, case.states, mask), truth)


@law
def test_a_masked_step_is_as_if_it_were_not_there(case):
    mask = case.rng.random(case.x.shape[:2]) < 0.6
    layer = case.layer(return_sequences=False)
    _, *states = run(layer, case.x, case.states, mask)
    for row in range(case.batch):
        if mask[row].any():
            start = [state[row : row + 1] for state in case.states]
            _, *alone = run(layer, case.x[row : row + 1, mask[row]], start)
            assert_equal([state[row : row + 1] for state in states], alone)
        else:
            assert_equal([state[row] for state in states], [state[row] for state in case.states])


@law
def test_rows_of_a_batch_do_not_touch_each_other(case):
    layer = case.layer()
    truth = run(layer, case.x, case.states)
    order = case.rng.permutation(case.batch)
    assert_equal(run(layer, case.x[order], [s[order] for s in case.states]), [y[order] for y in truth])
    alone = run(layer, case.x[:1], [s[:1] for s in case.states])
    assert_equal(alone, [y[:1] for y in truth])


@law
def test_backwards_is_forwards_on_the_flipped_input(case):
    mask = case.rng.random(case.x.shape[:2]) < 0.6
    backwards = run(case.layer(go_backwards=True), case.x, case.states, mask)
    assert_equal(backwards, run(case.layer(), case.x[:, ::-1], case.states, mask[:, ::-1]))


@law
def test_unrolled_is_the_loop(case):
    mask = case.rng.random(case.x.shape[:2]) < 0.6
    for options in ({}, {"go_backwards": True}, {"zero_output_for_mask": True, "go_backwards": True}):
        loop, unrolled = (case.layer(unroll=unroll, **options) for unroll in (False, True))
        assert_equal(run(unrolled, case.x, case.states, mask), run(loop, case.x, case.states, mask))
        assert_equal(run(unrolled, case.x, case.states), run(loop, case.x, case.states))


@law
def test_outputs_have_the_shapes_that_compute_output_shape_says(case):
    layer = case.layer()
    said = layer.compute_output_shape(case.x.shape)
    assert [tuple(shape) for shape in said] == [y.shape for y in run(layer, case.x)]


@ROWS
def test_zero_output_for_mask(row, rng):
    layer = row.build(return_sequences=True, zero_output_for_mask=True)
    x = rng.normal(size=(3, 4, 2)).astype("float32")
    mask = np.array([[1, 0, 1, 1], [1, 1, 0, 0], [0, 0, 0, 0]], bool)
    y = ops.convert_to_numpy(layer(x, mask=ops.convert_to_tensor(mask)))
    assert (np.abs(y).max(axis=-1) > 0).tolist() == mask.tolist()


@ROWS
def test_time_can_be_unknown(row, rng):
    inputs = keras.Input((None, 2))
    model = keras.Model(inputs, row.build(return_sequences=True)(inputs))
    assert model.output_shape[1] is None
    for timesteps in (1, 3, 7):
        assert model.predict(rng.normal(size=(2, timesteps, 2)), verbose=0).shape == (2, timesteps, 5)
