"""How training goes on in a converted model: optimizer, losses, metrics, and how it runs.

Nothing here is registered with Keras, since what is live in the process needs no registration.
"""

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_lstm_custom import from_keras
from keras_lstm_custom.models.rebuild import rebuild
from tests.models.copies import FEATURES, TIMESTEPS, OwnSGD, assert_trains_on, network, output, own_loss, trained


class Slope(keras.optimizers.schedules.LearningRateSchedule):
    def __init__(self, start):
        self.start = start

    def __call__(self, step):
        return self.start / (1.0 + ops.cast(step, "float32"))

    def get_config(self):
        return {"start": self.start}


def _excluded():
    optimizer = keras.optimizers.AdamW(0.05, weight_decay=0.5)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    return optimizer


@pytest.mark.parametrize(
    "make",
    [
        lambda: keras.optimizers.Adam(0.05),
        lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.05)),
        lambda: keras.optimizers.Adam(0.05, use_ema=True, ema_overwrite_frequency=3),
        lambda: keras.optimizers.SGD(0.05, momentum=0.9, gradient_accumulation_steps=3),
        lambda: keras.optimizers.SGD(Slope(0.1), clipnorm=0.5),
        lambda: OwnSGD(0.1),
        _excluded,
    ],
    ids=["adam", "loss scale", "ema", "accumulation", "own schedule", "own class", "no decay of biases"],
)
def test_the_optimizer_goes_on(make, x, y):
    model = trained(network(layers.Rescaling(0.05)), x, y, make())
    copy = assert_trains_on(model, x, y)
    assert type(copy.optimizer) is type(model.optimizer)
    assert int(copy.optimizer.iterations) == int(model.optimizer.iterations) > 0


def test_a_model_in_half_precision_keeps_its_loss_scale(x, y):
    keras.config.set_dtype_policy("mixed_float16")
    model = trained(network(layers.Rescaling(0.05)), x, y, "adam")
    copy = from_keras(model)
    assert type(copy.optimizer) is keras.optimizers.LossScaleOptimizer
    for ours, theirs in zip(copy.optimizer.variables, model.optimizer.variables, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(ours), ops.convert_to_numpy(theirs))


class OwnMean(keras.metrics.Mean):
    def update_state(self, truth, prediction, sample_weight=None):
        return super().update_state(ops.abs(truth - prediction))


def own_metric(truth, prediction):
    return ops.mean(truth - prediction)


@pytest.mark.parametrize("loss", [own_loss, keras.losses.Huber(0.1)], ids=["function", "Huber's delta"])
def test_losses_and_metrics_are_the_same_ones(loss, x, y):
    metrics = [OwnMean(name="own"), own_metric, "mae", keras.metrics.RootMeanSquaredError()]
    model = trained(network(), x, y, loss=loss, metrics=metrics, weighted_metrics=["mse"])
    copy = from_keras(model)
    assert copy.loss is model.loss
    results = [each.evaluate(x, y, verbose=0, return_dict=True) for each in (model, copy)]
    assert results[0].keys() == results[1].keys()
    np.testing.assert_allclose(list(results[1].values()), list(results[0].values()), rtol=1e-5)


def test_metrics_are_not_shared(x, y):
    model = trained(network(), x, y, metrics=[keras.metrics.MeanSquaredError(name="error")])
    copy = from_keras(model)
    held = [ops.convert_to_numpy(v) for metric in model.metrics for v in metric.variables]
    copy.evaluate(x[:2], y[:2], verbose=0)
    for kept, variable in zip(held, [v for metric in model.metrics for v in metric.variables], strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(variable), kept)


def test_loss_weights_of_several_outputs(x, y):
    inputs = keras.Input((TIMESTEPS, FEATURES))
    h = layers.LSTM(4, name="memory")(layers.Rescaling(0.05)(inputs))
    model = keras.Model(inputs, {"a": layers.Dense(2, name="a")(h), "b": layers.Dense(1, name="b")(h)})
    targets = {"a": y, "b": y[:, :1]}
    trained(model, x, targets, loss={"a": "mse", "b": "mae"}, loss_weights={"a": 0.1, "b": 3.0})
    assert_trains_on(model, x, targets)


def test_how_it_runs_is_kept(x, y):
    steps = 2 if keras.backend.backend() != "torch" else 1
    model = trained(network(layers.Rescaling(0.05)), x, y, run_eagerly=False, steps_per_execution=steps)
    copy = assert_trains_on(model, x, y)
    assert (copy.run_eagerly, copy.jit_compile, copy.steps_per_execution) == (False, model.jit_compile, steps)
    model.run_eagerly = True
    assert from_keras(model).run_eagerly


def test_what_cannot_be_compiled_again_is_told(x, y):
    class NeedsAnArgument(OwnMean):
        def __init__(self, needed):
            super().__init__()

    model = trained(network(), x, y, metrics=[NeedsAnArgument(1)])
    with pytest.warns(UserWarning, match="optimizer, loss and metrics could not be brought along"):
        copy = from_keras(model)
    np.testing.assert_allclose(output(copy, x), output(model, x), atol=1e-6)
    assert not copy.compiled


def test_a_model_inside_another_keeps_how_it_was_compiled(x, y):
    inner = keras.Sequential([keras.Input(x.shape[1:]), layers.LSTM(3, name="memory")], name="inner")
    inner.compile("adam", own_loss)
    copy = from_keras(keras.Sequential([keras.Input(x.shape[1:]), inner, layers.Dense(2)]))
    assert copy.get_layer("inner").loss is own_loss


def test_rebuilding_needs_nothing_of_compile(x, y):
    def unserialisable(truth, prediction):
        raise AssertionError

    model = network()
    model.compile(OwnSGD(0.1), unserialisable)
    assert not rebuild(model).compiled
