"""A browser, and the pages that most tests look at."""

import shutil
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from keras_lstm_custom import LSTM, VanillaRNN, attribute, gradient_flow, report, trace
from tests.diagnostics.report.pages import FEATURES, SEQUENCES, STEPS, UNITS, randomise, show


@pytest.fixture(scope="package")
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


@pytest.fixture(scope="package")
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


@pytest.fixture
def page(browser, case):
    show(browser, case.path)
    return browser


@pytest.fixture
def small(rng):
    model = keras.Sequential([keras.Input((STEPS, FEATURES)), LSTM(UNITS, name="lstm"), keras.layers.Dense(2)])
    model.compile("adam", "mse")
    return SimpleNamespace(model=model, x=rng.normal(size=(3, STEPS, FEATURES)), y=np.zeros((3, 2)))
