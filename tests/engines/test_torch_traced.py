"""Derived steps under torch from a trace: when, of what, and that nothing of a call or a cell's past stays in it."""

from __future__ import annotations

import gc
import weakref
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, NamedTuple

import keras
import numpy as np
import pytest
from keras import ops

from tests.engines.harness import Case, arrays, assert_same, run

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


@pytest.mark.parametrize(
    "makes",
    [
        lambda cell, h: h + h[h > 0.1].sum(),
        lambda cell, h: h * (1 + torch.nonzero(h > 0.1).shape[0]),
        lambda cell, h: h * (2 + h.detach().numpy().max()),
        lambda cell, h: h * (2 + h.tolist()[0][0]),
    ],
    ids=["chosen by numbers", "as many as", "numpy", "list"],
)
def test_what_a_trace_on_zeros_says_nothing_of(makes, traces):
    layer, reference = layer_that(makes)
    with pytest.warns(UserWarning, match="could not be traced"):
        found = gradients(layer, X)
    assert_equal(found, gradients(reference, X))
    assert list(traces._made.values()) == [None]


FACTOR = 1.0


def changed_by(name, value, layers):
    """Change what a step depends on, and no trace is known by."""
    if name == "global":
        globals()["FACTOR"] = value
    elif name == "option of an object":
        for layer in layers:
            layer.cell.options.factor = value
    else:
        torch.set_default_dtype(torch.float64 if value == 3 else torch.float32)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", ["global", "option of an object", "default dtype"])
def test_a_trace_that_is_no_longer_true_is_not_used(name, masked, traces):
    """Whatever the step depends on: what the cell's own step gives is compared at each call."""
    made = {
        "global": lambda cell, h: h * FACTOR,
        "option of an object": lambda cell, h: h * cell.options.factor,
        "default dtype": lambda cell, h: h @ torch.ones(4, 4).to(h.dtype),
    }
    layers = layer_that(made[name])
    for layer in layers:
        vars(layer.cell)["options"] = SimpleNamespace(factor=1.0)
    mask = torch.arange(7)[None] > torch.tensor([[1], [2]]) if masked else None  # all rows begin later

    def results(layer):
        h = layer(X, mask=mask)
        return [h, *torch.autograd.grad((h**2).sum(), [w.value for w in layer.trainable_weights])]

    try:
        assert_equal(*map(results, layers))
        assert list(traces._made.values()) != [None]
        changed_by(name, 3.0, layers)
        with pytest.warns(UserWarning, match=r"other numbers than when it was traced.*make that an attribute"):
            found = results(layers[0])
        assert_equal(found, results(layers[1]))
        changed_by(name, 1.0, layers)
        assert_equal(*map(results, layers))
        assert list(traces._made.values()) == [None]
    finally:
        changed_by("global", 1.0, layers)
        torch.set_default_dtype(torch.float32)


def test_states_and_weights_that_lie_otherwise_in_memory():
    """What was traced as a view is one of these, too."""

    class Flat(OwnCell):
        def step(self, z_x, state, recurrent_dropout=None):
            u = klc.equations.project(
                ops.reshape(ops.reshape(state.h, (-1,)), (-1, 4)), self.tensor("recurrent_kernel")
            )
            return OwnStep(ops.transpose(ops.transpose(ops.tanh(z_x + u))))

    layer_class = type("Layer", (klc.Recurrent,), {"cell_class": Flat})
    results = []
    for engine in ("derived", "reference"):
        layer = layer_class(
            4, engine=engine, return_state=True, recurrent_initializer="ones", kernel_initializer="ones"
        )
        layer.build((None, None, 3))
        layer.cell.recurrent_kernel.value.data = torch.linspace(-1, 1, 16).reshape(4, 4).t()
        for state in (torch.linspace(-1, 1, 8).reshape(4, 2).t(), torch.full((1, 4), 0.3).expand(2, 4)):
            h, final = layer(X, initial_state=[state])
            weights = [w.value for w in layer.trainable_weights]
            results.append([h, final, *torch.autograd.grad((h**2).sum() + final.sum(), weights)])
    for found, expected in zip(results[:2], results[2:], strict=True):
        assert_equal(found, expected)


def test_threads_that_trace_at_once(traces):
    from concurrent.futures import ThreadPoolExecutor

    layer, reference = layer_that(return_sequences=True)
    inputs = [torch.randn(rows, 7, 3) for rows in range(1, 21)]  # more than are kept
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda x: gradients(layer, x), inputs))
    for x, one in zip(inputs, found, strict=True):
        assert_equal(one, gradients(reference, x))


def test_inside_a_users_own_trace():
    from torch.fx.experimental.proxy_tensor import make_fx

    layer, reference = layer_that()
    layer(X)
    recorded = make_fx(lambda x: layer(x))(X)
    torch.testing.assert_close(recorded(2 * X), reference(2 * X))


#: Values at which something overflows, vanishes or is not a number.
EXTREME = [1e9, 1e38, 1e-30, float("inf"), float("nan")]


@pytest.mark.parametrize("kind", ["gru before", "coupled", "projection", "gate norm", "slstm"])
def test_extreme_inputs(kind):
    """The same numbers as the reference engine's, and what is no number in the same places."""
    case = Case(kind, "scattered", batch=2 * len(EXTREME))
    data = arrays(case)
    for row, value in enumerate(EXTREME):
        data["x"][row, :, :] *= value  # all of a row
        data["x"][len(EXTREME) + row, 2, 1] = value  # one
    found, expected = (run(engine, case, data) for engine in ("derived", "reference"))
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-3, atol=1e-5, err_msg=name)


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
    codes = [function.__self__.code for function in (step._once, step._forward, step._backward)]
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
