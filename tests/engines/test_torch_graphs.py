"""Steps in recordings, as far as a CPU can tell: a recording is replaced by one that computes when it is replayed."""

from __future__ import annotations

from contextlib import contextmanager

import keras
import pytest

from tests.engines.harness import DERIVED, KINDS, LAYERS, Case, arrays, assert_same, layer_of, request_of, run

if keras.backend.backend() != "torch":
    pytest.skip("needs the torch backend", allow_module_level=True)

import torch
from torch.utils._python_dispatch import TorchDispatchMode

import keras_lstm_custom as klc
from keras_lstm_custom.engines import ENGINES
from keras_lstm_custom.engines.torch import graphs


class Capturing(TorchDispatchMode):
    """Refuses what torch refuses while a CUDA graph is captured: what goes between the CPU and the GPU."""

    refused = (torch.ops.aten.lift_fresh.default, torch.ops.aten._local_scalar_dense.default)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function in self.refused:
            raise RuntimeError(f"{function} while a graph is captured")
        return function(*args, **kwargs or {})


class Played(graphs.Recording):
    """Has tensors of its own, as a graph has: outputs are overwritten by the next call, wherever it comes from."""

    made: list[Played] = []

    def __init__(self, function, examples):
        self.inputs = [None if t is None else t.detach().clone() for t in examples]
        self.function, self.calls = function, 0
        with Capturing():
            self.outputs = [None if t is None else t.clone() for t in function(*self.inputs)]
        Played.made.append(self)

    def __call__(self, *values):
        self.calls += 1
        for own, value in zip(self.inputs, values, strict=True):
            if value is not None:
                own.copy_(value)
        for own, value in zip(self.outputs, self.function(*self.inputs), strict=True):
            if value is not None:
                own.copy_(value)
        return self.outputs


@pytest.fixture
def made(monkeypatch):
    """Pretend that there is a GPU; gives the recordings."""
    monkeypatch.setattr(graphs, "Recording", Played)
    monkeypatch.setattr(graphs, "STEPS", 2)
    monkeypatch.setattr(graphs, "serves", lambda z_x: True)
    monkeypatch.setattr(graphs, "_stream", lambda: 0)
    graphs.RECORDINGS.clear()
    Played.made.clear()
    yield Played.made
    graphs.RECORDINGS.clear()


@pytest.mark.parametrize(("engine", "kind"), [*(("torch_loop", kind) for kind in LAYERS), ("derived", "gru")])
@pytest.mark.parametrize("steps", [6, 5])
@pytest.mark.parametrize("dropout", [0, 1, "each"])
@pytest.mark.parametrize("mask", ["none", "scattered"])
def test_agrees_with_the_reference(made, engine, kind, steps, dropout, mask):
    """Step by step at the first time, from recordings at the second; a step that is left over runs by itself."""
    count = len(layer_of(Case(kind)).cell.gates) if dropout == "each" else dropout
    case = Case(kind, mask, recurrent_dropout=count, timesteps=steps, return_sequences=dropout != 1)
    expected = run("reference", case)
    first = []

    def twice(function):
        """Of the same layer: the derived engine records for one cell."""

        def call(*arguments):
            first.append(function(*arguments))
            assert not made
            return function(*arguments)

        return call

    assert_same(run(engine, case, wrap=twice), expected, 5e-6)  # rounding, as in the parity matrix
    assert [r.calls for r in made] == [steps // 2] * 2
    assert first


class Clipped(klc.VanillaRNNCell):
    """Numbers where Keras makes tensors of them, as its functions do."""

    def step(self, z_x, state, recurrent_dropout=None):
        new = super().step(z_x, state, recurrent_dropout)
        h = keras.ops.where(new.h > 0.0, keras.ops.maximum(new.h, 0.1), keras.ops.clip(new.h, -0.5, 0.0))
        return new._replace(h=h)


class ClippedLayer(klc.VanillaRNN):
    cell_class = Clipped


@pytest.mark.filterwarnings("error:The steps of a recurrent layer could not be recorded")
@pytest.mark.parametrize("kind", [*DERIVED, "hard sigmoid", "own"])
def test_every_cell_can_be_recorded(made, monkeypatch, kind):
    """No cell of ours waits for the GPU in a step, or copies to it; nor do Keras' functions of numbers."""
    more = {"hard sigmoid": (klc.GRU, {"recurrent_activation": "hard_sigmoid"}), "own": (ClippedLayer, {})}
    monkeypatch.setattr("tests.engines.harness.KINDS", KINDS | more)
    case = Case(kind, "scattered")
    expected = run("reference", case)
    assert_same(run("derived", case, wrap=lambda f: lambda *a: [f(*a), f(*a)][1]), expected, 5e-6)
    assert len(made) == 2


def test_layers_of_one_shape_share_a_recording_and_disturb_nothing(made):
    """Two layers, each called twice before any gradient is taken."""
    case = Case()
    data = [arrays(case, seed) for seed in (1, 2)]
    layers = [layer_of(case, d["weights"]) for d in data]

    states = [[torch.tensor(s, dtype=torch.float32, requires_grad=True) for s in d["state"]] for d in data]

    def gradients(engine):
        total = 0.0
        for _ in range(2):
            for layer, d, state in zip(layers, data, states, strict=True):
                result = ENGINES[engine].run(request_of(case, layer, d, state=state))
                total = total + (result.outputs**2).sum() + (result.state[1] ** 3).sum()
        weights = [w.value for layer in layers for w in layer.weights]
        return torch.autograd.grad(total, [*weights, *(s for state in states for s in state)])

    expected = gradients("reference")
    for _ in range(3):
        for ours, reference in zip(gradients("torch_loop"), expected, strict=True):
            torch.testing.assert_close(ours, reference, atol=1e-4, rtol=1e-4)
    assert len(made) == 2


def test_a_recording_is_for_the_values_a_cell_has(made):
    """A setting or a step that changes is not overlooked, nor is another cell of the same class."""
    x = torch.randn(3, 8, 2)
    layers = [klc.GRU(4, engine="derived"), klc.GRU(4, engine="derived", recurrent_activation="hard_sigmoid")]
    twins = [klc.GRU.from_config({**layer.get_config(), "engine": "reference"}) for layer in layers]
    for layer, twin in zip(layers, twins, strict=True):
        layer.build(x.shape)
        twin.build(x.shape)
        twin.set_weights(layer.get_weights())

    def compare():
        for layer, twin in zip(layers, twins, strict=True):
            for _ in range(3):
                torch.testing.assert_close(layer(x), twin(x), atol=1e-5, rtol=1e-5)

    compare()
    assert len(made) == 4  # forward and gradient
    for layer in (*layers, *twins):
        layer.cell.activation = keras.activations.softsign
    compare()
    assert len(made) == 8


def test_the_derived_engine_has_second_derivatives_from_recordings_too(made):
    layer = klc.GRU(4, engine="derived")
    x = torch.randn(3, 8, 2, requires_grad=True)

    def second():
        (by_x,) = torch.autograd.grad((layer(x) ** 2).sum(), x, create_graph=True)
        return torch.autograd.grad((by_x**2).sum(), [x, *(w.value for w in layer.weights)])

    results = []
    for _ in range(3):
        layer.engine = "derived"
        results.append(second())
    assert made
    layer.engine = "reference"
    for got, expected in zip(results[-1], second(), strict=True):
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-4)


def test_old_recordings_are_let_go(made, monkeypatch):
    monkeypatch.setattr(graphs.RECORDINGS, "most", 3)
    for batch in (2, 3, 4, 2):
        run("torch_loop", Case(batch=batch))
        assert len(graphs.RECORDINGS) <= 3
    assert not made  # none came twice before it was let go


def test_what_cannot_be_recorded_runs_step_by_step_and_says_so(made, monkeypatch):
    def refuse(*arguments):
        raise RuntimeError("no graphs here")

    monkeypatch.setattr(graphs, "Recording", refuse)
    case = Case()
    expected = run("torch_loop", case)
    with pytest.warns(UserWarning, match="one by one.*no graphs here"):
        assert_same(run("torch_loop", case), expected, 0)
    assert_same(run("torch_loop", case), expected, 0)  # and does not try again


def test_in_half_precision_the_kernels_gradient_is_summed_in_float32(made):
    case = Case(dtype="bfloat16", timesteps=6)
    run("torch_loop", case)
    got, expected = run("torch_loop", case), run("reference", case)
    assert_same(got, expected, 1e-1)  # the parity matrix' for bfloat16


def test_a_cpu_records_nothing():
    assert not graphs.serves(torch.zeros(100, 2, 20))


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_a_recording_knows_nothing_of_autocast(made, kind):
    """One made inside serves calls outside, which are exact; the gradient runs outside anyway."""
    engine = "torch_loop" if kind in LAYERS else "derived"
    case = Case(kind)
    data = arrays(case)
    expected = run("reference", case, data)

    def inside_then_outside(function):
        def call(*arguments):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                for _ in range(2):
                    function(*arguments)
            return [function(*arguments) for _ in range(2)][-1]

        return call

    assert_same(run(engine, case, data, wrap=inside_then_outside), expected, 5e-6)
    assert made


def test_it_is_recorded_on_the_gpu_that_the_tensors_are_on(made, monkeypatch):
    """Which need not be the current one: another's stream would record nothing."""
    places = []

    @contextmanager
    def device_of(tensor):
        places.append(tensor.shape)
        yield
        places.pop()

    def recording(*arguments):
        assert places
        return Played(*arguments)

    monkeypatch.setattr(torch.cuda, "device_of", device_of)
    monkeypatch.setattr(graphs, "Recording", recording)
    monkeypatch.setattr(graphs, "_stream", lambda: len(places))
    for _ in range(2):
        run("torch_loop", Case())
    assert len(made) == 2
    assert [r.calls for r in made] == [3, 3]
