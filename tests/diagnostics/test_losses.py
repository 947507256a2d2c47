"""The loss whose gradient is shown is the one that `fit` minimises."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_lstm_custom import LSTM, gradient_flow
from keras_lstm_custom.diagnostics import GateMonitor
from keras_lstm_custom.errors import ArgumentError

SIZE, TIMESTEPS, FEATURES = 6, 5, 3


@pytest.fixture
def x(rng):
    return rng.normal(size=(SIZE, TIMESTEPS, FEATURES)).astype("float32")


def network(*after, **options):
    memory = LSTM(3, name="memory", return_sequences=True, **options)
    return keras.Sequential([keras.Input((TIMESTEPS, FEATURES)), memory, *after, layers.LSTM(2), layers.Dense(1)])


class Endpoint(layers.Layer):
    """Compares prediction and truth itself, as a CTC end point does."""

    def call(self, truth, prediction):
        self.add_loss(ops.mean((truth - prediction) ** 2))
        return prediction


def with_endpoint():
    """Return a model with its loss in `add_loss`, and the same with a compiled loss."""
    x, y = keras.Input((TIMESTEPS, FEATURES), name="x"), keras.Input((1,), name="y")
    prediction = layers.Dense(1)(LSTM(3, name="memory")(x))
    own, compiled = keras.Model([x, y], Endpoint()(y, prediction)), keras.Model(x, prediction)
    own.compile("sgd", run_eagerly=True)
    compiled.compile("sgd", "mse")
    return own, compiled


def test_a_model_that_carries_its_loss_needs_no_targets(x):
    own, compiled = with_endpoint()
    y = x[:, 0, :1]
    expected = gradient_flow(compiled, x, y)["memory"]
    got = gradient_flow(own, {"x": x, "y": y})["memory"]
    np.testing.assert_allclose(got.norms("c"), expected.norms("c"), rtol=1e-5)
    np.testing.assert_allclose(got.loss, expected.loss, rtol=1e-5)
    monitor = GateMonitor({"x": x, "y": y}, every=1)
    own.fit({"x": x, "y": y}, verbose=0, callbacks=[monitor])
    assert np.isfinite(monitor.to_frame()["retained"]).all()


def test_regularisers_are_part_of_it(x):
    """Of weights they count in the loss; of activities they have a gradient of their own."""
    y = x[:, 0, :1]
    plain, regular = network(), network(activity_regularizer=keras.regularizers.L2(0.5), kernel_regularizer="l2")
    regular.set_weights(plain.get_weights())
    for model in (plain, regular):
        model.compile("sgd", "mse", loss_weights=[3.0])
    flows = [gradient_flow(model, x, y)["memory"] for model in (plain, regular)]
    for model, flow in zip((plain, regular), flows, strict=True):
        np.testing.assert_allclose(flow.loss, model.evaluate(x, y, verbose=0), rtol=1e-5)
    assert np.abs(flows[0].norms("h") - flows[1].norms("h")).max() > 1e-4


def test_weights_of_sequences_scale_their_gradients(x):
    y, weight = x[:, 0, :1], np.linspace(0.2, 3, SIZE).astype("float32")
    model = network()
    model.compile("sgd", "mse")
    flow = gradient_flow(model, x, y)["memory"].norms("c")
    for loss in (None, "mse", keras.losses.MeanSquaredError()):
        weighted = gradient_flow(model, x, y, loss, sample_weight=weight)["memory"].norms("c")
        np.testing.assert_allclose(weighted, flow * weight[:, None], rtol=1e-4, atol=1e-9)
    with pytest.raises(ArgumentError, match="knows of no weights"):
        gradient_flow(model, x, y, lambda truth, prediction: ops.mean(prediction), sample_weight=weight)


class OwnLoss(keras.Model):
    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None):
        return 7.0 * ops.mean(y_pred**2)


def test_a_loss_that_the_model_computes_itself(x):
    inputs = keras.Input((TIMESTEPS, FEATURES))
    model = OwnLoss(inputs, LSTM(2, name="memory")(inputs))
    model.compile("sgd")
    output = ops.convert_to_numpy(model(x))
    np.testing.assert_allclose(gradient_flow(model, x)["memory"].loss, 7 * np.mean(output**2), rtol=1e-5)


def test_says_which_loss_or_target_is_missing(x):
    model = network()
    with pytest.raises(ArgumentError, match="not compiled"):
        gradient_flow(model, x)
    model.compile("sgd")
    with pytest.raises(ArgumentError, match="whose layers add none"):
        gradient_flow(model, x)
    model.compile("sgd", "mse")
    with pytest.raises(ArgumentError, match="there are none"):
        gradient_flow(model, x)


def test_a_monitor_without_any_loss_records_gates_alone(x):
    model = network()
    model.compile("sgd", "mse", run_eagerly=True)
    monitor = GateMonitor(x, every=1)
    model.fit(x, x[:, 0, :1], verbose=0, callbacks=[monitor])
    assert "f_mean" in monitor.to_frame()
    assert "retained" not in monitor.to_frame()
