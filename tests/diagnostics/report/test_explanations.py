"""The prediction, and what made it."""

import re

import keras
import numpy as np
import pytest

from keras_lstm_custom import LSTM, attribute, report
from tests.diagnostics.report.pages import FEATURES, STEPS, UNITS, figure, go, show


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


def test_the_page_says_why_there_are_no_contributions(browser, small, tmp_path):
    show(browser, report(small.model, small.x, small.y, tmp_path / "page.html"))
    assert "The output has 2 numbers" in browser.find_element("id", "explained").text
    assert "target=" in browser.find_element("id", "explained").text
    assert "contribution" not in str(figure(browser, "time")[1])
