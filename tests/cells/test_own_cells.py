"""A cell of one's own, as `docs/your-own-cell.md` writes it, on every engine; and steps that break their word."""

from __future__ import annotations

import ast
import re
import warnings
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import pytest
from keras import ops

import keras_lstm_custom as klc
from keras_lstm_custom import equations
from keras_lstm_custom.errors import ArgumentError, InputError
from keras_lstm_custom.structures import RNNState
from tests.gradients import outputs_and_gradients

PAGE = Path(__file__).parents[2] / "docs" / "your-own-cell.md"
CELL = re.search(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL).group(1)
BATCH, TIMESTEPS, FEATURES, UNITS = 3, 4, 2, 5
MASK = np.array([[1, 0, 1, 1], [0, 1, 1, 0], [1, 1, 1, 1]], bool)


@pytest.fixture(scope="module")
def page():
    """Return what the first block of the page defines."""
    names: dict = {"__name__": "__page__"}
    exec(CELL, names)
    return names


def test_the_page_writes_it_in_forty_lines_by_public_names_alone():
    lines = [line for line in CELL.splitlines() if line.strip() and not line.strip().startswith("#")]
    assert len(lines) <= 40
    for node in ast.walk(ast.parse(CELL)):
        if isinstance(node, ast.ImportFrom) and node.module.startswith("keras_lstm_custom"):
            module = {"keras_lstm_custom": klc, "keras_lstm_custom.equations": equations}[node.module]
            assert {alias.name for alias in node.names} <= set(module.__all__)
        assert not (isinstance(node, ast.Attribute) and node.attr.startswith("_"))


def minimal_gated_unit(x, kernel, recurrent_kernel, bias, h, mask):
    """The oracle, in float64."""
    sigma = lambda z: 1 / (1 + np.exp(-z))  # noqa: E731
    outputs, y, h = [], np.zeros_like(h, "float64"), h.astype("float64")
    for t in range(x.shape[1]):
        z, u = x[:, t] @ kernel + bias, h @ recurrent_kernel
        f = sigma(z[:, :UNITS] + u[:, :UNITS])
        n = np.tanh(z[:, UNITS:] + f * u[:, UNITS:])
        read = mask[:, t, None]
        h = np.where(read, (1 - f) * h + f * n, h)
        y = np.where(read, h, y)
        outputs.append(y)
    return np.stack(outputs, axis=1)


@pytest.mark.parametrize("engine", ["derived", "reference"])
def test_its_numbers(page, rng, engine):
    layer = page["MinimalGatedUnit"](UNITS, return_sequences=True, engine=engine)
    layer.build((BATCH, TIMESTEPS, FEATURES))
    layer.set_weights([rng.normal(size=w.shape).astype("float32") for w in layer.get_weights()])
    x = rng.normal(size=(BATCH, TIMESTEPS, FEATURES)).astype("float32")
    h = rng.normal(size=(BATCH, UNITS)).astype("float32")
    got = layer(x, initial_state=[h], mask=ops.convert_to_tensor(MASK))
    expected = minimal_gated_unit(x.astype("float64"), *layer.get_weights(), h, MASK)
    np.testing.assert_allclose(ops.convert_to_numpy(got), expected, atol=2e-6)


def test_it_is_run_by_the_derived_engine_with_the_gradients_of_the_reference(page, rng):
    layers = []
    for engine in ("derived", "reference"):
        layer = page["MinimalGatedUnit"](UNITS, return_sequences=True, go_backwards=True, engine=engine, seed=3)
        layer.build((BATCH, TIMESTEPS, FEATURES))
        layers.append(layer)
    assert page["MinimalGatedUnit"](UNITS).explain_engine((4, 5, 3), training=True).chosen == "derived"
    layers[1].set_weights(layers[0].get_weights())
    x = rng.normal(size=(BATCH, TIMESTEPS, FEATURES)).astype("float32")
    h = rng.normal(size=(BATCH, UNITS)).astype("float32")
    got, expected = (outputs_and_gradients(layer, x, [h], mask=MASK, training=True) for layer in layers)
    assert layers[0].last_engine == "derived"
    for a, b in zip([*got[0], *got[1]], [*expected[0], *expected[1]], strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_it_goes_wherever_a_layer_goes(page, rng, tmp_path):
    """All arguments; a cell in `keras.layers.RNN`; saved and loaded by its name."""
    layer = page["MinimalGatedUnit"](
        UNITS, activation="relu", use_bias=False, return_state=True, dropout=0.2, checkpoint_every=2, name="own"
    )
    assert (layer.activation, layer.dropout) == (keras.activations.relu, 0.2)
    again = type(layer).from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    x = rng.normal(size=(BATCH, TIMESTEPS, FEATURES)).astype("float32")
    model = keras.Sequential([keras.layers.RNN([page["MinimalGatedUnitCell"](4), klc.LSTMCell(3)])])
    y = model.predict(x, verbose=0)
    model.save(tmp_path / "own.keras")
    np.testing.assert_allclose(keras.saving.load_model(tmp_path / "own.keras").predict(x, verbose=0), y, atol=1e-6)


class Pair(NamedTuple):
    h: object
    s: object


class PairStep(NamedTuple):
    h: object
    s: object
    z: object


class Own(klc.RecurrentCell):
    """Two states, the second of its own width, and a weight between them."""

    gates = ("h",)
    state_type, step_type = Pair, PairStep

    def __init__(self, *args, width: int = 2, **kwargs):
        super().__init__(*args, **kwargs)
        self.width, self.state_size = width, [self.units, width]

    def build(self, input_shape):
        super().build(input_shape)
        self.between = self.add_weight((self.units, self.width), name="between")

    def step(self, z_x, state, recurrent_dropout=None):
        z = z_x + equations.project(state.h, self.tensor("recurrent_kernel"), mask=recurrent_dropout)
        s = 0.5 * state.s + equations.project(ops.tanh(z), self.tensor("between"))
        return PairStep(ops.tanh(z) * ops.mean(s, axis=-1, keepdims=True), s, z)


class OwnLayer(klc.Recurrent):
    """The layer of `Own`."""

    cell_class = Own


def test_more_states_weights_and_options(rng):
    x = rng.normal(size=(BATCH, TIMESTEPS, FEATURES)).astype("float32")
    results = []
    for engine in ("derived", "reference"):
        keras.utils.set_random_seed(3)
        layer = OwnLayer(UNITS, width=3, return_sequences=True, return_state=True, engine=engine)
        assert layer.width == 3
        layer.build(x.shape)
        assert [w.name for w in layer.weights] == ["kernel", "recurrent_kernel", "bias", "between"]
        states = [np.random.default_rng(n).normal(size=(BATCH, n)).astype("float32") for n in (UNITS, 3)]
        outputs, gradients = outputs_and_gradients(layer, x, states, mask=MASK)
        results.append([*outputs, *gradients])
        with pytest.raises(InputError, match=r"(?s)h of shape \(3, 5\), s of shape \(3, 3\)"):
            layer(x, initial_state=states[::-1])
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


BROKEN = {
    "other names": (lambda step: Pair(step.h, step.s), r"PairStep of h, s, z"),
    "no names": (lambda step: tuple(step), r"PairStep of h, s, z.*Received: tuple"),
    "another width": (lambda step: step._replace(h=step.s), r"h \(.*, 5\).*Received: h \(.*, 2\)"),
    "one row of all": (lambda step: step._replace(h=ops.mean(step.h, axis=0)), r"h \(.*, 5\).*Received: h \(5,\)"),
    "a number": (lambda step: step._replace(z=1.0), r"z \(.*None\).*z \(\)"),
    "whole numbers": (lambda step: step._replace(h=ops.cast(step.h, "int32")), r"floating-point.*int32"),
    "exchanged states": (lambda step: step._replace(h=step.s, s=step.h), r"new state first"),
}


@pytest.mark.parametrize("engine", ["auto", "derived", "reference"])
@pytest.mark.parametrize("broken", BROKEN)
def test_a_step_that_returns_something_else_than_it_declares(broken, engine):
    change, says = BROKEN[broken]

    class Broken(Own):
        def step(self, *args, **kwargs):
            return change(super().step(*args, **kwargs))

    layer = type("BrokenLayer", (OwnLayer,), {"cell_class": Broken})(UNITS, engine=engine)
    with pytest.raises(ArgumentError, match=f"(?s)step of Broken.*{says}"):
        layer(np.zeros((BATCH, TIMESTEPS, FEATURES), "float32"))


class Turned(NamedTuple):
    """A step whose new state is not first."""

    z: object
    h: object


DECLARED = {
    "no gates": ({"gates": klc.RecurrentCell.gates}, r"`gates`.*Received: \(\)"),
    "a gate twice": ({"gates": ("h", "h")}, r"`gates`.*\('h', 'h'\)"),
    "gates in one word": ({"gates": "zrn"}, r"`gates`.*'zrn'"),
    "gates that are no names": ({"gates": (1, 2)}, r"`gates`.*\(1, 2\)"),
    "no step of its own": ({"step": klc.RecurrentCell.step}, r"`step\(self, z_x, state.*Received: no step"),
    "a step without dropout": ({"step": lambda self, z, s: s}, r"recurrent_dropout=None.*Received: step\(z, s\)"),
    "a state that is no named tuple": ({"state_type": tuple}, r"`state_type`, a named tuple"),
    "the state last": ({"state_type": RNNState, "step_type": Turned}, r"begins with the same fields.*h and z, h"),
    "no step": ({"step_type": None}, r"no step_type"),
    "another first state": ({"state_type": Turned, "step_type": Turned}, r"begins with h.*z, h and z, h"),
    "too few widths": (
        {"state_type": Pair, "state_size": [5]},
        r"a width, a positive integer, for each of h, s.*\[5\]",
    ),
    "one width as a number": ({"state_size": 5}, r"`state_size`, a list.*Received: 5"),
    "half a width": ({"state_size": [5, 2.0]}, r"positive integer.*\[5, 2.0\]"),
    "no width": ({"state_size": [5, 0]}, r"positive integer.*\[5, 0\]"),
}


@pytest.mark.parametrize("declared", DECLARED)
def test_a_row_that_does_not_go_together(declared):
    """It would run with the wrong field as its state."""
    attributes, says = DECLARED[declared]
    attributes = dict(attributes)
    widths = attributes.pop("state_size", None)
    cell = type("Odd", (Own,), attributes)(UNITS)
    cell.state_size = widths or cell.state_size[: len(getattr(cell.state_type, "_fields", ()))]
    with pytest.raises(ArgumentError, match=f"(?s)Odd declares.*{says}.*What to do"):
        cell.build((None, FEATURES))


def test_a_weight_that_is_not_there():
    cell = Own(UNITS)
    cell.build((None, FEATURES))
    with pytest.raises(ArgumentError, match=r"(?s)Own has no weight 'u'.*kernel, recurrent_kernel, bias.*add_weight"):
        cell.tensor("u")


@pytest.mark.parametrize("cell_class", [None, keras.layers.LSTMCell, klc.LSTMCell(3)], ids=["none", "Keras'", "made"])
def test_a_layer_that_names_no_cell(cell_class):
    with pytest.raises(ArgumentError, match=r"(?s)Odd does not name the cell.*a subclass of RecurrentCell"):
        type("Odd", (klc.Recurrent,), {"cell_class": cell_class})(UNITS)
    with pytest.raises(ArgumentError, match="Recurrent does not name"):
        klc.Recurrent(UNITS)


class IndStep(NamedTuple):
    h: object
    z: object


class IndRNNCell(klc.RecurrentCell):
    """h = tanh(W x + u ⊙ h + b), Li et al. 2018: no matrix that a state is multiplied by."""

    gates, step_type, recurrent_kernel_shape = ("h",), IndStep, ()

    def build(self, input_shape):
        super().build(input_shape)
        self.u = self.add_weight((self.units,), keras.initializers.RandomUniform(-1, 1), name="u")

    def step(self, z_x, state, recurrent_dropout=None):
        h = state.h if recurrent_dropout is None else state.h * recurrent_dropout
        z = z_x + self.tensor("u") * h
        return IndStep(self.activation(z), z)


class IndRNN(klc.Recurrent):
    """The layer of `IndRNNCell`."""

    cell_class = IndRNNCell


@pytest.mark.parametrize("engine", ["derived", "reference"])
def test_a_cell_without_a_recurrent_kernel(engine, rng):
    """It would be a weight without a gradient, of which Keras warns in `fit`."""
    layer = IndRNN(UNITS, return_sequences=True, recurrent_dropout=0.2, engine=engine)
    layer.build((BATCH, TIMESTEPS, FEATURES))
    assert [w.name for w in layer.weights] == ["kernel", "bias", "u"]
    layer.set_weights([rng.normal(size=w.shape).astype("float32") for w in layer.get_weights()])
    x = rng.normal(size=(BATCH, TIMESTEPS, FEATURES)).astype("float32")
    h = rng.normal(size=(BATCH, UNITS)).astype("float32")
    kernel, bias, u = (w.astype("float64") for w in layer.get_weights())
    expected, state = [], h
    for t in range(TIMESTEPS):
        state = np.tanh(x[:, t] @ kernel + bias + u * state)
        expected.append(state)
    (got,), gradients = outputs_and_gradients(layer, x, [h])
    np.testing.assert_allclose(got, np.stack(expected, axis=1), atol=2e-6)
    assert all(np.abs(g).max() > 0 for g in gradients)


def test_a_cell_without_a_recurrent_kernel_goes_wherever_a_layer_goes(rng):
    pytest.importorskip("matplotlib")
    model = keras.Sequential([keras.Input((TIMESTEPS, FEATURES)), IndRNN(UNITS, name="own"), keras.layers.Dense(1)])
    model.compile("adam", "mse")
    x = rng.normal(size=(BATCH, TIMESTEPS, FEATURES)).astype("float32")
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "Gradients do not exist")
        model.fit(x, x[:, 0, :1], verbose=0)
    assert klc.trace(model, x)["own"].h.shape == (BATCH, TIMESTEPS, UNITS)
    klc.plots.weights(klc.gate_weights(model)["own"])
    assert klc.gate_weights(model)["own"].spectral_radius == {}


class OnlyH(NamedTuple):
    """A step that computes nothing beside its state."""

    h: object


class WiderInput(klc.RecurrentCell):
    """Reads x itself behind W x + b: its input part is wider than its kernel."""

    gates = ("h",)
    step_type = OnlyH

    def input_part(self, x, dropout=None):
        return ops.concatenate([super().input_part(x, dropout), x], axis=-1)

    def step(self, z_x, state, recurrent_dropout=None):
        u = equations.project(state.h, self.tensor("recurrent_kernel"), mask=recurrent_dropout)
        return OnlyH(ops.tanh(z_x[..., : self.units] + u) + ops.mean(z_x[..., self.units :], axis=-1, keepdims=True))


class WiderInputLayer(klc.Recurrent):
    """Its layer."""

    cell_class = WiderInput


def test_a_step_of_h_alone_and_an_input_part_of_another_width(rng):
    """What a trace keeps is one field; what `derived` tries is as wide as the cell makes it."""
    x = rng.normal(size=(2, 9, 3)).astype("float32")
    derived, reference = (WiderInputLayer(4, return_sequences=True, engine=e) for e in ("derived", "reference"))
    for layer in (derived, reference):
        layer.build(x.shape)
        layer.set_weights(derived.get_weights())
    for found, expected in zip(outputs_and_gradients(derived, x), outputs_and_gradients(reference, x), strict=True):
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5)
    model = keras.Sequential([keras.Input(x.shape[1:]), reference])
    np.testing.assert_allclose(klc.trace(model, x)[reference.name].h, model.predict(x, verbose=0), atol=1e-6)
