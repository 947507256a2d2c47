"""The figures of the page: gradient, skipped steps, names at the axes, saturation."""

import keras
import numpy as np
import pytest

from keras_lstm_custom import LSTM, VanillaRNN, report
from tests.diagnostics.report.pages import FEATURES, STEPS, UNITS, evaluate, figure, go, show


def test_gradient_and_verdict_are_those_of_gradient_flow(page, case):
    for number, (name, flow) in enumerate(case.flows.items()):
        go(page, layer=number)
        assert page.find_element("id", "verdict").text == str(flow.verdict)
        curves = {c["symbol"]: c for c in evaluate(page, "layer().gradient.states")}
        assert set(curves) == ({"h", "c"} if flow.c is not None else {"h"}), name
        for symbol, curve in curves.items():
            np.testing.assert_allclose(np.array(curve["mean"], float), flow.mean(symbol), rtol=1e-3)


def test_steps_that_were_skipped_are_grey_everywhere(page):
    go(page, layer=0, sequence=3, step=1)
    data, layout = figure(page, "time")
    grey = [shape for shape in layout["shapes"] if shape.get("name") == "skipped"]
    assert [(shape["x0"], shape["x1"], shape["layer"]) for shape in grey] == [(7.5, 11.5, "below")]
    assert all(value is None for drawn in data if drawn.get("yaxis") == "y2" for value in drawn["y"][8:])
    for symbol in ("f", "c", "h"):
        go(page, symbol=symbol)
        (heat,), layout = figure(page, "units")
        assert all(value is None for row in heat["z"] for value in row[8:])
        assert all(value is not None for row in heat["z"] for value in row[:8])
        assert layout["plot_bgcolor"] == grey[0]["fillcolor"]
    go(page, sequence=0)
    assert not [shape for shape in figure(page, "time")[1]["shapes"] if shape.get("name") == "skipped"]


def test_names_of_steps_stand_at_the_axis(page):
    go(page, layer=2, sequence=4)
    for name in ("time", "units"):
        assert figure(page, name)[1]["xaxis"]["ticktext"] == [f"4h{t}" for t in range(STEPS)]


def test_a_heat_map_of_the_input_has_a_scale_and_names(browser, tmp_path, rng):
    model = keras.Sequential([keras.Input((STEPS, 9)), LSTM(UNITS), keras.layers.Dense(1)])
    names = [f"sensor {k}" for k in range(9)]
    x = rng.normal(size=(2, STEPS, 9))
    show(browser, report(model, x, None, tmp_path / "page.html", feature_names=names))
    data, layout = figure(browser, "time")
    for heat, axis in zip(data[:2], ("yaxis", "yaxis2"), strict=True):
        assert (heat["type"], heat["y"]) == ("heatmap", names)
        low, high = layout[axis]["domain"]
        assert heat["colorbar"]["y"] == pytest.approx((low + high) / 2), "the scale stands beside its own panel"
        assert heat["zmin"] == -heat["zmax"]
    assert browser.get_log("browser") == []


def test_saturation_can_be_read_when_nothing_saturates(browser, tmp_path, rng):
    for layer, says in ((LSTM(UNITS), "no gate of any unit at any step"), (VanillaRNN(UNITS), "no unit at any step")):
        model = keras.Sequential([keras.Input((STEPS, FEATURES)), layer, keras.layers.Dense(1)])
        show(browser, report(model, 0.1 * rng.normal(size=(2, STEPS, FEATURES)), None, tmp_path / "page.html"))
        assert says in [note["text"] for note in figure(browser, "summary-plot")[1]["annotations"]]


def test_saturation_is_a_map_of_gates_and_units(page, case):
    go(page, layer=0)
    heat = figure(page, "summary-plot")[0][0]
    lstm = case.traces["keras_lstm"]
    gates = {"output": lstm.o, "forget": lstm.f, "input": lstm.i}
    expected = {f"{name} {side}": gate[lstm.read] for name, gate in gates.items() for side in ("> 0.9", "< 0.1")}
    assert set(heat["y"]) == set(expected)
    for label, row in zip(heat["y"], heat["z"], strict=True):
        values = expected[label]
        share = (values > 0.9).mean(0) if ">" in label else (values < 0.1).mean(0)
        np.testing.assert_allclose(row, share, atol=1e-3)
