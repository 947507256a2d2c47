"""What a browser shows of the page, and how one goes about in it."""

import json

import keras
import numpy as np
import pytest

from keras_lstm_custom import LSTM, report, trace
from tests.diagnostics.report.pages import FEATURES, STEPS, UNITS, evaluate, go, show


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


@pytest.mark.parametrize("width", [390, 1240])
def test_no_legend_covers_a_panel_or_another_legend(browser, tmp_path, rng, width):
    names = ["temperature of the outer wall", "pressure", "humidity of the air", "wind", "sun"]
    model = keras.Sequential([keras.Input((STEPS, 5)), LSTM(UNITS), keras.layers.Dense(1)])
    path = report(model, rng.normal(size=(2, STEPS, 5)), None, tmp_path / "page.html", feature_names=names)
    size = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 640}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        show(browser, path)
        boxes = "[...document.querySelectorAll(arguments[0])].map(e => e.getBoundingClientRect().toJSON())"
        panels = evaluate(browser, boxes, "#time .nsewdrag")
        legends = evaluate(browser, boxes, "#time [class^=legend] > .bg")
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert len(panels) == 6
    assert len(legends) == (5 if width == 390 else 6)  # on a phone that of the input tells of the contributions, too
    for k, a in enumerate(legends):
        for b in (*panels, *legends[:k]):
            beside = a["right"] <= b["left"] + 1 or b["right"] <= a["left"] + 1
            assert beside or a["bottom"] <= b["top"] + 1 or b["bottom"] <= a["top"] + 1, (a, b)


def test_without_targets_the_page_says_so(browser, tmp_path, rng):
    model = keras.Sequential([keras.Input((STEPS, FEATURES)), LSTM(UNITS)])
    path = report(model, rng.normal(size=(2, STEPS, FEATURES)), None, tmp_path / "page.html")
    show(browser, path)
    assert "No targets were given" in browser.find_element("id", "verdict").text
    assert not browser.find_element("id", "gradient").is_displayed()
    assert browser.get_log("browser") == []
