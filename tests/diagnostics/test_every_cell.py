"""Traces, gradients, weights, summaries and pictures of every cell, a user's own among them."""

import json
from typing import Any, NamedTuple

import keras
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from keras import layers, ops

import keras_lstm_custom as ours
from keras_lstm_custom import GRU, Recurrent, RecurrentCell, gradient_flow, plots, trace
from keras_lstm_custom.diagnostics import GateMonitor, GateTrace, Traces, gate_weights, summary
from keras_lstm_custom.errors import ArgumentError
from tests.diagnostics.every_cell import CASES, UNITS, addons

matplotlib.use("agg")
BATCH, TIMESTEPS, FEATURES = 3, 6, 2
EVERY = pytest.mark.parametrize("name", CASES)


@pytest.fixture
def x(rng):
    x = rng.normal(size=(BATCH, TIMESTEPS, FEATURES)).astype("float32")
    x[1, :2] = x[2, 4:] = 0
    return x


@pytest.fixture(autouse=True)
def _figures_are_closed():
    yield
    plt.close("all")


def test_every_public_layer_has_a_case():
    public = {getattr(ours, name) for name in ours.__all__ if isinstance(getattr(ours, name), type)}
    built = {type(case.build()) for case in CASES.values()}
    assert {layer for layer in public if issubclass(layer, Recurrent) and layer is not Recurrent} <= built


def build(name, rng, masked=True, **options):
    mask = [layers.Masking()] if masked else []
    layer = CASES[name].build(return_sequences=True, name="it", **options)
    model = keras.Sequential([keras.Input((TIMESTEPS, FEATURES)), *mask, layer])
    model.set_weights([rng.normal(scale=0.7, size=w.shape) for w in model.get_weights()])
    return model


def weights_of(layer):
    return [ops.convert_to_numpy(w).astype(np.float64) for w in layer.weights]


@EVERY
@pytest.mark.parametrize("go_backwards", [False, True])
def test_a_trace_holds_what_the_equations_say(name, go_backwards, rng, x):
    model = build(name, rng, go_backwards=go_backwards)
    found = trace(model, x)["it"]
    before = {state: found.before(state).astype(np.float64) for state in found.states}
    with np.errstate(invalid="ignore"):
        expected = CASES[name].step(x.astype(np.float64), before, weights_of(model.layers[-1]))
    assert list(found.symbols) == list(expected)
    for symbol, values in expected.items():
        values = np.where(found.read[..., None], values, before.get(symbol, np.nan))
        assert getattr(found, symbol).shape == values.shape
        np.testing.assert_allclose(getattr(found, symbol), values, rtol=2e-5, atol=2e-6, err_msg=symbol)
    assert found.units == UNITS
    assert len(found.to_frame()) == BATCH * TIMESTEPS * UNITS


@EVERY
def test_h_is_the_output_of_the_reference_engine_bit_for_bit(name, rng, x):
    model = build(name, rng, masked=False, **({} if name == "keras_gru" else {"engine": "reference"}))
    output = ops.convert_to_numpy(model(x))
    if name == "keras_gru":  # another loop, in another order of sums
        np.testing.assert_allclose(trace(model, x)["it"].h, output, rtol=1e-5, atol=1e-6)
    else:
        np.testing.assert_array_equal(trace(model, x)["it"].h, output)


@EVERY
def test_a_file_gives_back_what_was_written_without_the_class(name, rng, x, tmp_path):
    traces = trace(build(name, rng), x)
    traces.to_npz(tmp_path / "steps.npz")
    again = Traces.from_npz(tmp_path / "steps.npz")["it"]
    assert (type(again), again.about) == (type(traces["it"]), traces["it"].about)
    for field in (*again.symbols, "x", "mask", *(f"initial_{state}" for state in again.states)):
        np.testing.assert_array_equal(getattr(again, field), getattr(traces["it"], field))
    np.testing.assert_equal(summary(again)["it"].to_frame().to_dict(), summary(traces)["it"].to_frame().to_dict())


def test_files_of_earlier_versions_are_read(rng, x, tmp_path):
    found = trace(build("lstm", rng), x)["it"]
    rnn = trace(build("vanilla_rnn", rng), x)["it"]
    arrays = {f"0/{field}": getattr(found, field) for field in ("x", "mask", "initial_h", "initial_c", *found.symbols)}
    arrays |= {f"1/{field}": getattr(rnn, field) for field in ("x", "initial_h", *rnn.symbols)}
    header = [
        {"kind": "lstm", "name": "a", "go_backwards": True},
        {"kind": "vanilla_rnn", "name": "b", "go_backwards": False, "mask": None},
    ]
    np.savez_compressed(tmp_path / "old.npz", traces=np.array(json.dumps(header)), **arrays)
    old = Traces.from_npz(tmp_path / "old.npz")
    assert isinstance(old["a"], GateTrace)
    assert old["a"].go_backwards
    np.testing.assert_array_equal(old["a"].c, found.c)
    np.testing.assert_array_equal(old["b"].z, rnn.z)
    assert old["a"].about == found.about


class ClashStep(NamedTuple):
    h: Any
    mask: Any


class ClashCell(RecurrentCell):
    """A cell whose step computes something of a name that a trace needs itself."""

    gates = ("h",)
    step_type = ClashStep

    def step(self, z_x, state, recurrent_dropout=None):
        return ClashStep(ops.tanh(z_x), z_x)


class Clash(Recurrent):
    cell_class = ClashCell


def test_names_that_a_trace_needs_itself_are_refused(x):
    model = keras.Sequential([keras.Input((TIMESTEPS, FEATURES)), Clash(2)])
    with pytest.raises(ArgumentError, match=r"needs itself(.|\n)*Received: mask"):
        trace(model, x)


# ---- gradients ----


@pytest.fixture
def precise():
    before = keras.config.floatx()
    keras.config.set_floatx("float64")
    yield
    keras.config.set_floatx(before)


@EVERY
def test_gradients_agree_with_finite_differences_of_the_states(name, precise, rng):
    """L depends on the last h. A state after step t is the state that the steps from t + 1 on start from."""
    case = CASES[name]
    x = rng.normal(size=(2, TIMESTEPS, FEATURES))
    inputs = keras.Input((TIMESTEPS, FEATURES))
    layer = case.build(name="it")
    model = keras.Model(inputs, layer(inputs))
    model.set_weights([rng.normal(scale=0.7, size=w.shape) for w in model.get_weights()])
    weights = weights_of(layer)
    found = trace(model, x)["it"]
    width = found.h.shape[2]
    y = rng.normal(size=(2, width))
    flow = gradient_flow(model, x, y, "mse")["it"]
    assert set(flow.by_state) == set(found.states)
    assert (flow.memory, flow.keeper is None) == (case.memory, case.keeper is None)

    def loss(row, t, state, values):
        states = {s: getattr(found, s)[row, t].astype(np.float64) for s in found.states}
        if state == "c" and case.through:  # another c lets out another h
            before = {s: found.before(s)[row, t].astype(np.float64) for s in found.states}
            states["h"] = h_of(case, weights, found, row, t, before, values)
        states[state] = values
        for later in range(t + 1, TIMESTEPS):
            states = {s: v for s, v in case.step(x[row, later], states, weights).items() if s in states}
        return ((states["h"] - y[row]) ** 2).mean() / 2  # a mean over two sequences

    for state in found.states:
        for row, t in ((0, 1), (1, TIMESTEPS - 1)):
            at = getattr(found, state)[row, t].astype(np.float64)
            steps = 1e-5 * np.eye(len(at))
            slope = [(loss(row, t, state, at + s) - loss(row, t, state, at - s)) / 2e-5 for s in steps]
            np.testing.assert_allclose(flow.norms(state)[row, t], np.linalg.norm(slope), rtol=1e-4, atol=1e-8)


def h_of(case, weights, found, row, t, before, c):
    """Return what the step lets out of another c: the one that it makes of a c before that differs by as much."""
    f = found.f[row, t].astype(np.float64)
    x = found.x[row, t].astype(np.float64)
    now = case.step(x, before, weights)
    if case.step is addons:  # the c that is carried on is the one that h is made of
        return now["o"] * np.tanh(c)
    if len(weights) == 6:  # the peephole of the forget gate sees c before; that of o the new one
        p_o, projection = weights[4], weights[5]
        z_o = np.log(now["o"] / (1 - now["o"])) + p_o * (c - now["c"])
        return (np.tanh(c) / (1 + np.exp(-z_o))) @ projection
    return case.step(x, {**before, "c": before["c"] + (c - now["c"]) / f}, weights)["h"]


def test_advice_names_the_gate_that_keeps(rng, x):
    model = build("gru", rng, masked=False)
    model.set_weights([w * 0 for w in model.get_weights()])
    flow = gradient_flow(model, np.repeat(x, 5, axis=1)[:, :TIMESTEPS], np.ones((BATCH, TIMESTEPS, UNITS)), "mse")
    found = flow["it"]
    vanished = type(found)(**{**vars(found), "h": np.geomspace(1e-9, 1, TIMESTEPS)[None]})
    assert "raise the update gate's bias" in str(vanished.verdict)


# ---- weights, summaries, pictures ----


@EVERY
def test_weights_by_gate_multiply_as_the_cell_does(name, rng, x):
    model = build(name, rng, masked=False)
    found, t = gate_weights(model)["it"], trace(model, x)["it"]
    kernel, recurrent = (weights_of(model.layers[-1])[k] for k in (0, 1))
    np.testing.assert_array_equal(np.concatenate(list(found.kernel.values()), -1), kernel.astype("float32"))
    assert {u.shape for u in found.recurrent_kernel.values()} == {(t.h.shape[2], UNITS)}
    if recurrent.ndim == 2:
        np.testing.assert_array_equal(np.concatenate(list(found.recurrent_kernel.values()), -1), recurrent)
    else:  # heads: what a step multiplies h by, gate after gate
        h = rng.normal(size=UNITS)
        of_heads = [np.split(part @ u, 4) for part, u in zip(np.split(h, 2), recurrent, strict=True)]
        for number, gate in enumerate(found.gates):
            expected = np.concatenate([parts[number] for parts in of_heads])
            np.testing.assert_allclose(h @ found.recurrent_kernel[gate], expected, rtol=1e-6)
    assert set(found.spectral_radius) == set(found.gates)
    counted = sum(w.size for gates in found.parts().values() for w in gates.values())
    extra = sum(w.size for w in found.others.values())
    zeros = recurrent.size if recurrent.ndim == 3 else 0  # off the diagonal blocks
    assert counted + extra == sum(w.size for w in model.layers[-1].get_weights()) + zeros
    assert "spectral radius" in str(found)


def test_a_projection_is_part_of_the_way_from_step_to_step(rng):
    model = build("projected", rng)
    found = gate_weights(model)["it"]
    projection = found.others["projection_kernel"]
    expected = np.abs(np.linalg.eigvals(projection @ found.recurrent_kernel["f"])).max()
    assert found.spectral_radius["f"] == pytest.approx(expected)
    assert set(found.more["peephole"]) == {"f", "o"}


@EVERY
def test_summaries_follow_the_ranges_of_the_symbols(name, rng, x):
    found = trace(build(name, rng), x)["it"]
    layer = summary(found)["it"]
    shares = [symbol for symbol, about in found.about.symbols.items() if about.range == "share"]
    assert list(getattr(layer, "gates", {})) == shares
    keeper = CASES[name].keeper
    if keeper:
        f = getattr(found, keeper)[found.read].mean(axis=0, dtype=np.float64)
        np.testing.assert_allclose(layer.memory_length, -1 / np.log(f), rtol=1e-4)
    for state in found.states[1:]:
        expected = np.median(np.abs(getattr(found, state)[found.read]), axis=0)
        np.testing.assert_array_equal(layer.size[state], expected)
    assert len(layer.to_frame()) == UNITS
    assert f"({UNITS} units)" in str(layer)


@EVERY
def test_pictures_are_drawn(name, rng, x):
    model = build(name, rng)
    found = trace(model, x)["it"]
    figure = plots.gates(found, sequence=1)
    titles = [axis.get_title(loc="left") for axis in figure.axes if axis.get_title(loc="left")]
    assert len(titles) == 1 + len(found.symbols)
    for axis in figure.axes[1 : 1 + len(found.symbols)]:
        assert axis.images[0].get_array().shape == (UNITS, TIMESTEPS)
    plots.weights(gate_weights(model)["it"]).canvas.draw()
    plots.gradients(gradient_flow(model, x, np.zeros(found.h.shape), "mse")).canvas.draw()
    if CASES[name].keeper:
        plots.memory_lengths(found).canvas.draw()
        plots.unit(found, UNITS - 1, 1).canvas.draw()
    else:
        with pytest.raises(ArgumentError, match="gates"):
            plots.unit(found, 0)


def test_the_change_of_the_memory_is_drawn_as_it_is(rng, x):
    found = trace(build("gru", rng, masked=False), x)["it"]
    bars = [bar.get_height() for bar in plots.unit(found, 2, 1).axes[2].patches]
    lost, entered = np.split(np.array(bars), 2)
    np.testing.assert_allclose(lost + entered, (found.h - found.h_before)[1, :, 2], atol=1e-6)
    np.testing.assert_allclose(entered, ((1 - found.z) * found.n)[1, :, 2], atol=1e-6)


@EVERY
def test_a_monitor_records(name, rng, x):
    model = build(name, rng)
    y = np.zeros((BATCH, TIMESTEPS, trace(model, x)["it"].h.shape[2]))
    model.compile("sgd", "mse")
    monitor = GateMonitor(x, y, every=1)
    model.fit(x, y, epochs=1, verbose=0, callbacks=[monitor])
    row = monitor.to_frame().iloc[0]
    numbers = [row[f"{CASES[name].keeper}_mean"], row["memory_length"]] if CASES[name].keeper else []
    assert np.isfinite([*numbers, row["gradient_last"], row["dead_units"]]).all()


def test_several_cells_in_one_table(rng, x):
    inner = [GRU(3, return_sequences=True), layers.LSTM(2, return_sequences=True, name="lstm"), layers.GRU(2)]
    traces = trace(keras.Sequential([keras.Input((TIMESTEPS, FEATURES)), *inner]), x)
    assert [t.units for t in traces.values()] == [3, 2, 2]
    frame = traces.to_frame()
    assert set(frame.columns) == {"layer", "sequence", "step", "unit", *"zrnhifgoc"}
    assert frame.loc[frame["layer"] == "lstm", "z"].isna().all()
    assert len(str(summary(traces)).split("\n\n")) == 3
