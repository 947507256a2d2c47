"""The torch engines in torch's own ways: modes of its gradients, mixed precision, compilation, export."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import keras_lstm_custom as klc
from keras_lstm_custom.engines import ENGINES
from keras_lstm_custom.errors import EngineError
from tests.engines.harness import LAYERS, Case, arrays, assert_same, layer_of, request_of, run

if keras.backend.backend() != "torch":
    pytest.skip("needs the torch backend", allow_module_level=True)

import torch

BOTH = pytest.mark.parametrize("engine", ["torch_nn", "torch_loop"])


@pytest.fixture
def x():
    return torch.as_tensor(np.random.default_rng(3).normal(size=(3, 6, 2)), dtype=torch.float32)


def layer_on(engine, **options):
    keras.utils.set_random_seed(1)
    layer = klc.LSTM(4, return_sequences=True, engine=engine, **options)
    layer.build((None, None, 2))
    return layer


def largest(difference):
    return float(difference.detach().abs().max())


@BOTH
def test_equals_the_torch_module(engine, x):
    """With the weights of a `torch.nn.LSTM` in Keras' layout, one bias for its two."""
    module = torch.nn.LSTM(2, 5, batch_first=True)
    layer = klc.LSTM(5, return_sequences=True, return_state=True, engine=engine)
    layer.build((None, None, 2))
    w, u, b_w, b_u = (p.detach().numpy() for p in module.parameters())
    layer.set_weights([w.T, u.T, b_w + b_u])
    expected, (h, c) = module(x)
    for got, value in zip(layer(x), (expected, h[0], c[0]), strict=True):
        np.testing.assert_allclose(got.detach(), value.detach(), atol=1e-6)


@pytest.mark.parametrize("dropout", [0, 1, 4])
@pytest.mark.parametrize("mask", ["none", "scattered"])
def test_the_loops_gradient_by_torchs_own_check(mask, dropout):
    """`gradcheck` differentiates every input and every output numerically."""
    case = Case("lstm", mask, dtype="float64", batch=2, units=2, features=2, recurrent_dropout=dropout)
    data = arrays(case)
    layer = layer_of(case, data["weights"])
    request = request_of(case, layer, data)

    def outputs(x, *state):
        result = ENGINES["torch_loop"].run(request_of(case, layer, data, x, list(state)))
        return (result.outputs, *result.state)

    inputs = [t.detach().clone().requires_grad_() for t in (request.sequences, *request.initial_state)]
    assert torch.autograd.gradcheck(outputs, inputs)


@BOTH
def test_the_graph_may_be_used_twice(engine, x):
    layer = layer_on(engine)
    total = (layer(x) ** 2).sum()
    weights = [w.value for w in layer.weights]
    first = torch.autograd.grad(total, weights, retain_graph=True)
    for a, b in zip(first, torch.autograd.grad(total, weights), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


@BOTH
def test_outputs_changed_in_place_give_an_error_and_no_wrong_gradient(engine, x):
    outputs = layer_on(engine)(x)
    with pytest.raises(RuntimeError, match=r"in-?place"):
        outputs.mul_(2).sum().backward()


@BOTH
@pytest.mark.parametrize("use_bias", [True, False])
def test_autocast(engine, use_bias, x):
    """Products in bfloat16, which has eight bits: the gradients differ by so much, and have the weights' dtype."""

    def gradients(context):
        layer = layer_on(engine, use_bias=use_bias)
        with context:
            total = (layer(x).float() ** 2).sum()
        return torch.autograd.grad(total, [w.value for w in layer.weights])

    mixed = gradients(torch.autocast("cpu", dtype=torch.bfloat16))
    for ours, exact in zip(mixed, gradients(torch.enable_grad()), strict=True):
        assert ours.dtype == torch.float32
        assert largest(ours - exact) < 2e-2 * max(1, largest(exact))


@BOTH
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_gradients(engine, mode, x):
    layer = layer_on(engine)
    with mode():
        outputs = layer(x)
    assert not outputs.requires_grad
    assert largest(outputs - layer(x)) < 1e-6


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("mask", ["none", "scattered"])
def test_the_loop_keeps_two_states_without_gradients(kind, mask):
    """Under `no_grad` the loop keeps two states only, and writes them by turns."""
    case = Case(kind, mask)
    data = arrays(case)
    request = request_of(case, layer_of(case, data["weights"]), data)
    expected = ENGINES["torch_loop"].run(request)
    with torch.no_grad():
        got = ENGINES["torch_loop"].run(request)
    assert expected.outputs.requires_grad
    assert not got.outputs.requires_grad
    for ours, value in zip((got.outputs, *got.state), (expected.outputs, *expected.state), strict=True):
        torch.testing.assert_close(ours, value.detach(), atol=1e-6, rtol=0)


@BOTH
def test_torch_compile(engine, x):
    """With the backend that only traces: what it then generates is torch's affair."""
    layer = layer_on(engine)
    weights = [w.value for w in layer.weights]
    compiled = torch.compile(lambda x: layer(x), backend="aot_eager")(x)
    assert largest(compiled - layer(x)) < 1e-6
    gradients = (torch.autograd.grad((y**2).sum(), weights) for y in (compiled, layer(x)))
    for ours, eager in zip(*gradients, strict=True):
        assert largest(ours - eager) < 1e-5


@BOTH
def test_torch_export(engine, x):
    model = keras.Sequential([keras.Input((6, 2)), layer_on(engine)])
    exported = torch.export.export(model, (x,), strict=False).module()
    assert largest(exported(x) - model(x)) < 1e-6


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        (Case(recurrent_dropout=1), "recurrent dropout"),
        (Case(inputs_dropout=4), "not one for each"),
    ],
)
def test_what_torch_nn_refuses_the_loop_serves(case, reason):
    data = arrays(case)
    layer = layer_of(case, data["weights"])
    request = request_of(case, layer, data)
    assert reason in ENGINES["torch_nn"].supports(request).reason
    assert ENGINES["torch_loop"].supports(request).ok


@pytest.mark.parametrize("there", [True, False])
def test_use_cudnn_false_forbids_torch_nn_where_there_is_a_gpu(monkeypatch, there):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    answers = klc.LSTM(4, use_cudnn=False).explain_engine((3, 6, 2)).answers
    assert answers["torch_nn"].ok != there
    assert klc.LSTM(4).explain_engine((3, 6, 2)).answers["torch_nn"].ok


def test_use_cudnn_true_is_served_by_torch_nn_on_a_gpu_only(monkeypatch, x):
    layer = klc.LSTM(4, use_cudnn=True)
    assert "needs a GPU" in layer.explain_engine(x.shape).answers["torch_nn"].reason
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.cudnn, "is_available", lambda: True)
    assert layer.explain_engine(x.shape).chosen == "torch_nn"
    with pytest.raises(EngineError, match="tensors on the GPU, and they are on 'cpu'"):
        layer(x)
    with torch.backends.cudnn.flags(enabled=False):
        assert "not enabled" in layer.explain_engine(x.shape).answers["torch_nn"].reason


@BOTH
@pytest.mark.parametrize("timesteps", [1, 3, 6])
def test_stateful_training(engine, x, timesteps):
    """The layer overwrites its state after the call; the gradient is that of the state before it."""
    x = x[:, :timesteps]

    def gradient(name):
        keras.utils.set_random_seed(1)
        layer = klc.LSTM(4, engine=name, stateful=True)
        layer.build(x.shape)
        with torch.no_grad():
            layer(x)
        return torch.autograd.grad((layer(x) ** 2).sum(), [w.value for w in layer.trainable_weights])

    for ours, reference in zip(gradient(engine), gradient("reference"), strict=True):
        assert largest(ours - reference) < 1e-5
        assert largest(reference) > 1e-3


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [("float16", 2e-2), ("bfloat16", 1e-1), ("mixed_float16", 2e-2), ("mixed_bfloat16", 1e-1)]
)
def test_torch_nn_in_half_precision(kind, dtype, tolerance):
    """The parity matrix has float32 only on this backend; the tolerances of its other dtypes."""
    case = Case(kind, go_backwards=True, dtype=dtype)
    assert_same(run("torch_nn", case), run("reference", case), tolerance)


@pytest.mark.parametrize(("there", "training"), [(True, True), (True, False), (False, True)])
def test_auto_takes_torch_nn_for_a_mask_in_training_on_a_gpu_only(monkeypatch, there, training):
    """A symbolic request, as before the first call: Keras puts everything on the GPU if there is one."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    explained = klc.LSTM(4).explain_engine((3, 6, 2), masked=True, training=training)
    assert explained.chosen == ("torch_nn" if there and training else "torch_loop")
    assert klc.LSTM(4, engine="torch_nn").explain_engine((3, 6, 2), masked=True).chosen == "torch_nn"
    assert klc.GRU(4).explain_engine((3, 6, 2), masked=True).chosen == "torch_nn"  # the loop does not know it


@pytest.mark.parametrize("mask", ["none", "all of these"])
@pytest.mark.parametrize(
    "options",
    [{}, {"go_backwards": True, "inputs_dropout": 1}, {"return_sequences": False, "use_bias": False}, {"timesteps": 1}],
)
def test_torch_nn_is_the_gru(mask, options):
    """Its gates are in another order than Keras'."""
    case = Case("gru", mask if "timesteps" not in options else "none", batch=19, **options)
    assert_same(run("torch_nn", case), run("reference", case), 5e-6)  # rounding, as in the parity matrix


def test_torch_nn_has_one_form_of_the_gru():
    explained = klc.GRU(4, reset_after=False).explain_engine((3, 6, 2))
    assert "without reset_after=False" in explained.answers["torch_nn"].reason
    assert explained.chosen == "derived"


@pytest.mark.parametrize(("steps", "taken"), [(1, "torch_nn"), (2, "torch_loop"), (4, "torch_loop"), (5, "torch_nn")])
def test_auto_leaves_a_few_steps_to_the_loop(steps, taken):
    explained = klc.LSTM(4).explain_engine((1, steps, 2))
    assert explained.chosen == taken
    assert explained.answers["torch_nn"].ok is (taken == "torch_nn")


@pytest.mark.parametrize(
    ("layer_class", "options", "masked", "fast"),
    [
        (klc.LSTM, {}, False, "torch_nn"),
        (klc.VanillaRNN, {}, True, "torch_loop"),
        (klc.GRU, {"reset_after": False}, False, "derived"),
    ],
)
def test_auto_does_what_torch_func_and_forward_mode_need(layer_class, options, masked, fast, x):
    """Functions that write in place or bring a gradient of their own do not; the equations do."""
    from torch.autograd import forward_ad
    from torch.func import grad, hessian, jvp, vmap

    mask = torch.tensor([[1, 1, 0, 1, 1, 0], [0, 1, 0, 1, 1, 1], [1] * 6], dtype=torch.bool) if masked else None
    layers = [layer_class(4, engine=engine, **options) for engine in ("reference", "auto")]
    for layer in layers:
        layer.build(x.shape)
        layer.set_weights(layers[0].get_weights())

    def derivatives(layer):
        def loss(x):
            return (layer(x, mask=mask) ** 2).sum()

        yield jvp(loss, (x,), (x,))[1]
        yield hessian(loss)(x[:, :6])
        yield vmap(grad(lambda row: (layer(row[None]) ** 2).sum()))(x)
        with forward_ad.dual_level():
            yield forward_ad.unpack_dual(loss(forward_ad.make_dual(x, x))).tangent
        assert layer.last_engine == "reference"

    for expected, got in zip(*(list(derivatives(layer)) for layer in layers), strict=True):
        assert largest(expected) > 0
        assert largest(got - expected) < 1e-5 * max(1, largest(expected))
    layers[1](x, mask=mask)
    assert layers[1].last_engine == fast
