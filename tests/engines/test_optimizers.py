"""Every optimizer of Keras trains every engine to the same weights: some ask for the shapes of the gradients."""

from __future__ import annotations

import inspect
from functools import partial

import keras
import numpy as np
import pytest
from packaging.version import Version

import keras_lstm_custom as klc
from tests.engines.harness import FAST

BACKEND = keras.backend.backend()
X = np.random.default_rng(3).normal(size=(6, 5, 3)).astype("float32")
Y = np.random.default_rng(4).normal(size=(6, 3)).astype("float32")

#: How an optimizer is made that needs arguments.
ARGUMENTS = {
    "LossScaleOptimizer": lambda: {"inner_optimizer": keras.optimizers.SGD()},
    "MultiOptimizer": lambda: {
        "optimizer_map": lambda weight: getattr(keras.optimizers, "RMSprop" if "kernel" in weight.path else "SGD")()
    },
}
OPTIMIZERS = sorted(
    name
    for name, value in vars(keras.optimizers).items()
    if inspect.isclass(value)
    and issubclass(value, keras.optimizers.Optimizer)
    and value is not keras.optimizers.Optimizer
)


def test_there_are_optimizers():
    assert {"RMSprop", "Nadam", "Adafactor", "Adadelta", "Ftrl", "Lion", "Muon"} <= {*OPTIMIZERS}


# On JAX, where every gradient is an array with a shape and each model takes seconds to compile, three of them.
@pytest.mark.parametrize("optimizer", OPTIMIZERS if BACKEND != "jax" else ["Adafactor", "Muon", "SGD"])
def test_one_step_gives_the_weights_of_the_reference(optimizer):
    """One model with a branch for each engine, all of the same weights; its batch size and length are open."""
    last = klc.LSTM if BACKEND == "jax" else klc.VanillaRNN  # JAX's own engine knows the LSTM alone
    check([klc.LSTM, last], ["reference", *FAST], optimizer)


@pytest.mark.tensorflow
@pytest.mark.parametrize("optimizer", ["Adafactor", "Muon"])
def test_the_other_cells_of_native(optimizer):
    check([partial(klc.LSTM, peepholes=True, coupled=True), klc.GRU], ["reference", "native"], optimizer)


def check(layers, engines, optimizer):
    if optimizer == "Muon" and Version(keras.__version__) < Version("3.11"):
        pytest.skip("Keras 3.10's own Muon trains no model under TensorFlow, Keras' Dense neither")
    first, last = layers
    branches = [[first(4, return_sequences=True, engine=e), last(3, engine=e)] for e in engines]
    x = keras.Input((None, 3))
    model = keras.Model(x, keras.layers.Add()([above(below(x)) for below, above in branches]))
    before = [weight for layer in branches[0] for weight in layer.get_weights()]
    for branch in branches[1:]:
        for layer, first in zip(branch, branches[0], strict=True):
            layer.set_weights(first.get_weights())
    made = getattr(keras.optimizers, optimizer)(**ARGUMENTS.get(optimizer, dict)())
    # On JAX, to compile each step as a whole would take a minute.
    model.compile(made, "mse", run_eagerly=BACKEND == "jax")
    model.fit(X, Y, batch_size=6, verbose=0)
    for engine, branch in zip(engines, branches, strict=True):
        assert [layer.last_engine for layer in branch] == [engine] * 2
        after = [[weight for layer in b for weight in layer.get_weights()] for b in (branch, branches[0])]
        for start, ours, expected in zip(before, *after, strict=True):
            step = np.abs(expected - start).max()
            assert step > 0
            np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-3 * step + 1e-7, err_msg=engine)
