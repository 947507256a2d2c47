"""What the derived engine computes in parts, and what it keeps for the gradient: against the reference engine."""

from __future__ import annotations

from importlib import import_module

import keras
import numpy as np
import pytest

import keras_lstm_custom as klc
from keras_lstm_custom.engines import halves
from tests.engines.harness import TOLERANCE, Case, arrays, assert_same, exact_tanh, layer_of, run

BACKEND = keras.backend.backend()
pytestmark = pytest.mark.usefixtures("torch_steps")


@pytest.mark.skipif(BACKEND == "torch", reason="torch keeps all products")
@pytest.mark.parametrize("kind", ["gru before", "projection", "gate norm"])
def test_products_of_wide_kernels_are_kept(kind, monkeypatch, float64):
    """Those of the other tests are narrow, and computed again."""
    monkeypatch.setattr(import_module(f"keras_lstm_custom.engines.{BACKEND}.derived"), "NARROW", 1)
    case = Case(kind, "scattered", dtype="float64", activation=exact_tanh if BACKEND == "jax" else "tanh")
    data = arrays(case)
    assert_same(run("derived", case, data), run("reference", case, data), TOLERANCE["float64"])


@pytest.mark.skipif(BACKEND == "tensorflow", reason="under TensorFlow all steps come at once")
@pytest.mark.parametrize("timesteps", [6, 7])
@pytest.mark.parametrize("kind", ["gru before", "joint norm", "slstm"])
def test_inputs_and_gradients_of_kernels_of_some_steps_at_a_time(kind, timesteps, monkeypatch, float64):
    """As on long sequences and large batches. The last 2 of 7 steps are a part by themselves."""
    projected, project = set(), klc.cells.base.EquationCell.project_inputs

    def noted(self, x, dropout=None):
        projected.add(x.shape[:-2])
        return project(self, x, dropout)

    monkeypatch.setattr(klc.cells.base.EquationCell, "project_inputs", noted)
    case = Case(kind, "scattered", timesteps=timesteps, dtype="float64", activation=exact_tanh, inputs_dropout=1)
    data = arrays(case)
    rows = {"jax": "jax.parts", "torch": "torch.derived_loop"}[BACKEND]
    monkeypatch.setattr(import_module(f"keras_lstm_custom.engines.{rows}"), "ROWS", 5 * case.batch)
    assert_same(run("derived", case, data), run("reference", case, data), TOLERANCE["float64"])
    assert {(timesteps,), (3,), (5,)} & projected == ({(3,)} if timesteps == 6 and BACKEND == "jax" else {(5,)})


@pytest.mark.tensorflow
@pytest.mark.parametrize(
    ("kind", "mask", "batch", "known"),
    [
        ("gru before", "scattered", 7, False),
        ("slstm", "none", 6, True),
        ("zoneout", "left padded", 1, False),
        ("projection", "none", 0, False),
        ("joint norm", "none", 3, True),
    ],
)
def test_both_halves_of_a_batch(kind, mask, batch, known, monkeypatch):
    """Side by side in a graph, an unknown batch that has one row or none, too; in XLA's graphs in one piece."""
    import tensorflow as tf

    cut, counted = halves._cut, []
    monkeypatch.setattr(halves, "_cut", lambda request: counted.append(request) or cut(request))
    case = Case(kind, mask, timesteps=halves.STEPS, batch=batch, inputs_dropout=1, recurrent_dropout=1)
    data = arrays(case)
    widths = layer_of(case).state_size
    rows = batch if known else None

    def wrap(function):
        x = tf.TensorSpec((rows, case.timesteps, data["x"].shape[-1]))
        specs = x, [tf.TensorSpec((rows, width)) for width in widths]
        masked = [tf.TensorSpec((rows, case.timesteps), tf.bool)] if mask != "none" else [None]
        traced = tf.function(function, autograph=False).get_concrete_function(*specs, *masked)
        return lambda *arguments: traced(*[a for a in tf.nest.flatten(arguments) if a is not None])

    found = run("derived", case, data, wrap=wrap)
    assert len(counted) == 1
    assert_same(found, run("reference", case, data), TOLERANCE["float32"])
    run("derived", case, data, wrap=lambda function: tf.function(function, jit_compile=True, autograph=False))
    assert len(counted) == 1


@pytest.mark.tensorflow
def test_what_a_gradient_needs_is_kept_only_under_a_tape(monkeypatch):
    """And computed where one is taken all the same, by `tf.gradients`."""
    import tensorflow as tf

    from keras_lstm_custom.engines.tensorflow import derived

    kept = []
    forward = derived._Loops.forward

    def noted(self, *arguments):
        kept.append(arguments[-1])
        return forward(self, *arguments)

    monkeypatch.setattr(derived._Loops, "forward", noted)
    layer = klc.GRU(5, engine="derived")
    x = tf.random.normal((4, 6, 3))
    layer(x)
    assert kept == [False]
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x)
    assert kept == [False, True]
    without_tape = tf.function(lambda x: tf.gradients(layer(x), x)[0], autograph=False)(x)
    assert kept[2:] == [False, True]
    np.testing.assert_allclose(without_tape, tape.gradient(y, x), atol=1e-6)
