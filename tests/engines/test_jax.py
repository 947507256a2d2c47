"""The scan engine in JAX's own ways: transformations, and both places for what does not depend on the state."""

from __future__ import annotations

from functools import partial

import keras
import numpy as np
import pytest

import keras_lstm_custom as klc
from keras_lstm_custom.engines import ENGINES
from tests.engines.harness import Case, arrays, assert_same, layer_of, request_of, run

if keras.backend.backend() != "jax":
    pytest.skip("needs the JAX backend", allow_module_level=True)

import jax
from jax import numpy as jnp

from keras_lstm_custom.engines.jax import products

X = np.random.default_rng(3).normal(size=(3, 6, 2)).astype("float32")


def layer_on(engine, **options):
    keras.utils.set_random_seed(1)
    layer = klc.LSTM(4, engine=engine, seed=5, **options)
    layer.build((None, None, 2))
    return layer


@pytest.mark.parametrize("masks", [0, 1, 4])
def test_as_on_a_gpu(masks, monkeypatch):
    """On a GPU the products that do not depend on the state are outside of the scan; a CPU can do so, too.

    And what is derived has its gates side by side.
    """
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    case = Case("lstm", "scattered", True, inputs_dropout=masks, recurrent_dropout=masks, use_bias=masks != 1)
    expected = run("reference", case)
    for engine in ("jax_scan", "derived"):
        assert_same(run(engine, case), expected, 5e-6)  # rounding, as in the parity matrix


@pytest.mark.parametrize("on_cpu", [True, False])
def test_what_is_derived_on_a_cpu_only(on_cpu, monkeypatch):
    """Its steps are differentiated at once, before the loop back, and the product with a narrow kernel made again."""
    from keras_lstm_custom.engines.jax import derived

    at_once, again = [], []
    of_all_steps, computed_again = derived.of_all_steps, derived._computed_again
    monkeypatch.setattr(derived, "of_all_steps", lambda *a: at_once.append(1) or of_all_steps(*a))
    monkeypatch.setattr(derived, "_computed_again", lambda *a: again.append(computed_again(*a)) or again[-1])
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu" if on_cpu else "gpu")
    run("derived", Case("projection"))
    # The second product, of the projection, multiplies no state; h is as narrow as the projection.
    assert bool(at_once) is on_cpu
    assert set(map(frozenset, again)) == {frozenset({0} if on_cpu else ())}


def test_the_vanilla_rnn_is_derived():
    """Measured faster than a gradient written out for it (`docs/engines.md`)."""
    explained = klc.VanillaRNN(4).explain_engine((3, 6, 2), training=True)
    assert explained.chosen == "derived"
    assert "lstm_step" in explained.answers["jax_scan"].reason
    assert klc.VanillaRNN(4).explain_engine((3, 6, 2)).chosen == "reference"
    assert klc.VanillaRNN(4).explain_engine((3, 1, 2), training=True).chosen == "reference"


def test_large_steps_are_derived_in_training():
    assert klc.GRU(512, reset_after=False).explain_engine((128, 50, 128), training=True).chosen == "derived"


def test_stateless_call_compiled_with_its_gradient():
    """As JAX users train: weights, seeds and the rest go in and come out."""

    def loss_and_seeds(engine):
        layer = layer_on(engine, dropout=0.3, recurrent_dropout=0.3)

        @jax.jit
        def loss(weights, others, x):
            outputs, others = layer.stateless_call(weights, others, x, training=True)
            return (outputs**2).sum(), others

        arguments = [v.value for v in layer.trainable_variables], [v.value for v in layer.non_trainable_variables], X
        (value, others), gradients = jax.value_and_grad(loss, has_aux=True)(*arguments)
        assert layer.last_engine == engine
        return [value, *others, *gradients]

    for ours, reference in zip(loss_and_seeds("jax_scan"), loss_and_seeds("reference"), strict=True):
        np.testing.assert_allclose(ours, reference, atol=1e-5)


def test_vmap():
    """Over the rows, and over a further axis with the gradient."""
    layer = layer_on("jax_scan")
    np.testing.assert_allclose(jax.vmap(lambda x: layer(x[None])[0])(X), layer(X), atol=1e-6)
    gradient = jax.grad(lambda x: (layer(x) ** 2).sum())
    several = jax.vmap(gradient)(np.stack([X, 2 * X]))
    np.testing.assert_allclose(several, np.stack([gradient(X), gradient(2 * X)]), atol=1e-6)


def test_checkpointed_by_jax():
    layer = layer_on("jax_scan")

    def loss(x):
        return (layer(x) ** 2).sum()

    np.testing.assert_allclose(jax.grad(jax.checkpoint(loss))(X), jax.grad(loss)(X), atol=1e-6)


def test_second_derivatives():
    """JAX differentiates our gradient by itself."""

    def second(engine):
        layer = layer_on(engine)
        first = jax.grad(lambda x: (layer(x) ** 2).sum())
        return jax.grad(lambda x: (first(x) ** 2).sum())(X)

    np.testing.assert_allclose(second("jax_scan"), second("reference"), atol=1e-6)


#: What JAX users build of derivatives, of a number made of x and the kernel.
HIGHER = {
    "jvp, of the input only": lambda f: lambda x, w: jax.jvp(lambda x: f(x, w), (x,), (x,)),
    "linearize": lambda f: lambda *at: jax.linearize(f, *at)[1](*at),
    "hessian": lambda f: jax.hessian(f, (0, 1)),
    "jacrev of jacfwd": lambda f: jax.jacrev(jax.jacfwd(f, 0), 1),
    "jacfwd of jacfwd": lambda f: jax.jacfwd(jax.jacfwd(f, 1), 0),
    "third": lambda f: lambda *at: jax.jvp(jax.grad(lambda *at: jax.jvp(f, at, at)[1] ** 2), at, at),
    "gradient of vmap": lambda f: jax.grad(
        lambda x, w: sum(jax.vmap(lambda a: f(a, w))(jnp.stack([x, 2 * x])) ** 2), (0, 1)
    ),
    "vmap over the kernel": lambda f: lambda x, w: jax.vmap(jax.jacfwd(f, 1), (None, 0))(x, jnp.stack([w, 2 * w])),
    "checkpointed": lambda f: jax.grad(jax.checkpoint(lambda *at: jax.jvp(f, at, at)[1]), (0, 1)),
}
#: Of these the derived engine's: both modes, and weights that an outer `vmap` maps, which its own takes for a step's.
DERIVED = ("hessian", "gradient of vmap", "vmap over the kernel")


@pytest.mark.parametrize(
    ("engine", "way"), [("jax_scan", way) for way in HIGHER] + [("derived", way) for way in DERIVED]
)
def test_derivatives_of_every_kind(engine, way):
    """Forward mode, and both modes upon each other, for which `jax.custom_vjp` would raise."""
    x, mask = X[:2, :3], np.array([[1, 0, 1], [0, 1, 0]], bool)

    def derivative(engine):
        layer = layer_on(engine, dropout=0.3, implementation=2)
        kernel, *others = (v.value for v in layer.trainable_variables)
        seeds = [v.value for v in layer.non_trainable_variables]

        def f(x, kernel):
            y, _ = layer.stateless_call([kernel, *others], seeds, x, mask=mask, training=True)
            return (y**2).sum()

        result = jax.jit(HIGHER[way](f))(x, kernel)
        assert layer.last_engine == engine
        return jax.tree.leaves(result)

    for ours, expected in zip(derivative(engine), derivative("reference"), strict=True):
        assert np.abs(expected).max() > 0
        np.testing.assert_allclose(ours, expected, atol=2e-5 * max(1, np.abs(expected).max()))


def test_the_gradient_is_the_one_written_by_hand(monkeypatch):
    """Also through jit and vmap; JAX' own would keep twice as much, and sum bfloat16 in bfloat16."""
    from keras_lstm_custom.engines.jax import recurrence

    calls = []
    monkeypatch.setattr(recurrence, "joined", lambda *a: calls.append(1) or joined(*a))
    joined = products.joined
    layer = layer_on("jax_scan")

    def loss(x):
        return (layer(x) ** 2).sum()

    for function in (jax.grad(loss), jax.jit(jax.grad(loss)), jax.grad(lambda x: jax.vmap(loss)(x[:, None]).sum())):
        calls.clear()
        jax.clear_caches()
        function(X)
        assert calls


def test_nothing_is_kept_without_a_gradient():
    """Of all steps, inference has the outputs only; the gradient has the four gates and c, too."""
    case = Case()
    data = arrays(case)
    layer = layer_of(case, data["weights"])

    def loss(x):
        return ENGINES["jax_scan"].run(request_of(case, layer, data, x)).outputs.sum()

    def scans(jaxpr):
        for equation in jaxpr.eqns:
            if equation.primitive.name == "scan":
                yield equation
                continue
            for value in equation.params.values():
                if hasattr(inner := getattr(value, "jaxpr", value), "eqns"):
                    yield from scans(inner)

    def of_all_steps(function):
        first = next(scans(jax.make_jaxpr(function)(data["x"].astype("float32")).jaxpr))
        return sum(variable.aval.shape == (6, case.batch, case.units) for variable in first.outvars)

    assert of_all_steps(loss) == 1
    assert of_all_steps(jax.grad(loss)) == 6


@pytest.mark.parametrize(
    ("make", "engine"),
    [
        (partial(klc.LSTM, recurrent_dropout=0.2, implementation=1), "jax_scan"),
        (partial(klc.LSTM, dtype="float16", recurrent_initializer="glorot_uniform"), "jax_scan"),
        (partial(klc.LSTM, checkpoint_every=3), "jax_scan"),
        (partial(klc.GRU, reset_after=False), "derived"),
        (partial(klc.LSTM, projection=3, layer_normalization="joint", zoneout=0.1), "derived"),
        (partial(klc.SLSTM, heads=2), "derived"),
    ],
)
def test_what_a_gpu_runs_can_be_compiled_for_it(monkeypatch, make, engine):
    """Down to what XLA is given for CUDA, for which no GPU is needed; and it never goes back to the host."""
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    layer, x = make(6), np.zeros((3, 10, 4), "float32")
    layer.build(x.shape)
    weights, others = ([v.value for v in some] for some in (layer.trainable_variables, layer.non_trainable_variables))

    def loss(weights, x):
        outputs, _ = layer.stateless_call(weights, others, x, mask=np.ones((3, 10), bool), training=True)
        return outputs.astype("float32").sum()

    program = jax.jit(jax.grad(loss)).trace(weights, x).lower(lowering_platforms=("cuda",)).as_text()
    assert layer.last_engine == engine
    assert "stablehlo.while" in program
    assert "callback" not in program
