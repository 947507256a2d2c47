"""The equations against the NumPy oracle: values, gradients and every gate."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_lstm_custom.equations import lstm_step, project, rnn_step
from keras_lstm_custom.structures import LSTMState, RNNState
from tests.oracles import numpy_cells

BATCH, FEATURES, UNITS = 3, 2, 5
FLOAT32 = 1e-6  # values of size 1 from about ten additions, rounded at 6e-8 each


def weights(rng, gates):
    return [
        rng.normal(size=s).astype("float32")
        for s in [(FEATURES, gates * UNITS), (UNITS, gates * UNITS), (gates * UNITS,)]
    ]


@pytest.fixture
def x(rng):
    return rng.normal(size=(BATCH, FEATURES)).astype("float32")


@pytest.fixture
def h(rng):
    return rng.normal(size=(BATCH, UNITS)).astype("float32")


@pytest.fixture
def c(rng):
    return rng.normal(size=(BATCH, UNITS)).astype("float32") * 2


@pytest.mark.parametrize(
    ("names", "functions"),
    [
        (("tanh", "sigmoid"), (np.tanh, numpy_cells.sigmoid)),
        (("softsign", "tanh"), (lambda z: z / (1 + abs(z)), np.tanh)),
    ],
)
def test_lstm_step_gives_the_state_and_every_gate(rng, x, h, c, names, functions):
    kernel, recurrent_kernel, bias = weights(rng, 4)
    activation, recurrent_activation = map(keras.activations.get, names)
    step = lstm_step(
        project(x, kernel, bias),
        LSTMState(h, c),
        recurrent_kernel,
        activation=activation,
        recurrent_activation=recurrent_activation,
    )
    truth = numpy_cells.lstm(
        x[:, None], kernel, recurrent_kernel, bias, h, c, activation=functions[0], recurrent_activation=functions[1]
    )
    for name, value in step._asdict().items():
        np.testing.assert_allclose(ops.convert_to_numpy(value), truth[name][:, 0], atol=FLOAT32, err_msg=name)
    assert step[:2] == (step.h, step.c)


def test_rnn_step_gives_the_state_and_the_pre_activation(rng, x, h):
    kernel, recurrent_kernel, bias = weights(rng, 1)
    step = rnn_step(project(x, kernel, bias), RNNState(h), recurrent_kernel)
    truth = numpy_cells.vanilla_rnn(x[:, None], kernel, recurrent_kernel, bias, h)
    np.testing.assert_allclose(ops.convert_to_numpy(step.h), truth["h"][:, 0], atol=FLOAT32)
    np.testing.assert_allclose(ops.convert_to_numpy(step.z), truth["z"][:, 0], atol=5e-6)
    assert step[:1] == (step.h,)


def test_forget_gate_alone_decides_what_stays(h, c):
    """With input gate and candidate at zero, c is the forget gate's share of the old c."""
    big = 100.0
    z = np.concatenate([np.full((BATCH, UNITS), v) for v in (-big, 0.0, 0.0, big)], axis=-1).astype("float32")
    step = lstm_step(ops.convert_to_tensor(z), LSTMState(h, c), np.zeros((UNITS, 4 * UNITS), "float32"))
    np.testing.assert_allclose(ops.convert_to_numpy(step.c), 0.5 * c, rtol=1e-6)
    np.testing.assert_allclose(ops.convert_to_numpy(step.h), np.tanh(0.5 * c), rtol=1e-6)


@pytest.mark.parametrize("gates", [1, 4])
def test_project_with_one_mask_for_each_gate(rng, x, gates):
    kernel, _, bias = weights(rng, gates)
    masks = [(rng.random(x.shape) < 0.5).astype("float32") * 2 for _ in range(gates)]
    blocks = np.split(kernel, gates, axis=-1)
    truth = np.concatenate([(x * m) @ block for m, block in zip(masks, blocks, strict=True)], axis=-1) + bias
    np.testing.assert_allclose(ops.convert_to_numpy(project(x, kernel, bias, masks)), truth, atol=FLOAT32)
    shared = ops.convert_to_numpy(project(x, kernel, bias, masks[0]))
    np.testing.assert_allclose(shared, (x * masks[0]) @ kernel + bias, atol=FLOAT32)


def test_project_takes_any_leading_axes(rng):
    kernel, _, bias = weights(rng, 4)
    x = rng.normal(size=(3, 7, 2, FEATURES)).astype("float32")
    np.testing.assert_allclose(ops.convert_to_numpy(project(x, kernel, bias)), x @ kernel + bias, atol=FLOAT32)
    np.testing.assert_allclose(ops.convert_to_numpy(project(x, kernel)), x @ kernel, atol=FLOAT32)
