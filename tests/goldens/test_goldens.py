"""Models saved by an earlier version load, with every option, and give the recorded numbers."""

import json
import zipfile

import keras
import numpy as np
import pytest
from packaging.version import Version

from tests.conformance.test_configuration import assert_has_options
from tests.descriptors import LAYERS
from tests.goldens.regenerate import COMMAND, FOLDER, options_of

ROWS = pytest.mark.parametrize("row", LAYERS, ids=lambda row: row.name)


def options_in(path):
    """Return the names of the options of the last layer that the file holds."""
    with zipfile.ZipFile(path) as archive:
        return set(json.loads(archive.read("config.json"))["config"]["layers"][-1]["config"])


@ROWS
def test_a_saved_model_gives_the_recorded_numbers(row):
    recipe = f"If this change is wanted: {COMMAND}"
    written_by = json.loads((FOLDER / f"{row.name}.json").read_text())["keras"]
    if Version(written_by).release[:2] > Version(keras.__version__).release[:2]:
        pytest.skip(f"written by Keras {written_by}, whose files {keras.__version__} does not read")
    model = keras.saving.load_model(FOLDER / f"{row.name}.keras")
    recorded = np.load(FOLDER / f"{row.name}.npz")
    np.testing.assert_allclose(model.predict(recorded["x"], verbose=0), recorded["y"], atol=1e-6, err_msg=recipe)
    assert len(model.weights) == 3, recipe
    for weight in model.get_weights():
        np.testing.assert_array_equal(weight, np.linspace(-1, 1, weight.size).reshape(weight.shape).astype("float32"))
    layer = model.layers[-1]
    assert type(layer) is row.public_class, recipe
    saved = options_in(FOLDER / f"{row.name}.keras")
    added_since = {name: default for name, default in row.build().get_config().items() if name not in saved}
    assert_has_options(layer, {**options_of(row), **added_since})


@ROWS
def test_the_recipe_is_recorded(row):
    facts = json.loads((FOLDER / f"{row.name}.json").read_text())
    assert facts["command"] == COMMAND
    assert {"seed", "keras", "keras_lstm_custom", "backend"} <= set(facts)
