"""What the tests of the report share: the sizes of their models, and how a page is shown and asked."""

import numpy as np

SEQUENCES, STEPS, FEATURES, UNITS = 5, 12, 3, 4


def randomise(model, seed=5):
    """Give every weight a random value, so that no gate looks like another."""
    rng = np.random.default_rng(seed)
    model.set_weights([rng.normal(0, 0.7, w.shape) for w in model.get_weights()])
    return model


def show(browser, path):
    """Open a page and wait until it is drawn."""
    from selenium.webdriver.support.ui import WebDriverWait

    browser.get_log("performance"), browser.get_log("browser")
    browser.get(path.as_uri())
    WebDriverWait(browser, 60).until(lambda b: b.execute_script("return document.body.dataset.ready"))


def evaluate(browser, script, *values):
    return browser.execute_script(f"return {script}", *values)


def go(page, **changes):
    """Change what is shown and wait until it is drawn."""
    page.execute_async_script("go(arguments[0]).then(arguments[1])", changes)


def figure(page, name):
    """Return the traces of a figure, and its layout."""
    return [evaluate(page, f"document.getElementById('{name}').{part}") for part in ("data", "layout")]
