"""The equations of the page: those of every cell, filled with the numbers of the step."""

import json
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from keras_lstm_custom import gradient_flow, report, trace
from tests.diagnostics.every_cell import CASES
from tests.diagnostics.report.pages import FEATURES, STEPS, evaluate, go, randomise, show


@pytest.mark.parametrize("layer", [0, 1, 2, 3])
def test_equations_are_filled_with_the_steps_numbers(page, case, layer):
    for step in (0, 5, STEPS - 1):
        check_equations(page, case, layer, step)


def check_equations(page, case, layer, step):
    """Parse every line of the table, and compute it again from the numbers that it shows."""
    sequence, unit = 1, 1
    go(page, layer=layer, sequence=sequence, unit=unit, step=step)
    traced = list(case.traces.values())[layer]
    shown = {}
    for line in page.find_elements("css selector", "#equations tr"):
        cells = [cell.text.replace("−", "-") for cell in line.find_elements("tag name", "td")]
        symbol = cells[0].split()[0][0]
        shown[symbol] = float(cells[3].removeprefix("≈ "))
        expression = cells[2].removeprefix("= ").replace("·", "*").replace("- ", "-").replace("+ ", "+")
        functions = {"σ": lambda z: 1 / (1 + np.exp(-z)), "tanh": np.tanh}
        computed = eval(expression, {"__builtins__": {}}, functions)
        # Each number is shown to 4 digits, and at most three of them enter with a factor of 1 or below 3.
        assert computed == pytest.approx(shown[symbol], abs=5e-4), cells
    assert set(shown) == set(traced.symbols)
    for symbol, value in shown.items():
        assert value == pytest.approx(getattr(traced, symbol)[sequence, step, unit], abs=1e-4)
    if "c" in shown:
        old = traced.c_before[sequence, step, unit]
        assert evaluate(page, "before('c')") == pytest.approx(old, abs=1e-4)


SHOWN = ("gru", "gru_reset_before", "projected", "normalised", "slstm", "own")


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    """A model with a layer of each of these cells, its trace, and its page."""
    inputs = hidden = keras.Input((STEPS, FEATURES))
    hidden = keras.layers.Masking()(hidden)
    for name in SHOWN:
        hidden = CASES[name].build(return_sequences=True, name=name)(hidden)
    model = randomise(keras.Model(inputs, keras.layers.Dense(1)(hidden)))
    model.compile("adam", "mse")
    x = np.random.default_rng(3).normal(size=(2, STEPS, FEATURES)).astype("float32")
    x[1, :3] = 0  # an sLSTM's stabiliser starts from minus infinity, and stays there
    path = report(model, x, np.ones((2, STEPS, 1)), tmp_path_factory.mktemp("cells") / "page.html", attribution=False)
    return SimpleNamespace(path=path, traces=trace(model, x), flows=gradient_flow(model, x, np.ones((2, STEPS, 1))))


FUNCTIONS = {
    "σ": lambda z: 1 / (1 + np.exp(-z)),
    "tanh": np.tanh,
    "exp": np.exp,
    "max": max,
    "logσ": lambda z: -np.log1p(np.exp(-z)),
    "inf": np.inf,
}


@pytest.mark.parametrize("name", SHOWN)
@pytest.mark.parametrize(("sequence", "step"), [(0, 0), (0, 5), (1, 3)])
def test_the_page_shows_every_cells_own_equations(browser, cells, name, sequence, step):
    if browser.current_url != cells.path.as_uri():
        show(browser, cells.path)
    traced, unit = cells.traces[name], 1
    go(browser, layer=SHOWN.index(name), sequence=sequence, unit=unit, step=step)
    assert browser.get_log("browser") == []
    shown, filled = {}, set()
    for line in browser.find_elements("css selector", "#equations tr"):
        texts = [cell.text.replace("−", "-") for cell in line.find_elements("tag name", "td")]
        symbol = texts[0].split()[0][0]
        shown[symbol] = float(texts[3].removeprefix("≈ "))
        assert shown[symbol] == pytest.approx(getattr(traced, symbol)[sequence, step, unit], abs=1e-4)
        if texts[2]:
            expression = texts[2].removeprefix("= ").replace("·", "*").replace("∞", "inf").replace("log σ", "logσ")
            computed = eval(" ".join(expression.split()), {"__builtins__": {}}, FUNCTIONS)
            assert computed == pytest.approx(shown[symbol], abs=1e-3), texts
            filled.add(symbol)
    assert set(shown) == set(traced.symbols)
    # An own cell says nothing of its equations; what is made of all units has no numbers.
    assert filled == {"own": set(), "projected": set("ifgoc"), "normalised": {"c"}}.get(name, set(traced.symbols))


def test_a_unit_that_a_projection_leaves_out_is_shown_without_h(browser, cells):
    show(browser, cells.path)
    go(browser, layer=SHOWN.index("projected"), unit=3, step=4)
    symbols = [row.text[0] for row in browser.find_elements("css selector", "#equations tr")]
    assert sorted(symbols) == sorted("figoc")
    assert evaluate(browser, "series('h').every(value => value === null)")
    assert browser.get_log("browser") == []


def test_every_state_has_its_gradient(browser, cells):
    show(browser, cells.path)
    for number, (name, flow) in enumerate(cells.flows.items()):
        go(browser, layer=number)
        curves = {curve["symbol"]: curve["mean"] for curve in evaluate(browser, "layer().gradient.states")}
        assert set(curves) == set(cells.traces[name].states)
        for state, mean in curves.items():
            np.testing.assert_allclose(np.array(mean, float), flow.mean(state), rtol=1e-3)
    page = json.loads(evaluate(browser, "JSON.stringify(PAGE)"), parse_constant=lambda constant: pytest.fail(constant))
    assert [layer["title"] for layer in page["layers"]] == ["GRU", "GRU", "LSTM", "LSTM", "sLSTM", "MinimalGatedUnit"]


def test_a_skipped_step_is_said_to_be_skipped(page):
    go(page, layer=0, sequence=3, step=9)
    assert "skip step 9" in page.find_element("id", "equations").text
    go(page, step=7)
    assert "forget gate" in page.find_element("id", "equations").text
