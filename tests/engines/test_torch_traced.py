"""Derived steps under torch from a trace: when, of what, and that nothing of a call or a cell's past stays in it."""

from __future__ import annotations

import gc
import weakref
from dataclasses import dataclass
from typing import Any, NamedTuple

import keras
import numpy as np
import pytest
from keras import ops

from tests.engines.harness import Case, assert_same, run

if keras.backend.backend() != "torch":
    pytest.skip("needs the torch backend", allow_module_level=True)

import torch

import keras_lstm_custom as klc
from keras_lstm_custom.engines.torch import derived_traced as traced
from keras_lstm_custom.engines.torch.trace import Trace


@pytest.fixture(autouse=True)
def traces(monkeypatch):
    """Trace few steps, too; gives the traces."""
    traced.TRACES.clear()
    monkeypatch.setattr(traced, "FEW", 0)
    yield traced.TRACES
    traced.TRACES.clear()


class OwnStep(NamedTuple):
    """What a step computes."""

    h: Any


class OwnCell(klc.RecurrentCell):
    """h = tanh(z + U h), and what a test makes of it."""

    gates = ("h",)
    step_type = OwnStep
    factor: Any = 1.0
    makes = staticmethod(lambda cell, h: h)

    def step(self, z_x, state, recurrent_dropout=None):
        u = klc.equations.project(state.h, self.tensor("recurrent_kernel"), mask=recurrent_dropout)
        return OwnStep(type(self).makes(self, ops.tanh(z_x + u * self.factor)))


def layer_that(makes=OwnCell.makes, **options):
    """Return a layer, and one that computes the same on the reference engine."""
    cell_class = type("Cell", (OwnCell,), {"makes": staticmethod(makes)})
    layer_class = type("Layer", (klc.Recurrent,), {"cell_class": cell_class})
    layers = [layer_class(4, engine=engine, **options) for engine in ("derived", "reference")]
    for layer in layers:
        layer.build((None, None, 3))
        layer.set_weights(layers[0].get_weights())
    return layers


def gradients(layer, x):
    h = layer(x)
    return [h, *torch.autograd.grad((h**2).sum(), [w.value for w in layer.trainable_weights])]


def assert_equal(found, expected):
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


X = torch.tensor(np.random.default_rng(0).normal(size=(2, 7, 3)).astype("float32"))


def test_it_really_runs(monkeypatch):
    layer, reference = layer_that()
    forward = traced.TracedStep.forward

    def shifted(self, *arguments):
        hs, state, kept = forward(self, *arguments)
        return hs + 1, [s + 1 for s in state], kept

    monkeypatch.setattr(traced.TracedStep, "forward", shifted)
    torch.testing.assert_close(layer(X), reference(X) + 1)
    with torch.no_grad():
        torch.testing.assert_close(layer(X), reference(X) + 1)


def test_one_shape_has_one_trace_and_the_oldest_is_let_go(traces, monkeypatch):
    monkeypatch.setattr(traces, "most", 2)
    layer, _ = layer_that()
    for _ in range(2):
        layer(X)
        layer(X[:, :5])
        assert len(traces) == 1
    for rows in (3, 4, 5):
        layer(torch.ones(rows, 7, 3))
    assert len(traces) == 2


def test_a_few_steps_run_as_they_are(traces, monkeypatch):
    monkeypatch.setattr(traced, "FEW", 7)
    layer, _ = layer_that()
    layer(X[:, :6])
    assert not len(traces)
    layer(X)
    assert len(traces) == 1


def test_a_step_that_runs_again_for_the_gradient_keeps_the_same(traces):
    layer, reference = layer_that(checkpoint_every=3)
    assert_equal(gradients(layer, X), gradients(reference, X))
    assert len(traces) == 1


def test_large_steps_run_as_they_are(traces, monkeypatch):
    monkeypatch.setattr(traced, "SMALL", 7)
    layer, reference = layer_that()
    assert_equal(gradients(layer, X), gradients(reference, X))
    assert not len(traces)


def first_doubled(cell, h):
    h = h + 0
    h[:, :1].mul_(2)
    return h


@pytest.mark.parametrize(
    "makes",
    [
        lambda cell, h: h if float(h.sum()) > 100 else 2 * h,
        first_doubled,
        lambda cell, h: h + 0 * torch.rand(1),
    ],
    ids=["a branch on numbers", "in place", "random"],
)
def test_what_cannot_be_traced_runs_as_it_is_and_says_so(makes):
    layer, reference = layer_that(makes)
    with pytest.warns(UserWarning, match="could not be traced, so its operations are called one by one"):
        found = gradients(layer, X)
    assert_equal(found, gradients(reference, X))
    assert_equal(gradients(layer, X), gradients(reference, X))  # and does not try again


def test_in_place_of_its_own_is_traced(traces):
    """torch's derivative of a maximum writes into a tensor that it has just made."""
    layer, reference = layer_that(lambda cell, h: ops.maximum(h, -0.1 * h))
    assert_equal(gradients(layer, X), gradients(reference, X))
    assert len(traces) == 1


@dataclass
class Scaled:
    """A function that has no hash, as no dataclass that can be compared and changed has."""

    factor: float

    def __call__(self, u):
        return u * self.factor


@pytest.mark.parametrize(
    "values",
    [(0.5, 2.0), (np.float32(0.5), np.float32(2)), ([0.5], [2.0]), (np.full(4, 0.5, "float32"), np.ones(4, "float32"))],
    ids=["number", "numpy number", "list", "array"],
)
def test_a_setting_that_changes_is_not_overlooked(values):
    layer, reference = layer_that()
    for value in (*values, values[0]):
        for each in (layer, reference):
            each.cell.factor = ops.convert_to_tensor(value) if isinstance(value, (list, np.ndarray)) else value
        assert_equal(gradients(layer, X), gradients(reference, X))


def test_a_function_that_changes_inside_is_not_overlooked():
    layer, reference = layer_that(lambda cell, h: cell.scaled(h))
    for each in (layer, reference):
        each.cell.scaled = Scaled(0.5)
    for factor in (0.5, 2.0):
        for each in (layer, reference):
            each.cell.scaled.factor = factor
        assert_equal(gradients(layer, X), gradients(reference, X))


def test_what_is_the_same_at_all_steps_is_computed_once():
    layer, reference = layer_that(lambda cell, h: h * ops.exp(cell.tensor("bias")))
    assert_equal(gradients(layer, X), gradients(reference, X))
    (step,) = traced.TRACES._made.values()
    codes = [function.__self__.code for function in (step.once, step._forward, step._backward)]
    assert ["torch.exp(" in code for code in codes] == [True, False, False]


def test_gradients_twice_of_frozen_weights_and_of_one_tensor_in_two_places(monkeypatch):
    from keras_lstm_custom.engines.torch.derived_loop import Book

    layer, reference = layer_that()
    results = []
    for each in (layer, reference):
        each.cell.recurrent_kernel.trainable = False
        h = (each(X) ** 2).sum()
        weights = [w.value for w in each.trainable_weights]
        first, second = (torch.autograd.grad(h, weights, retain_graph=True) for _ in range(2))
        assert_equal(first, second)
        results.append(first)
    assert_equal(*results)
    with monkeypatch.context() as patched:
        patched.setattr(Book, "add", None)  # nothing is multiplied for a kernel that is frozen
        gradients(layer, X)

    lstm = [klc.LSTM(4, peepholes=True, engine=engine, seed=1) for engine in ("derived", "reference")]
    results = []
    for each in lstm:
        each.build(X.shape)
        each.set_weights(lstm[0].get_weights())
        s = torch.full((2, 4), 0.3, requires_grad=True)
        (by_s,) = torch.autograd.grad((each(X, initial_state=[s, s]) ** 2).sum(), s, create_graph=True)
        results.append([by_s, *torch.autograd.grad((by_s**2).sum(), s)])
    assert_equal(*results)


def test_under_inference_mode_and_autocast(traces):
    layer, reference = layer_that()
    with torch.inference_mode():
        torch.testing.assert_close(layer(X), reference(X))
    assert len(traces) == 1
    assert_equal(gradients(layer, X), gradients(reference, X))  # the same trace
    assert len(traces) == 1
    traces.clear()
    with torch.autocast("cpu", torch.bfloat16):
        layer(X)
    assert not len(traces)


def test_a_trace_does_not_keep_its_cell_alive():
    layer, _ = layer_that()
    gradients(layer, X)
    cell = weakref.ref(layer.cell)
    del layer, _
    gc.collect()
    assert cell() is None


def test_half_precision_and_a_mask_in_parts(monkeypatch):
    from keras_lstm_custom.engines.torch import derived_loop

    monkeypatch.setattr(derived_loop, "ROWS", 2 * Case().batch)
    for dtype, tolerance in (("float32", 1e-5), ("mixed_bfloat16", 0.15)):
        case = Case("projection", "scattered", dtype=dtype, recurrent_dropout=1, inputs_dropout=1)
        assert_same(run("derived", case), run("reference", case), tolerance)


def test_the_hook_is_as_it_was():
    """`make_fx`: if torch changes it, this fails before all else."""

    def function(constants, inputs, incoming):
        (a,), (x,), (d,) = constants, inputs, incoming
        return [x * a.exp()], [d * a.exp() * x.sign(), None]

    trace = Trace(function, [torch.ones(2)], [torch.ones(2)], [torch.ones(2)])
    x, d = torch.tensor([2.0, -3.0]), torch.tensor([1.0, 2.0])
    fixed = trace.once(torch.zeros(2))
    (result,), kept = trace.forward(x, *fixed)
    gradient, nothing = trace.backward(*kept, *fixed, d)
    assert result.tolist() == [2, -3]
    assert gradient.tolist() == [1, -2]
    assert nothing is None
