"""Where "auto" takes the engines that are not always the fastest: the rows that `docs/engines.md` has figures for."""

import numpy as np
import pytest

from keras_lstm_custom import GRU, LSTM, VanillaRNN

pytestmark = pytest.mark.tensorflow

LONG, ONE, STEP, DYNAMIC = (32, 100, 8), (1, 100, 8), (32, 1, 8), (32, None, 8)


@pytest.mark.parametrize(
    ("layer", "dtype", "shape", "call", "taken"),
    [
        (LSTM, "float32", LONG, {"training": True}, True),
        (LSTM, "float32", LONG, {}, False),
        (LSTM, "float32", LONG, {"masked": True}, True),
        (LSTM, "float32", ONE, {}, True),
        (LSTM, "float32", STEP, {"training": True}, False),
        (LSTM, "float32", STEP, {"masked": True}, False),
        (LSTM, "float32", DYNAMIC, {"training": True}, False),
        (VanillaRNN, "float32", LONG, {}, True),
        (VanillaRNN, "float32", DYNAMIC, {}, False),
        (LSTM, "mixed_float16", LONG, {}, True),
        (LSTM, "float64", LONG, {}, True),
        (LSTM, "mixed_bfloat16", LONG, {"training": True}, False),
        (VanillaRNN, "mixed_bfloat16", LONG, {"masked": True}, False),
        (LSTM, "mixed_bfloat16", ONE, {"training": True}, True),
    ],
)
def test_auto_takes_the_portable_engine_where_it_was_measured_faster(layer, dtype, shape, call, taken):
    assert layer(4, dtype=dtype).explain_engine(shape, **call).answers["portable"].ok is taken
    forced = layer(4, dtype=dtype, engine="portable").explain_engine(shape, **call)
    assert forced.chosen == "portable"  # it is a matter of speed, not of what it can do


@pytest.mark.parametrize(
    ("dtype", "shape", "taken"),
    [("float32", STEP, True), ("mixed_float16", STEP, False), ("mixed_bfloat16", STEP, False), ("float16", LONG, True)],
)
def test_auto_leaves_one_step_in_half_precision_to_the_loop(dtype, shape, taken):
    forced = LSTM(4, dtype=dtype, engine="native").explain_engine(shape)
    if not forced.chosen:
        pytest.skip(forced.answers["native"].reason)
    assert LSTM(4, dtype=dtype).explain_engine(shape).answers["native"].ok is taken


@pytest.mark.parametrize("checkpoint_every", [None, 2])
def test_auto_leaves_eager_training_to_the_generic_loop_and_says_so(checkpoint_every):
    import tensorflow as tf

    layer = GRU(4, reset_after=False, checkpoint_every=checkpoint_every)
    x = tf.constant(np.zeros((3, 5, 2), "float32"))
    with tf.GradientTape():
        layer(x, training=True)
        assert layer.last_engine == "reference"
    layer(x, training=True)  # without a gradient
    assert layer.last_engine == "derived"

    @tf.function(autograph=False)
    def train(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(x, training=True))
        return tape.gradient(loss, layer.cell.kernel.value)

    layer.last_engine = None
    train(x)
    assert layer.last_engine == "derived"
    explanation = layer.explain_engine((3, 5, 2), training=True)
    assert explanation.chosen == "derived"
    assert "called eagerly" in explanation.answers["derived"].reason
    assert "called eagerly" not in layer.explain_engine((3, 5, 2)).answers["derived"].reason


@pytest.mark.parametrize("training", [True, False])
def test_auto_leaves_one_step_to_the_loop(training):
    for steps, taken in ((1, False), (2, True)):
        explanation = LSTM(256, projection=32).explain_engine((64, steps, 64), training=training)
        assert explanation.answers["derived"].ok is taken
