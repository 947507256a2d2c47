"""The layers against the NumPy oracle: outputs, states, and gradients by finite differences of the oracle."""

import numpy as np
import pytest
from keras import ops

from tests.descriptors import BATCH, FEATURES, LAYERS, TIMESTEPS, randomise
from tests.gradients import loss_coefficients, outputs_and_gradients
from tests.oracles.numpy_cells import finite_difference

ROWS = pytest.mark.parametrize("row", LAYERS, ids=lambda row: row.name)
MASKS = {
    "no mask": None,
    "gaps": np.array([[1, 0, 1, 1], [1, 1, 0, 1], [0, 1, 0, 1]], bool),
    "left padding": np.array([[0, 0, 1, 1], [1, 1, 1, 1], [0, 0, 0, 1]], bool),
    "right padding": np.array([[1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 1, 1]], bool),
    "a row without any step": np.array([[1, 1, 1, 1], [0, 0, 0, 0], [1, 0, 1, 0]], bool),
}


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("go_backwards", [False, True], ids=["forwards", "backwards"])
@ROWS
def test_outputs_and_states(row, rng, mask, go_backwards):
    layer = row.build(return_sequences=True, return_state=True, go_backwards=go_backwards)
    layer.build((BATCH, TIMESTEPS, FEATURES))
    randomise(layer, rng)
    x = rng.normal(size=(BATCH, TIMESTEPS, FEATURES)).astype("float32")
    states = row.random_states(rng)
    mask = MASKS[mask]
    outputs, *final = layer(x, initial_state=states, mask=None if mask is None else ops.convert_to_tensor(mask))

    if go_backwards:
        x, mask = x[:, ::-1], None if mask is None else mask[:, ::-1]
    truth = row.oracle(x, *layer.get_weights(), *states, mask=mask)
    np.testing.assert_allclose(ops.convert_to_numpy(outputs), truth["y"], atol=2e-6)
    for name, state in zip(layer.cell.state_type._fields, final, strict=True):
        np.testing.assert_allclose(ops.convert_to_numpy(state), truth[name][:, -1], atol=5e-6)


@pytest.mark.parametrize("mask", ["no mask", "gaps"])
@ROWS
def test_gradients_are_the_finite_differences_of_the_oracle(row, rng, mask):
    layer = row.build(return_sequences=True)
    layer.build((BATCH, TIMESTEPS, FEATURES))
    randomise(layer, rng)
    x = rng.normal(size=(BATCH, TIMESTEPS, FEATURES)).astype("float32")
    states = row.random_states(rng)
    _, gradients = outputs_and_gradients(layer, x, states, mask=MASKS[mask])

    # the oracle takes x, kernel, recurrent_kernel, bias, states; the gradients come as x, states, weights
    arguments = [x, *layer.get_weights(), *states]
    order = [0, *range(4, 4 + len(states)), 1, 2, 3]
    for position, gradient in zip(order, gradients, strict=True):

        def loss(value, position=position):
            y = row.oracle(*arguments[:position], value, *arguments[position + 1 :], mask=MASKS[mask])["y"]
            return np.sum(y * loss_coefficients(y.shape))

        truth = finite_difference(loss, arguments[position])
        np.testing.assert_allclose(gradient, truth, atol=2e-5 * max(1, np.abs(truth).max()))
