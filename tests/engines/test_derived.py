"""The derived engine against the reference engine: every cell, with all that comes with a call, and in every graph."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import ops

import keras_lstm_custom as klc
from keras_lstm_custom.engines import ENGINES, derived, registry
from tests.covering import covering
from tests.engines.harness import (
    DERIVED,
    FAST,
    KINDS,
    LAYERS,
    MASKS,
    NATIVE,
    TOLERANCE,
    Case,
    arrays,
    assert_same,
    exact_tanh,
    layer_of,
    request_of,
    run,
)
from tests.engines.test_higher_derivatives import penalty_gradients

BACKEND = keras.backend.backend()
pytestmark = pytest.mark.usefixtures("torch_steps")
KIND = pytest.mark.parametrize("kind", DERIVED)
AXES = {
    "kind": list(DERIVED),
    "mask": list(MASKS),
    "go_backwards": [False, True],
    "dropout": ["none", "one", "each"],
    "return_sequences": [True, False],
    "use_bias": [True, False],
    "zero_state": [False, True],
    "checkpoint_every": [None, 4],
}


def gates_of(kind):
    return len(layer_of(Case(kind)).cell.gates)


def matrix():
    """Any two options; on JAX, where each case is compiled, each cell once with all masks."""
    if BACKEND == "jax":
        rows = [{"kind": kind, "mask": "all of these", "batch": 16} for kind in DERIVED]
    else:
        rows = covering(AXES)
    for n, row in enumerate(rows):
        count = {"none": 0, "one": 1, "each": gates_of(row["kind"])}[row.pop("dropout", ["none", "one"][n % 2])]
        # A head sees its own units: one mask on h for all gates is what the sLSTM takes.
        yield Case(
            **row,
            dtype="float64",
            activation=exact_tanh if BACKEND == "jax" else "tanh",
            inputs_dropout=count,
            recurrent_dropout=min(count, 1) if row["kind"] == "slstm" else count,
        )


def in_turns(name, values):
    """Each cell with each of the values; on JAX, where each case is compiled, with one, in turns."""
    if BACKEND != "jax":
        pairs = [(kind, value) for value in values for kind in DERIVED]
    else:
        pairs = [(kind, values[n % len(values)]) for n, kind in enumerate(DERIVED)]
    return pytest.mark.parametrize(("kind", name), pairs, ids=str)


@pytest.mark.parametrize("case", list(matrix()), ids=str)
def test_outputs_and_all_gradients(float64, case):
    data = arrays(case)
    assert_same(run("derived", case, data), run("reference", case, data), TOLERANCE["float64"])


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("engine", [engine for engine in FAST if engine != "derived"])
def test_what_engines_have_written_out_is_what_is_derived(engine, kind):
    """They are there for their speed alone: outputs and all gradients are the derived ones."""
    for masks in (0, 1, len(layer_of(Case(kind)).cell.gates)):
        case = Case(kind, "all of these", batch=18, inputs_dropout=masks, recurrent_dropout=masks)
        data = arrays(case)
        support = ENGINES[engine].supports(request_of(case, layer_of(case), data))
        if support.ok:
            assert_same(run(engine, case, data), run("derived", case, data), TOLERANCE["float32"])


@in_turns("dtype", ["float32", "mixed_bfloat16", "mixed_float16"])
def test_dtypes(kind, dtype):
    case = Case(kind, "scattered", dtype=dtype, recurrent_dropout=1)
    assert_same(run("derived", case), run("reference", case), TOLERANCE[dtype])


@KIND
def test_auto_takes_it_and_it_really_runs(kind, monkeypatch):
    """A number that is broken in its recurrence shows in the layer."""
    layer_class, options = DERIVED[kind]
    layer = layer_class(5, engine="derived", **options)
    x = np.random.default_rng(0).normal(size=(4, 6, 3)).astype("float32")
    before = ops.convert_to_numpy(layer(x))
    assert layer.last_engine == "derived"
    fastest = {
        "torch": {"gru": "torch_nn"},
        "jax": {"slstm": "reference"},
        "tensorflow": dict.fromkeys(NATIVE, "native"),
    }
    assert layer_class(5, **options).explain_engine(x.shape, training=True).chosen == fastest[BACKEND].get(
        kind, "derived"
    )
    module = derived.import_module(f"keras_lstm_custom.engines.{BACKEND}.derived")
    original = module.recurrence

    def shifted(cell):
        def run(*arguments):
            hs, state = original(cell)(*arguments)
            return hs + 1, [state[0] + 1, *state[1:]]

        return run

    monkeypatch.setattr(module, "recurrence", shifted)
    np.testing.assert_allclose(ops.convert_to_numpy(layer(x)), before + 1, atol=1e-6)


@in_turns("sizes", [{"timesteps": 1}, {"batch": 0}, {"batch": 1, "features": 1}, {"timesteps": 13}])
def test_sizes_at_the_edge(kind, sizes):
    case = Case(kind, "none", **sizes)
    data = arrays(case)
    assert_same(run("derived", case, data), run("reference", case, data), TOLERANCE["float32"])


@pytest.mark.tensorflow
@pytest.mark.parametrize(
    ("kind", "way"),
    [(kind, "static") for kind in DERIVED]
    + [(kind, way) for kind in ("gru before", "projection", "slstm") for way in ("compiled", "dynamic")],
)
def test_graphs(kind, way):
    """The same numbers inside tf.function: of static and unknown sizes, and compiled as a whole."""
    import tensorflow as tf

    case = Case(kind, "scattered" if way != "compiled" else "none", recurrent_dropout=1)
    data = arrays(case)
    widths = layer_of(case).state_size

    def wrap(function):
        if way != "dynamic":
            return tf.function(function, jit_compile=way == "compiled", autograph=False)
        x = tf.TensorSpec((None, None, case.features))
        specs = x, [tf.TensorSpec((None, width)) for width in widths], tf.TensorSpec((None, None), tf.bool)
        traced = tf.function(function, autograph=False).get_concrete_function(*specs)
        return lambda *arguments: traced(*tf.nest.flatten(arguments))

    assert_same(run("derived", case, data, wrap=wrap), run("reference", case, data), TOLERANCE["float32"])


@pytest.mark.parametrize(
    ("kind", "way"),
    [(kind, "eager") for kind in ("gru before", "gate norm", *("gru", "peepholes", "slstm") * (BACKEND != "jax"))]
    + [("gru", "graph")] * (BACKEND == "tensorflow"),
)
def test_second_derivatives(kind, way):
    def wrap(function):
        if way == "eager":
            return function
        import tensorflow as tf

        return tf.function(function, autograph=False)

    case = Case(kind, "left padded" if kind == "gru" else "none")
    got, expected = (penalty_gradients(engine, case, wrap) for engine in ("derived", "reference"))
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=2e-4 * max(1, np.abs(b).max()))


@pytest.mark.parametrize("kind", ["gru", "joint norm", "slstm"])
def test_a_model_learns_in_fit_and_comes_back_from_a_file(kind, tmp_path, rng):
    layer_class, options = DERIVED[kind]
    model = keras.Sequential(
        [
            keras.Input((6, 3)),
            keras.layers.Masking(),
            keras.layers.Bidirectional(layer_class(5, **options, dropout=0.1, recurrent_dropout=0.1, engine="derived")),
            keras.layers.Dense(1),
        ]
    )
    model.compile(keras.optimizers.Adam(0.02), "mse")
    x = rng.normal(size=(12, 6, 3)).astype("float32")  # one size of batches: each takes seconds to build
    x[:4, 4:] = 0
    losses = model.fit(x, x[:, 0, :1], batch_size=4, epochs=3, verbose=0).history["loss"]
    layer = model.layers[1].forward_layer if BACKEND != "jax" else None
    assert layer is None or layer.last_engine == "derived", layer.explain_engine((4, 6, 3))
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded.predict(x, verbose=0), model.predict(x, verbose=0), atol=1e-6)


class Drawing(klc.RecurrentCell):
    """A step that draws at random."""

    gates = ("h",)
    step_type = klc.VanillaRNNCell.step_type

    def step(self, z_x, state, recurrent_dropout=None):
        z = z_x + keras.random.normal(ops.shape(state.h), seed=self.seed_generator)
        return self.step_type(ops.tanh(z), z)


class Failing(klc.RecurrentCell):
    """A step that only Keras' loop could run, say."""

    gates = ("h",)
    step_type = klc.VanillaRNNCell.step_type

    def step(self, z_x, state, recurrent_dropout=None):
        raise ValueError("not here")


class Counting(klc.RecurrentCell):
    """A step that knows how often it ran."""

    gates = ("h",)
    step_type = klc.VanillaRNNCell.step_type
    count = 0

    def step(self, z_x, state, recurrent_dropout=None):
        self.count += 1
        return self.step_type(ops.tanh(z_x) * self.count, z_x)


class CountingElsewhere(Counting):
    def step(self, z_x, state, recurrent_dropout=None):
        type(self).count += 1
        return self.step_type(ops.tanh(z_x) * self.count, z_x)


@pytest.mark.parametrize(
    ("cell", "why"),
    [
        (Drawing, "sets variables"),
        (Failing, "ValueError: not here"),
        (Counting, "changes attributes (count)"),
        (CountingElsewhere, "gives other numbers then"),
    ],
)
def test_a_step_that_is_no_function_is_refused(cell, why):
    layer = type("Layer", (klc.Recurrent,), {"cell_class": cell})(5)
    layer.build((4, 6, 3))
    explanation = layer.explain_engine((4, 6, 3))
    assert explanation.chosen == "reference"
    assert why in explanation.answers["derived"].reason
    assert "count" not in vars(layer.cell)  # the look has left nothing


class WithLayers(klc.RecurrentCell):
    """A step that calls layers, built when they are first called."""

    gates = ("h",)
    step_type = klc.VanillaRNNCell.step_type

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.norm = keras.layers.LayerNormalization()
        # On JAX nothing in Keras' own loop over time can draw in `fit`: it raises UnexpectedTracerError.
        self.inside = [keras.layers.Dense(self.units), *[keras.layers.Dropout(0.5)] * (BACKEND != "jax")]

    def step(self, z_x, state, recurrent_dropout=None):
        h = self.norm(ops.tanh(z_x + klc.equations.project(state.h, self.tensor("recurrent_kernel"))))
        for layer in self.inside:
            h = layer(h)
        return self.step_type(h, z_x)


class LayerWithLayers(klc.Recurrent):
    cell_class = WithLayers


def test_layers_that_a_step_calls(tmp_path, rng):
    """Their weights are the cell's from the start, learn, and come back from a file; in training one draws."""
    x = rng.normal(size=(4, 6, 3)).astype("float32")
    model = keras.Sequential([LayerWithLayers(5), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.01), "mse")
    model.fit(x, x[:, 0, :1], verbose=0)
    before = model.layers[0].get_weights()
    assert [w.name for w in model.layers[0].weights[3:]] == ["gamma", "beta", "kernel", "bias"]
    model.fit(x, x[:, 0, :1], verbose=0)
    assert all(np.abs(a - b).max() > 0 for a, b in zip(before, model.layers[0].get_weights(), strict=True))
    layer = model.layers[0]
    layer.engine = "derived"  # which answers for itself, not for "auto"
    assert layer.explain_engine(x.shape).answers["derived"].ok
    assert layer.explain_engine(x.shape, training=True).answers["derived"].ok is (BACKEND == "jax")
    model.save(tmp_path / "model.keras")
    own = {"LayerWithLayers": LayerWithLayers, "WithLayers": WithLayers}
    loaded = keras.saving.load_model(tmp_path / "model.keras", custom_objects=own)
    np.testing.assert_allclose(loaded.predict(x, verbose=0), model.predict(x, verbose=0), atol=1e-6)


def test_a_model_without_an_input_is_derived_in_its_first_fit(rng):
    """Its weights have no numbers yet when the engine is chosen."""
    layer = klc.GRU(5, reset_after=False)
    model = keras.Sequential([layer, keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    x = rng.normal(size=(4, 6, 3)).astype("float32")
    model.fit(x, x[:, 0, :1], verbose=0)
    assert layer.last_engine == "derived"


def test_it_refuses_what_asks_for_every_step_or_for_no_loop():
    case = Case("slstm", training=False)
    data = arrays(case)
    layer = layer_of(case, data["weights"])
    request = request_of(case, layer, data)
    for change in ({"keep_steps": True}, {"unroll": True}):
        assert not ENGINES["derived"].supports(derived.Request(**{**vars(request), **change})).ok
    on_jax = keras.backend.backend() == "jax"  # whose generic loop compiles to the same without a gradient
    assert registry.explain("auto", request).chosen == ("reference" if on_jax else "derived")
    assert set(KINDS) > set(DERIVED)
