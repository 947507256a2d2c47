"""What the pictures show: axes, labels and data. (How they look was judged by eye.)"""

from dataclasses import replace

import keras
import numpy as np
import pytest

from keras_lstm_custom import LSTM, VanillaRNN, attribute, gradient_flow, memory_contributions, plots, trace
from keras_lstm_custom.diagnostics import gate_weights, summary
from keras_lstm_custom.errors import ArgumentError

plt = pytest.importorskip("matplotlib.pyplot")

BATCH, TIMESTEPS, FEATURES, UNITS = 3, 8, 2, 5


@pytest.fixture(scope="module")
def model():
    plt.switch_backend("agg")
    sequences = keras.Input((TIMESTEPS, FEATURES))
    h = LSTM(UNITS, return_sequences=True, name="lstm")(keras.layers.Masking()(sequences))
    return keras.Model(sequences, VanillaRNN(3, name="rnn")(h))


@pytest.fixture(scope="module")
def x():
    x = np.random.default_rng(3).normal(size=(BATCH, TIMESTEPS, FEATURES)).astype("float32")
    x[1, 5:] = 0
    return x


@pytest.fixture(scope="module")
def steps(model, x):
    return trace(model, x)


@pytest.fixture(scope="module")
def flow(model, x):
    return gradient_flow(model, x, np.ones((BATCH, 3), "float32"), loss="mse")


@pytest.fixture(autouse=True)
def _nothing_is_shown_and_all_is_closed(monkeypatch):
    monkeypatch.setattr(plt, "show", lambda *_: pytest.fail("a plot called show"))
    before = dict(plt.rcParams)
    yield
    assert dict(plt.rcParams) == before
    plt.close("all")


def panels(figure):
    """Return the axes without the colour bars."""
    return [axis for axis in figure.axes if axis.get_label() != "<colorbar>"]


def test_gates_are_heat_maps_under_the_input(steps, x):
    figure = plots.gates(steps["lstm"], sequence=1)
    top, *rows = panels(figure)
    np.testing.assert_array_equal(top.lines[0].get_ydata(), x[1, :, 0])
    assert [line.get_label() for line in top.lines] == ["column 0", "column 1"]
    assert len(rows) == 6
    for axis, symbol in zip(rows, "ifgoch", strict=True):
        shown = axis.images[0].get_array()
        np.testing.assert_allclose(shown[:, :5], getattr(steps["lstm"], symbol)[1, :5].T)
        assert shown.mask[:, 5:].all()  # masked steps are left out
        assert f"{symbol}_t" in axis.get_title(loc="left")
        assert axis.get_ylabel() == "unit"
    assert rows[-1].get_xlabel() == "time step t"
    for axis in (rows[0], rows[1], rows[3]):
        assert axis.images[0].get_clim() == (0, 1)
    assert len(panels(plots.gates(steps["rnn"]))) == 3


def test_chosen_units_are_named(steps):
    axis = panels(plots.gates(steps["lstm"], units=[4, 1]))[1]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["4", "1"]
    np.testing.assert_allclose(axis.images[0].get_array(), steps["lstm"].i[0][:, [4, 1]].T)


def test_many_input_columns_are_a_heat_map(rng):
    model = keras.Sequential([keras.Input((4, 9)), LSTM(2, name="lstm")])
    figure = plots.gates(trace(model, rng.normal(size=(1, 4, 9)).astype("float32"))["lstm"])
    assert panels(figure)[0].images[0].get_array().shape == (9, 4)


def test_one_unit_and_one_step_have_whole_numbers_beside_them(rng):
    model = keras.Sequential([keras.Input((1, 9)), LSTM(1, name="one")])
    figure = plots.gates(trace(model, rng.normal(size=(1, 1, 9)).astype("float32"))["one"])
    figure.draw_without_rendering()
    for ticks in (*(axis.get_yticks() for axis in figure.axes[1:]), figure.axes[-1].get_xticks()):
        assert [tick for tick in ticks if -0.5 <= tick <= 0.5] == [0]


def test_the_scale_of_the_input_stands_beside_it_however_wide_the_legends(rng):
    model = keras.Sequential([keras.Input((8, 9)), LSTM(2, name="wide")])
    figure = plots.unit(trace(model, rng.normal(size=(1, 8, 9)).astype("float32"))["wide"], unit=0)
    figure.draw_without_rendering()
    panel, (scale,) = figure.axes[0], figure.axes[0].child_axes
    assert 0 < scale.get_window_extent().x0 - panel.get_window_extent().x1 < 20  # pixels


def test_a_unit_shows_what_is_forgotten_enters_and_leaves(steps):
    t = steps["lstm"]
    figure = plots.unit(t, 2)
    _, gates, changes, long_term, short_term = panels(figure)
    for line, symbol in zip(gates.lines, "ifo", strict=True):
        np.testing.assert_array_equal(line.get_ydata(), getattr(t, symbol)[0, :, 2])
    forgotten, entered = ([bar.get_height() for bar in bars] for bars in changes.containers)
    np.testing.assert_allclose(forgotten, -t.forgotten[0, :, 2])
    np.testing.assert_allclose(np.add(forgotten, entered), (t.c - t.c_before)[0, :, 2], atol=1e-7)
    np.testing.assert_array_equal(long_term.lines[0].get_ydata(), t.c[0, :, 2])
    could, leaves = short_term.lines[:2]
    np.testing.assert_allclose(could.get_ydata(), np.tanh(t.c[0, :, 2]), rtol=1e-5)
    np.testing.assert_array_equal(leaves.get_ydata(), t.h[0, :, 2])
    assert all(axis.get_ylabel() for axis in panels(figure))


def test_memory_lengths_fall_on_a_log_axis(steps):
    for of in (steps, steps["lstm"], summary(steps), summary(steps)["lstm"]):
        (axis,) = plots.memory_lengths(of).axes
        np.testing.assert_array_equal(axis.lines[0].get_ydata(), np.sort(summary(steps)["lstm"].memory_length)[::-1])
        assert (axis.get_yscale(), axis.get_ylabel()) == ("log", "memory length / steps")


def test_gradients_are_compared_on_a_log_axis(flow):
    (axis,) = plots.gradients({"LSTM": flow["lstm"], "RNN": flow["rnn"]}).axes
    assert axis.get_yscale() == "log"
    np.testing.assert_array_equal(axis.lines[0].get_ydata(), flow["lstm"].mean("c"))
    np.testing.assert_array_equal(axis.lines[1].get_ydata(), flow["rnn"].mean("h"))
    labels = [text.get_text() for text in axis.get_legend().get_texts()]
    assert labels[0].startswith("LSTM: ‖∂L/∂c")
    assert flow["rnn"].verdict.name in labels[1]
    assert len(axis.collections) == 2  # the bands
    assert axis.lines[0].get_linestyle() != axis.lines[1].get_linestyle()


def test_a_gradient_of_zero_is_said_not_drawn(flow):
    h = flow["rnn"].h.copy()
    h[:, 0] = 0
    (axis,) = plots.gradients(replace(flow["rnn"], h=h)).axes
    assert np.isnan(axis.lines[0].get_ydata()[0])
    assert "exactly zero" in axis.get_title(loc="left")


def test_weights_by_gate(model):
    weights = gate_weights(model)["lstm"]
    figure = plots.weights(weights)
    axes = np.array(panels(figure)).reshape(3, 4)
    for column, gate in enumerate("ifgo"):
        np.testing.assert_array_equal(axes[0, column].images[0].get_array(), weights.kernel[gate])
        np.testing.assert_array_equal(axes[1, column].images[0].get_array(), weights.recurrent_kernel[gate])
        assert f"{weights.spectral_radius[gate]:.2f}" in axes[1, column].get_title(loc="left")
        np.testing.assert_array_equal(axes[2, column].lines[0].get_xdata(), weights.bias[gate])
        np.testing.assert_allclose(axes[2, column].patches[0].get_data().values.sum(), 1)
    assert len(panels(plots.weights(gate_weights(model)["rnn"]))) == 3


def greyed(axis):
    """Return where an axis is painted grey, as (first step, last step)."""
    boxes = [patch for patch in axis.patches if patch.get_facecolor()[:3] == (0.75, 0.75, 0.75)]
    return [(box.get_x() + 0.5, box.get_x() + box.get_width() - 0.5) for box in boxes]


def test_an_attribution_is_under_its_input(model, x):
    found = attribute(model, x, target=2)
    figure = plots.attribution(found, 1, feature_names=["heat", "wind"], step_names=list("abcdefgh"))
    top, heat, sums = panels(figure)
    np.testing.assert_array_equal(top.lines[1].get_ydata(), x[1, :, 1])
    assert [text.get_text() for text in top.get_legend().get_texts()] == ["heat", "wind"]
    shown = heat.images[0].get_array()
    np.testing.assert_allclose(shown[:, :5], found.values[1, :5].T)
    assert shown.mask[:, 5:].all()
    assert greyed(top) == greyed(sums) == [(5, 7)]
    assert [label.get_text() for label in heat.get_yticklabels()] == ["heat", "wind"]
    (bars,) = sums.containers
    np.testing.assert_allclose([bar.get_height() for bar in bars], found.by_step[1], rtol=1e-6)
    assert [label.get_text() for label in sums.get_xticklabels()] == list("abcdefgh")
    assert f"= {found.prediction[1]:.4g}" in figure.get_suptitle()
    assert f"{found.reference[1]:.4g} at the baseline (zeros)" in figure.get_suptitle()


def test_tokens_are_bars_with_their_words():
    layers = [keras.layers.Embedding(9, 3), keras.layers.GRU(2), keras.layers.Dense(1)]
    found = attribute(keras.Sequential([keras.Input((3,)), *layers]), np.array([[1, 2, 3], [4, 5, 6]]))
    words = [["not", "so", "bad"], ["a", "very", "long one"]]
    (axis,) = panels(plots.attribution(found, 1, step_names=words))
    assert [label.get_text() for label in axis.get_xticklabels()] == words[1]
    np.testing.assert_allclose([bar.get_height() for bar in axis.containers[0]], found.values[1])


def test_memory_contributions_are_beside_what_they_add_up_to(model, x):
    parts = memory_contributions(model, x)["lstm"]
    _, heat, total = panels(plots.memory_contributions(parts, 1, units=[3, 0]))[:3]
    shown = heat.images[0].get_array()
    np.testing.assert_allclose(shown[:, :5], parts.values[1, :5, [3, 0]])
    assert shown.mask[:, 5:].all()
    np.testing.assert_allclose(total.images[0].get_array()[:, 0], parts.c[1, [3, 0]])
    assert heat.images[0].get_clim() == total.images[0].get_clim()
    assert [label.get_text() for label in heat.get_yticklabels()] == ["3", "0"]
    sequences = keras.Input((TIMESTEPS, FEATURES))
    last = keras.Model(sequences, keras.layers.Dense(1)(LSTM(UNITS, name="last")(sequences)))
    parts = memory_contributions(last, x, target=0)["last"]
    bottom = panels(plots.memory_contributions(parts))[-1]
    heights = [bar.get_height() for bar in bottom.containers[0]]
    np.testing.assert_allclose(heights, parts.prediction[0].sum(1), rtol=1e-6)


def test_skipped_steps_are_grey_in_every_picture(steps):
    trace = steps["lstm"]
    assert [greyed(axis) for axis in panels(plots.unit(trace, 0, sequence=1))] == [[(5, 7)]] * 5
    assert greyed(panels(plots.gates(trace, sequence=1))[0]) == [(5, 7)]
    assert greyed(panels(plots.gates(trace, sequence=0))[0]) == []


def test_names_must_fit(steps, model, x):
    with pytest.raises(ArgumentError, match=r"(?s)2 names.*3 names"):
        plots.gates(steps["lstm"], feature_names="abc")
    with pytest.raises(ArgumentError, match=r"(?s)8 names.*7 names"):
        plots.unit(steps["lstm"], 0, step_names="abcdefg")
    with pytest.raises(ArgumentError, match=r"(?s)3 names.*1 names"):
        plots.attribution(attribute(model, x, target=0), step_names=[list("abcdefgh")])


def test_says_what_cannot_be_drawn(steps):
    with pytest.raises(ArgumentError, match="0 to 2"):
        plots.gates(steps["lstm"], sequence=3)
    with pytest.raises(ArgumentError, match="0 to 4"):
        plots.unit(steps["lstm"], 5)
    with pytest.raises(ArgumentError, match="has gates"):
        plots.unit(steps["rnn"], 0)
    with pytest.raises(ArgumentError, match="forget gate"):
        plots.memory_lengths(steps["rnn"])
