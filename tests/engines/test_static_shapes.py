"""What TensorFlow knows of the shapes of outputs and gradients before it runs: with every engine as with Keras."""

from __future__ import annotations

from functools import partial

import keras
import pytest

import keras_lstm_custom as klc
from tests.covering import covering

pytestmark = pytest.mark.tensorflow

UNITS, FEATURES = 4, 3
LAYERS = {"lstm": (klc.LSTM, keras.layers.LSTM, 2), "vanilla_rnn": (klc.VanillaRNN, keras.layers.SimpleRNN, 1)}
#: Cells of native alone. Keras has not all of them; then the reference engine, which is Keras' loop, stands in.
_WITH_OPTIONS = partial(klc.LSTM, peepholes=True, coupled=True, zoneout=0.1)
OTHERS = {
    "gru": (klc.GRU, keras.layers.GRU, 1),
    "options": (_WITH_OPTIONS, partial(_WITH_OPTIONS, engine="reference"), 2),
}
OPTIONS = [
    {},
    {"return_sequences": True, "return_state": True},
    {"dropout": 0.2, "recurrent_dropout": 0.2, "go_backwards": True},
    {"dropout": 0.2, "use_bias": False, "return_state": True},
    {"checkpoint_every": 4, "return_sequences": True},
]
COMMON = {
    "sizes": [(None, None), (None, 6), (2, None)],
    "options": OPTIONS,
    "masked": [False, True],
    "state": [False, True],
}
CASES = [
    *covering({"kind": [*LAYERS], "engine": ["native", "portable", "reference"], **COMMON}),
    *covering({"kind": [*OTHERS], "engine": ["native"], **COMMON}),
]


def known_shapes(layer, sizes, states, masked):
    """Return the static shapes of all outputs, and of the gradients of x, the states and the weights."""
    import tensorflow as tf

    shapes = []

    def step(x, *state):
        mask = tf.not_equal(x[:, :, 0], 0.0) if masked else None
        with tf.GradientTape() as tape:
            tape.watch([x, *state])
            outputs = tf.nest.flatten(layer(x, initial_state=list(state) or None, mask=mask, training=True))
            loss = tf.add_n([tf.reduce_sum(y) for y in outputs])
        gradients = tape.gradient(loss, [x, *state, *layer.trainable_variables])
        shapes.extend(t.shape for t in (*outputs, *gradients))

    signature = [tf.TensorSpec([*sizes, FEATURES]), *[tf.TensorSpec([sizes[0], UNITS])] * states]
    tf.function(step, signature, autograph=False).get_concrete_function()
    return [None if shape.rank is None else tuple(shape) for shape in shapes]


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case.values())))
def test_they_are_those_of_keras(case):
    ours, theirs, states = (LAYERS | OTHERS)[case["kind"]]
    layer = ours(UNITS, engine=case["engine"], **case["options"])
    if case["engine"] == "native" and not layer.explain_engine((2, 3, FEATURES)).answers["native"].ok:
        pytest.skip("the native engine is not built")
    keras_layer = theirs(UNITS, **{name: v for name, v in case["options"].items() if name != "checkpoint_every"})
    arguments = case["sizes"], states * case["state"], case["masked"]
    assert known_shapes(layer, *arguments) == known_shapes(keras_layer, *arguments)
