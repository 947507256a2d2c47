"""Every optimizer of Keras trains every engine to the same weights: some of them ask for the shapes of the gradients."""

from __future__ import annotations

import inspect
from functools import cache

import keras
import numpy as np
import pytest

import keras_lstm_custom as klc
from tests.engines.harness import FAST

X = np.random.default_rng(3).normal(size=(6, 5, 3)).astype("float32")
Y = np.random.default_rng(4).normal(size=(6, 2)).astype("float32")

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


@cache
def trained(engine: str, optimizer: str) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return the weights before and after one epoch of one batch, whose size the model does not know."""
    keras.utils.set_random_seed(1)
    layers = [klc.LSTM(4, return_sequences=True, engine=engine), klc.VanillaRNN(3, engine=engine)]
    model = keras.Sequential([keras.Input((None, 3)), *layers, keras.layers.Dense(2)])
    before = model.get_weights()
    made = getattr(keras.optimizers, optimizer)(**ARGUMENTS.get(optimizer, dict)())
    # On JAX, to compile each step as a whole would take a minute.
    model.compile(made, "mse", run_eagerly=keras.backend.backend() == "jax")
    model.fit(X, Y, batch_size=6, verbose=0)
    assert [layer.last_engine for layer in layers] == [engine] * 2
    return before, model.get_weights()


def test_there_are_optimizers():
    assert {"RMSprop", "Nadam", "Adafactor", "Adadelta", "Ftrl", "Lion", "Muon"} <= {*OPTIMIZERS}


@pytest.mark.parametrize("engine", FAST)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_one_step_gives_the_weights_of_the_reference(optimizer, engine):
    before, expected = trained("reference", optimizer)
    _, got = trained(engine, optimizer)
    for start, ours, reference in zip(before, got, expected, strict=True):
        step = np.abs(reference - start).max()
        assert step > 0
        np.testing.assert_allclose(ours, reference, rtol=0, atol=1e-3 * step + 1e-7)
