"""Batches without rows, sequences without timesteps, inputs without features: on every engine as the equations say."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import ops

from tests.covering import covering
from tests.engines.harness import FAST, KINDS, LAYERS, NATIVE
from tests.gradients import loss_coefficients, outputs_and_gradients

UNITS = 4
OPTIONS = [
    {},
    {"return_sequences": True, "go_backwards": True},
    {"dropout": 0.3, "recurrent_dropout": 0.3},
    {"checkpoint_every": 2, "return_sequences": True},
    {"unroll": True},
]
#: What has equations of its own: each cell on each fast engine, and those of native alone.
SERVED = [(kind, engine) for kind in LAYERS for engine in FAST] + [(k, "native") for k in NATIVE if "native" in FAST]
ENGINES = [*FAST, "reference"]
AXES = {"served": SERVED + [(kind, "reference") for kind in LAYERS], "options": OPTIONS, "masked": [False, True]}


def cases(**axes):
    """Return marks for any two of these."""
    rows = [(*row["served"], row["options"], row["masked"]) for row in covering({**AXES, **axes})]
    return pytest.mark.parametrize(("kind", "engine", "options", "masked"), rows, ids=str)


def case_of(kind, engine, options, shape, masked):
    """Return a layer, x and states; skip what the engine does not serve."""
    layer_class, of_kind = KINDS[kind]
    layer = layer_class(UNITS, engine=engine, return_state=True, seed=1, **of_kind, **options)
    layer.build((None, None, shape[2]))
    if not layer.explain_engine((3, shape[1], shape[2]), masked=masked, training=True).answers[engine].ok:
        pytest.skip("the engine does not serve this")
    rng = np.random.default_rng(0)
    states = [rng.normal(size=(shape[0], UNITS)).astype("float32") for _ in layer.state_size]
    return layer, np.ones(shape, "float32"), states


@cases()
def test_without_timesteps_the_state_stays(kind, engine, options, masked):
    layer, x, states = case_of(kind, engine, options, (3, 0, 2), masked)
    check_that_the_state_stays(
        layer,
        states,
        *outputs_and_gradients(layer, x, states, mask=np.ones((3, 0), bool) if masked else None, training=True),
    )


def check_that_the_state_stays(layer, states, outputs, gradients):
    """The output is empty, or h; the gradients are what comes back to the state, and 0 for all weights."""
    output, *final = outputs
    for got, expected in zip(final, states, strict=True):
        np.testing.assert_array_equal(got, expected)
    if layer.return_sequences:
        assert output.shape == (3, 0, UNITS)
    else:
        np.testing.assert_array_equal(output, states[0])
    dx, *rest = gradients
    assert dx.shape == (3, 0, 2)
    expected = [loss_coefficients((3, UNITS))] * len(states)
    if not layer.return_sequences:
        expected[0] = 2 * expected[0]
    for got, value in zip(rest[: len(states)], expected, strict=True):
        np.testing.assert_allclose(got, value, rtol=1e-6)
    for gradient, weight in zip(rest[len(states) :], layer.trainable_variables, strict=True):
        np.testing.assert_array_equal(gradient, np.zeros(weight.shape))


@pytest.mark.parametrize("shape", [(0, 5, 2), (0, 0, 2), (3, 5, 0), (3, 0, 0), (0, 0, 0)], ids=str)
@pytest.mark.parametrize(("kind", "engine"), SERVED)
def test_other_sizes_of_zero_as_in_the_reference(kind, engine, shape):
    results = []
    for name in (engine, "reference"):
        layer, x, states = case_of(kind, name, {"return_sequences": True}, shape, masked=False)
        layer.set_weights([np.cos(np.arange(w.size)).reshape(w.shape) for w in layer.get_weights()])
        outputs, gradients = outputs_and_gradients(layer, x, states, training=True)
        results.append([*outputs, *gradients])
    for got, expected in zip(*results, strict=True):
        assert got.shape == expected.shape
        np.testing.assert_allclose(got, expected, atol=1e-5)


@pytest.mark.parametrize("engine", ENGINES)
def test_without_timesteps_and_without_a_state(engine):
    layer = LAYERS["lstm"][0](UNITS, engine=engine)
    np.testing.assert_array_equal(ops.convert_to_numpy(layer(np.ones((3, 0, 2), "float32"))), np.zeros((3, UNITS)))


@pytest.mark.tensorflow
@cases(options=OPTIONS[:-1])  # to unroll needs a length
def test_an_open_length_may_be_0(kind, engine, options, masked):
    import tensorflow as tf

    layer, x, states = case_of(kind, engine, options, (3, 0, 2), masked)

    def run(x, mask, *states):
        def call(x, *states):
            outputs = layer(x, initial_state=list(states), mask=mask if masked else None, training=True)
            # An output of 0 steps has a shape of its own; its share of the loss is 0.
            return tf.add_n(
                [tf.reduce_sum(y * loss_coefficients((3, UNITS))) for y in outputs[layer.return_sequences :]]
            ), outputs

        watched = [x, *states, *(w.value for w in layer.trainable_variables)]
        with tf.GradientTape() as tape:
            tape.watch(watched)
            loss, outputs = call(x, *states)
        return outputs, tape.gradient(loss, watched, unconnected_gradients=tf.UnconnectedGradients.ZERO)

    signature = [
        tf.TensorSpec([None, None, 2]),
        tf.TensorSpec([None, None], tf.bool),
        *[tf.TensorSpec([None, UNITS])] * len(states),
    ]
    run = tf.function(run, signature, autograph=False)
    longer, _ = run(np.ones((3, 4, 2), "float32"), np.ones((3, 4), bool), *states)
    assert np.abs(longer[1] - states[0]).max() > 0.01
    outputs, gradients = run(x, np.ones((3, 0), bool), *states)
    check_that_the_state_stays(layer, states, [y.numpy() for y in outputs], [g.numpy() for g in gradients])


@pytest.mark.tensorflow
@pytest.mark.parametrize("engine", ENGINES)
def test_fit_and_predict_of_an_open_length(engine):
    model = keras.Sequential(
        [keras.Input((None, 2)), LAYERS["lstm"][0](UNITS, engine=engine, dropout=0.2), keras.layers.Dense(1)]
    )
    model.compile("rmsprop", "mse")
    model.fit(np.ones((4, 3, 2), "float32"), np.ones((4, 1)), verbose=0)
    before = model.get_weights()
    model.fit(np.ones((4, 0, 2), "float32"), np.ones((4, 1)), verbose=0)
    for weight, earlier in list(zip(model.get_weights(), before, strict=True))[:3]:  # the gradient is 0
        np.testing.assert_array_equal(weight, earlier)
    np.testing.assert_allclose(
        model.predict(np.ones((4, 0, 2), "float32"), verbose=0), np.tile(model.get_weights()[-1], (4, 1))
    )
