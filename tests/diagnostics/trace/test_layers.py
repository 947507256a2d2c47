"""Which layers are traced, wherever they are in a model, and by what names."""

import keras
import numpy as np
from keras import layers, ops

from keras_lstm_custom import LSTM, LSTMCell, trace
from keras_lstm_custom.diagnostics import GateTrace, RNNTrace
from keras_lstm_custom.models.walk import recurrent_layers
from tests.diagnostics.trace.models import (
    BATCH,
    FEATURES,
    TIMESTEPS,
    TOLERANCE,
    UNITS,
    Subclassed,
    assert_agrees,
    oracle,
    randomised,
    small,
)


def test_finds_every_layer_however_deep_and_names_it_by_its_place(rng, x):
    inner = keras.Sequential([keras.Input((None, FEATURES)), layers.LSTM(5, return_sequences=True)], name="encoder")
    shared = LSTM(UNITS, return_sequences=True, name="shared")
    sequences = keras.Input((TIMESTEPS, FEATURES))
    y = inner(sequences)
    y = layers.Bidirectional(layers.SimpleRNN(3, return_sequences=True), name="both")(y)
    y = layers.RNN(
        layers.StackedRNNCells([layers.LSTMCell(2), LSTMCell(7), layers.SimpleRNNCell(UNITS)]),
        return_sequences=True,
        go_backwards=True,
        name="stack",
    )(y)
    y = layers.RNN(layers.LSTMCell(UNITS), return_sequences=True, name="loop")(y)
    model = randomised(keras.Model(sequences, layers.Dense(1)(shared(shared(y)))), rng)
    steps = trace(model, x)
    encoder = inner.layers[0].name
    cells = [f"stack/{cell.name}" for cell in model.get_layer("stack").cell.cells]
    assert list(steps)[1:3] == ["both/forward_simple_rnn", "both/backward_simple_rnn"] or "both/" in list(steps)[1]
    assert [name for name in steps if "both/" not in name] == [
        f"encoder/{encoder}",
        *cells,
        "loop",
        "shared",
        "shared#2",
    ]
    assert [type(step) for step in steps.values()] == [
        GateTrace,
        *[RNNTrace] * 2,
        *[GateTrace] * 2,
        RNNTrace,
        *[GateTrace] * 3,
    ]
    # Each layer was given what the one before it gave out, up to the model's own output.
    np.testing.assert_array_equal(steps["loop"].x, steps[cells[-1]].h[:, ::-1])
    np.testing.assert_array_equal(steps["shared#2"].x, steps["shared"].h)
    weights, bias = model.layers[-1].get_weights()
    expected = ops.convert_to_numpy(model(ops.convert_to_tensor(x), training=False))
    np.testing.assert_allclose(steps["shared#2"].h @ weights + bias, expected, **TOLERANCE)
    assert list(trace(model, x, layers=["both", "shared"])) == [n for n in steps if n.startswith(("both/", "shared"))]


def test_a_subclassed_model_with_our_layers_needs_no_copy(rng, x):
    model = Subclassed(LSTM(UNITS, return_sequences=True, name="memory"))
    model(x)
    assert_agrees(trace(randomised(model, rng), x)["memory"], oracle(model.memory, x))


@keras.saving.register_keras_serializable(package="tests")
class Fold(layers.Layer):
    """Make two short sequences of each long one."""

    def call(self, x):
        return ops.reshape(x, (-1, TIMESTEPS // 2, FEATURES))


def test_a_model_may_fold_an_axis_into_the_batch(x):
    model = small(Fold(), LSTM(UNITS, name="memory"))
    whole, parts = trace(model, x)["memory"], trace(model, x, batch_size=2)["memory"]
    assert whole.h.shape == (2 * BATCH, TIMESTEPS // 2, UNITS)
    np.testing.assert_array_equal(whole.x, x.reshape(-1, TIMESTEPS // 2, FEATURES))
    np.testing.assert_allclose(parts.h, whole.h, **TOLERANCE)


HIDDEN = LSTM(2, return_sequences=True, name="hidden")


class Forgetful(Subclassed):
    """A model that calls a layer which it does not hold."""

    def call(self, x):
        return super().call(HIDDEN(x))


def test_a_layer_that_the_model_does_not_hold_goes_by_its_own_path(x):
    model = Forgetful(LSTM(UNITS, name="memory"))
    HIDDEN.build(x.shape)
    model(x)
    first, second = trace(model, x)
    assert (first.split("/")[0], second) == ("hidden", "memory")


def test_layers_of_keras_are_traced_where_they_are_in_a_subclassed_model(x):
    model = Subclassed(layers.LSTM(2, name="memory"))
    output = ops.convert_to_numpy(model(x))
    (traced,) = trace(model, x).values()
    kernel, bias = model.head.get_weights()
    np.testing.assert_allclose(traced.h[:, -1] @ kernel + bias, output, atol=1e-6)
    assert "inner_loop" not in vars(next(iter(recurrent_layers(model).values())))


class Block(layers.Layer):
    """Makes its own layer of Keras."""

    def __init__(self, **options):
        super().__init__(**options)
        self.held = {"memory": [layers.LSTM(FEATURES, return_sequences=True, name="hidden")]}

    def build(self, shape):
        self.held["memory"][0].build(shape)

    def call(self, x):
        return self.held["memory"][0](x)


def test_a_layer_inside_a_custom_layer_is_traced_with_live_weights(rng, x):
    model = keras.Sequential([keras.Input(x.shape[1:]), Block(name="block"), layers.LSTM(2, name="memory")])
    randomised(model, rng)
    steps = trace(model, x)
    assert list(steps) == ["block/hidden", "memory"]
    np.testing.assert_allclose(steps["memory"].x, steps["block/hidden"].h, atol=1e-6)
    np.testing.assert_allclose(steps["memory"].h[:, -1], ops.convert_to_numpy(model(x)), atol=1e-6)
