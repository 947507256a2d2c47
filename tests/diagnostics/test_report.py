"""The one-page report: what it holds, what a browser shows of it, and what it refuses."""

import json
import re
import shutil
import sys
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from keras_lstm_custom import LSTM, VanillaRNN, attribute, gradient_flow, report, trace
from keras_lstm_custom.diagnostics.report_data import encode
from keras_lstm_custom.diagnostics.reporting import GENERATOR
from keras_lstm_custom.errors import ArgumentError, InputError
from tests.diagnostics.every_cell import CASES

SEQUENCES, STEPS, FEATURES, UNITS = 5, 12, 3, 4


def randomise(model, seed=5):
    """Give every weight a random value, so that no gate looks like another."""
    rng = np.random.default_rng(seed)
    model.set_weights([rng.normal(0, 0.7, w.shape) for w in model.get_weights()])
    return model


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    """A model of four recurrent layers, ours and Keras', its data, its trace, and its page."""
    inputs = keras.Input((STEPS, FEATURES))
    hidden = keras.layers.Masking()(inputs)
    hidden = keras.layers.LSTM(UNITS, return_sequences=True, name="keras_lstm")(hidden)
    hidden = keras.layers.Bidirectional(LSTM(6, return_sequences=True), name="both")(hidden)
    hidden = VanillaRNN(2, use_bias=False, name="vanilla")(hidden)
    model = randomise(keras.Model(inputs, keras.layers.Dense(1)(hidden), name="a <model> & its name"))
    model.compile("adam", "mse")
    rng = np.random.default_rng(2)
    x = rng.normal(size=(SEQUENCES, STEPS, FEATURES)).astype("float32")
    x[3, 8:] = 0
    y = rng.normal(size=(SEQUENCES, 1)).astype("float32")
    steps = [[f"{sequence}h{step}" for step in range(STEPS)] for sequence in range(SEQUENCES)]
    names = {"feature_names": ["heat", "<wind> & rain", "sun"], "step_names": steps}
    found = attribute(model, x)
    path = tmp_path_factory.mktemp("page") / "new folder" / "page.html"
    path = report(model, x, y, path, attribution=found, **names)
    traces, flows = trace(model, x), gradient_flow(model, x, y)
    return SimpleNamespace(model=model, x=x, y=y, path=path, traces=traces, flows=flows, found=found)


@pytest.fixture(scope="module")
def browser():
    """Chromium, in which whatever a page says or asks for is logged."""
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    driver = shutil.which("chromedriver")
    if not (chromium and driver):
        pytest.skip("no Chromium to open the page in: apt-get install chromium chromium-driver")
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    flags = "headless=new no-sandbox disable-gpu disable-dev-shm-usage disable-background-networking"
    for flag in (*flags.split(), "window-size=1240,1400"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    with webdriver.Chrome(options=options, service=webdriver.ChromeService(driver)) as opened:
        opened.set_script_timeout(60)
        yield opened


def show(browser, path):
    """Open a page and wait until it is drawn."""
    from selenium.webdriver.support.ui import WebDriverWait

    browser.get_log("performance"), browser.get_log("browser")
    browser.get(path.as_uri())
    WebDriverWait(browser, 60).until(lambda b: b.execute_script("return document.body.dataset.ready"))


def evaluate(browser, script, *values):
    return browser.execute_script(f"return {script}", *values)


@pytest.fixture
def page(browser, case):
    show(browser, case.path)
    return browser


def go(page, **changes):
    """Change what is shown and wait until it is drawn."""
    page.execute_async_script("go(arguments[0]).then(arguments[1])", changes)


# ---- what a browser shows ----


def test_page_loads_without_errors_and_without_a_network(page, case):
    assert page.get_log("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    asked = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
    assert case.path.as_uri() in asked
    assert "a <model> & its name" in page.find_element("tag name", "h1").text
    assert page.find_element("id", "time").find_elements("css selector", ".scatterlayer .trace")


def test_nothing_from_outside_could_be_loaded(page):
    script = """
        const done = arguments[0];
        fetch("https://example.org/").then(() => done("loaded"), error => done("refused: " + error.message));
    """
    assert page.execute_async_script(script).startswith("refused")
    assert any("Content Security Policy" in entry["message"] for entry in page.get_log("browser"))


def test_page_holds_the_traced_numbers(page, case):
    for number, (name, layer) in enumerate(case.traces.items()):
        assert evaluate(page, "PAGE.layers[arguments[0]].name", number) == name
        for symbol in ("x", *layer.symbols):
            expected = getattr(layer, symbol)
            spread = np.nanmax(expected, axis=(0, 1)) - np.nanmin(expected, axis=(0, 1))
            for sequence in (0, 3):
                go(page, layer=number, sequence=sequence)
                shown = np.array(evaluate(page, "allRows(arguments[0])", symbol), float).T
                # 16 bits over the range of each unit, rounded to the nearest: half of 1 / 65534 of it.
                bound = spread / 65534 / 2 + 1e-7 * np.abs(expected[sequence])
                assert (np.isnan(shown) == np.isnan(expected[sequence])).all()
                assert (np.nan_to_num(np.abs(shown - expected[sequence])) <= np.nan_to_num(bound)).all(), (name, symbol)


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


def test_controls_change_what_is_shown(page, case):
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.ui import Select

    def drawn():
        return evaluate(page, "document.getElementById('time').data.find(t => t.name.startsWith('c')).y")

    def write(control, text):
        page.find_element("id", control).send_keys(Keys.CONTROL + "a")
        page.find_element("id", control).send_keys(text)

    first = case.traces["keras_lstm"]
    np.testing.assert_allclose(drawn(), first.c[0, :, 0], atol=1e-3)
    write("sequence", "2")
    np.testing.assert_allclose(drawn(), first.c[2, :, 0], atol=1e-3)
    page.find_element("id", "unit").send_keys(Keys.ARROW_UP)
    np.testing.assert_allclose(drawn(), first.c[2, :, 1], atol=1e-3)

    before = page.find_element("id", "equations").text
    page.find_element("id", "step").send_keys(Keys.ARROW_RIGHT)
    assert page.find_element("id", "step-shown").text == f"{STEPS // 2 + 1} of 0…{STEPS - 1}: 2h{STEPS // 2 + 1}"
    assert page.find_element("id", "equations").text != before

    Select(page.find_element("id", "symbol")).select_by_value("o")
    heat = evaluate(page, "document.getElementById('units').data[0].z")
    np.testing.assert_allclose(np.array(heat, float).T, first.o[2], atol=1e-3)

    summary = page.find_element("id", "summary").text
    Select(page.find_element("id", "layer")).select_by_index(2)
    np.testing.assert_allclose(drawn(), list(case.traces.values())[2].c[2, :, 1], atol=1e-3)
    assert page.find_element("id", "summary").text != summary
    assert "reads the sequence from its end" in page.find_element("id", "layer-note").text

    write("unit", "99" + Keys.TAB)
    assert page.find_element("id", "unit").get_attribute("value") == "5", "a number too large becomes the largest"
    assert page.get_log("browser") == []


def test_a_click_goes_to_unit_and_step(page):
    from selenium.webdriver.common.action_chains import ActionChains

    go(page, layer=0, unit=0, step=0)
    area = page.find_element("css selector", "#units .nsewdrag")
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", area)
    size = area.size
    # The middle of the cell of unit 2 and step 9; offsets count from the middle of the area.
    to_right, down = ((9.5 / STEPS - 0.5) * size["width"], (2.5 / UNITS - 0.5) * size["height"])
    ActionChains(page).move_to_element_with_offset(area, int(to_right), int(down)).pause(0.2).click().perform()
    assert evaluate(page, "[state.unit, state.step]") == [2, 9]


def test_gradient_and_verdict_are_those_of_gradient_flow(page, case):
    for number, (name, flow) in enumerate(case.flows.items()):
        go(page, layer=number)
        assert page.find_element("id", "verdict").text == str(flow.verdict)
        curves = {c["symbol"]: c for c in evaluate(page, "layer().gradient.states")}
        assert set(curves) == ({"h", "c"} if flow.c is not None else {"h"}), name
        for symbol, curve in curves.items():
            np.testing.assert_allclose(np.array(curve["mean"], float), flow.mean(symbol), rtol=1e-3)


def test_layers_are_all_drawn(page, case):
    for number, layer in enumerate(case.traces.values()):
        go(page, layer=number)
        titles = evaluate(page, "Object.values(document.getElementById('time').layout).map(v => v.title?.text)")
        assert "input x" in titles
        assert ("gates" in titles) == (layer.kind == "lstm")
        assert evaluate(page, "document.getElementById('summary-plot').data.length") == (
            2 if layer.kind == "lstm" else 1
        )
    assert page.get_log("browser") == []


def test_fifty_sequences_of_five_hundred_steps_fit(browser, tmp_path, rng):
    model = keras.Sequential([keras.Input((500, 3)), LSTM(64, name="lstm"), keras.layers.Dense(1)])
    model.compile("adam", "mse")
    x = rng.normal(size=(50, 500, 3)).astype("float32")
    path = report(model, x, np.zeros((50, 1), "float32"), tmp_path / "large.html", attribution=False)
    assert path.stat().st_size < 25e6
    show(browser, path)
    go(browser, sequence=49, unit=63, step=499)
    traced = trace(model, x[49:], verbose=0)["lstm"]
    np.testing.assert_allclose(evaluate(browser, "series('h')"), traced.h[0, :, 63], atol=1e-4)
    np.testing.assert_allclose(evaluate(browser, "series('f')"), traced.f[0, :, 63], atol=1 / 254 / 2)
    assert "f ±0.00" in browser.find_element("id", "precision").text
    assert browser.get_log("browser") == []


# ---- the prediction, and what made it ----


def figure(page, name):
    """Return the traces of a figure, and its layout."""
    return [evaluate(page, f"document.getElementById('{name}').{part}") for part in ("data", "layout")]


def test_prediction_and_target_of_the_sequence_are_shown(page, case):
    predicted = np.asarray(case.model(case.x, training=False))
    for sequence in (0, 3):
        go(page, layer=0, sequence=sequence)
        shown = page.find_element("id", "outcome").text.replace("−", "-")
        prediction, target = re.search(r": (\S+), target: (\S+)", shown).groups()
        assert float(prediction) == pytest.approx(predicted[sequence, 0], rel=1e-3)
        assert float(target) == pytest.approx(case.y[sequence, 0], rel=1e-3)
        explained = page.find_element("id", "explained").text.replace("−", "-")
        total = float(re.search(r"it is (\S+)\.$", explained).group(1))
        assert total == pytest.approx(predicted[sequence, 0], rel=1e-3)


def test_an_output_for_each_step_is_shown_at_the_step(browser, tmp_path, rng):
    model = keras.Sequential(
        [keras.Input((STEPS, FEATURES)), LSTM(UNITS, return_sequences=True), keras.layers.Dense(1)]
    )
    x = rng.normal(size=(2, STEPS, FEATURES))
    show(browser, report(model, x, None, tmp_path / "page.html", target=3))
    go(browser, sequence=1, step=7)
    shown = re.search(r": (\S+) at step 7", browser.find_element("id", "outcome").text.replace("−", "-")).group(1)
    assert float(shown) == pytest.approx(model.predict(x, verbose=0)[1, 7, 0], rel=1e-3)
    assert "[3, 0] is" in browser.find_element("id", "explained").text


def test_contributions_are_under_the_input_by_feature(page, case):
    for layer in range(4):
        go(page, layer=layer, sequence=1)
        data, layout = figure(page, "time")
        assert layout["yaxis2"]["title"]["text"] == "contribution"
        bars = [drawn for drawn in data if drawn.get("yaxis") == "y2"]
        assert [drawn["name"] for drawn in bars] == ["heat", "<wind> & rain", "sun"]
        shown = np.array([drawn["y"] for drawn in bars], float).T
        spread = np.ptp(case.found.values, axis=(0, 1))
        assert (np.abs(shown - case.found.values[1]) <= spread / 65534 / 2 + 1e-9).all()
        inputs = [drawn.get("name") for drawn in data if drawn.get("yaxis") == "y"]
        assert ("heat" in inputs) == (layer == 0), "names are those of the model's input alone"


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


def test_tokens_have_their_words(browser, tmp_path):
    embedding = keras.layers.Embedding(9, 3, mask_zero=True)
    model = keras.Sequential([keras.Input((4,)), embedding, LSTM(UNITS), keras.layers.Dense(3, activation="softmax")])
    model.compile("adam", "sparse_categorical_crossentropy")
    ids, words = np.array([[1, 2, 3, 0], [4, 5, 0, 0]]), [["not", "bad", "<b>", ""], ["so", "so", "", ""]]
    path = report(model, ids, np.array([2, 0]), tmp_path / "page.html", target=1, step_names=words)
    show(browser, path)
    go(browser, step=2)
    assert browser.find_element("id", "step-shown").text == "2 of 0…3: <b>"
    assert "target: 2" in browser.find_element("id", "outcome").text
    (bars,) = [drawn for drawn in figure(browser, "time")[0] if drawn.get("yaxis") == "y2"]
    np.testing.assert_allclose(bars["y"][:3], attribute(model, ids, target=1).values[0, :3], atol=1e-5)
    assert bars["y"][3] is None
    assert browser.get_log("browser") == []


def test_on_a_phone_the_figures_have_the_width_and_nothing_sticks_out(browser, case):
    size = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        show(browser, case.path)
        assert evaluate(browser, "document.documentElement.scrollWidth") == 390
        for name in ("time", "units", "gradient"):
            width = evaluate(
                browser, "document.querySelector(arguments[0]).getBoundingClientRect().width", f"#{name} .nsewdrag"
            )
            assert width > 200, name
        legend = evaluate(browser, "document.querySelector('#time .legend').getBoundingClientRect()")
        assert 0 <= legend["left"] < legend["right"] <= 390
        heights = evaluate(browser, "[...document.querySelectorAll('#equations tr')].map(row => row.clientHeight)")
        assert max(heights) < 80
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


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


def test_the_page_says_why_there_are_no_contributions(browser, small, tmp_path):
    show(browser, report(small.model, small.x, small.y, tmp_path / "page.html"))
    assert "The output has 2 numbers" in browser.find_element("id", "explained").text
    assert "target=" in browser.find_element("id", "explained").text
    assert "contribution" not in str(figure(browser, "time")[1])


# ---- what the file holds ----


def test_the_output_of_a_layer_that_is_the_next_ones_input_is_stored_once(tmp_path, rng):
    layers = [LSTM(UNITS, return_sequences=True), VanillaRNN(2)]
    model = randomise(keras.Sequential([keras.Input((STEPS, FEATURES)), *layers]))
    path = report(model, rng.normal(size=(2, STEPS, FEATURES)), None, tmp_path / "page.html")
    data = re.search(r'id="page-data">(.*?)</script>', path.read_text(), re.DOTALL).group(1)
    first, second = json.loads(data)["layers"]
    assert second["arrays"]["x"]["blob"] == first["arrays"]["h"]["blob"]


def test_without_targets_the_page_says_so(browser, tmp_path, rng):
    model = keras.Sequential([keras.Input((STEPS, FEATURES)), LSTM(UNITS)])
    path = report(model, rng.normal(size=(2, STEPS, FEATURES)), None, tmp_path / "page.html")
    show(browser, path)
    assert "No targets were given" in browser.find_element("id", "verdict").text
    assert not browser.find_element("id", "gradient").is_displayed()
    assert browser.get_log("browser") == []


@pytest.mark.parametrize("bits", [8, 16])
def test_encoded_numbers_are_off_by_at_most_half_a_unit(bits, rng):
    values = rng.normal(size=(3, 7, 5)) * [1e-6, 1, 1e6, 0, 1]
    values[0, 2], values[:, :, 4] = np.nan, np.nan
    codes, low, unit = encode(values, bits)
    assert codes.dtype.itemsize * 8 == bits
    found = np.where(codes == 0, np.nan, low[:, None] + (codes.astype(float) - 1) * unit[:, None])
    found = np.moveaxis(found, 1, 2)
    assert (np.isnan(found) == np.isnan(values)).all()
    assert (np.nan_to_num(np.abs(found - values)) <= unit * 0.5000001).all()
    # The whole range of codes is in use, or precision would be given away.
    assert codes[:, 0].max() == 2**bits - 1
    assert codes[:, 0][codes[:, 0] > 0].min() == 1


# ---- what it refuses ----


@pytest.fixture
def small(rng):
    model = keras.Sequential([keras.Input((STEPS, FEATURES)), LSTM(UNITS, name="lstm"), keras.layers.Dense(2)])
    model.compile("adam", "mse")
    return SimpleNamespace(model=model, x=rng.normal(size=(3, STEPS, FEATURES)), y=np.zeros((3, 2)))


def test_only_a_page_of_ours_is_written_over(small, tmp_path):
    path = tmp_path / "page.html"
    path.write_text("somebody's work")
    with pytest.raises(ArgumentError, match=r"(?s)not a page of ours.*page\.html.*another file"):
        report(small.model, small.x, small.y, path)
    assert path.read_text() == "somebody's work"
    with pytest.raises(ArgumentError, match="a folder"):
        report(small.model, small.x, small.y, tmp_path)
    path.unlink()
    report(small.model, small.x, small.y, path)
    before = path.read_bytes()
    report(small.model, small.x + 1, small.y, path)
    assert GENERATOR in path.read_text()[:1000]
    assert path.read_bytes() != before
    assert [p.name for p in tmp_path.iterdir()] == ["page.html"]


def test_a_page_that_would_be_too_large_is_refused(small, tmp_path):
    with pytest.raises(ArgumentError, match=r"(?s)at most max_bytes = 1\.0 MB.*Pass fewer"):
        report(small.model, small.x, small.y, tmp_path / "page.html", max_bytes=1_000_000)
    assert not list(tmp_path.iterdir())


def test_names_and_attributions_that_do_not_fit_are_refused(small, tmp_path):
    for wrong, says in (
        ({"feature_names": ["a", "b"]}, "(?s)3 names.*2 names"),
        ({"step_names": ["a"] * 3}, f"(?s){STEPS} names.*3 names"),
        ({"step_names": [["a"] * STEPS] * 2}, "(?s)3 names.*2 names"),
        ({"target": 2}, "no value 2"),
        ({"attribution": attribute(small.model, small.x[:2], target=0)}, "(?s)3 rows.*2 rows"),
    ):
        with pytest.raises(ArgumentError, match=says):
            report(small.model, small.x, small.y, tmp_path / "page.html", **wrong)
    assert not list(tmp_path.iterdir())


def test_a_model_without_recurrent_layers_is_refused(tmp_path):
    model = keras.Sequential([keras.Input((STEPS, FEATURES)), keras.layers.Dense(2)])
    with pytest.raises(ArgumentError, match="no recurrent layer"):
        report(model, np.zeros((3, STEPS, FEATURES)), None, tmp_path / "page.html")


def test_input_that_is_not_finite_is_refused(small, tmp_path):
    small.x[1, 2, 0] = np.nan
    with pytest.raises(InputError, match=r"(?s)not finite.*\(1, 2, 0\)"):
        report(small.model, small.x, small.y, tmp_path / "page.html")


def test_a_model_that_has_diverged_is_refused(small, tmp_path):
    small.model.set_weights([np.full(w.shape, np.nan) for w in small.model.get_weights()])
    with pytest.raises(InputError, match=r"(?s)'lstm' itself computes.*lower learning rate"):
        report(small.model, small.x, None, tmp_path / "page.html")


def test_targets_of_another_number_are_refused(small, tmp_path):
    with pytest.raises(InputError, match=r"(?s)3 targets.*2 targets"):
        report(small.model, small.x, small.y[:2], tmp_path / "page.html")


def test_targets_of_another_shape_are_refused(small, tmp_path):
    with pytest.raises(InputError, match=r"(?s)targets do not fit.*\(3, 5\).*model.evaluate"):
        report(small.model, small.x, np.zeros((3, 5)), tmp_path / "page.html")
    assert not list(tmp_path.iterdir())


def test_missing_tools_are_named_with_the_command_that_installs_them(small, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    with pytest.raises(ImportError, match=r"\.\[report\]"):
        report(small.model, small.x, small.y, tmp_path / "page.html")
