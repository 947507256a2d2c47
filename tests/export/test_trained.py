"""Integer files of trained models on data that they were not trained on: the shipped forecasts of JFK's temperature."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest

from tests.export.interpreters import LITERT, MICRO, run
from tests.export.test_quantized import quantized

pytestmark = pytest.mark.tensorflow

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "saved_models" / "jfk_temperature"
CALIBRATION = 200  #: windows of the training data
EVERY = 8  #: of the held-out windows, which overlap by 47 of 48 hours


@pytest.fixture(scope="module")
def samples():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "examples"))
        import publish_forecast

        yield publish_forecast.held_out(json.loads((FOLDER / "lstm.keras.json").read_text("utf-8"))["plan"])


@pytest.mark.parametrize("network", ["lstm", "vanilla_rnn"])
def test_the_forecasts_error_stays(network, samples):
    model = keras.models.load_model(FOLDER / f"{network}.keras")
    x, y = samples.test.x[::EVERY], samples.test.y[::EVERY]
    mae = np.abs(model.predict(x, verbose=0) - y).mean()
    calibration = [samples.train.x[:: len(samples.train.x) // CALIBRATION]]
    for scheme, runtimes, change in (("int8", (LITERT, MICRO), 0.02), ("int16x8", (MICRO,), 0.005)):
        content = quantized(model, calibration, scheme)
        for runtime in runtimes:
            (got,) = run(content, [x], runtime)
            became = np.abs(got - y).mean()
            print(network, scheme, runtime, f"MAE {mae:.5f} became {became:.5f}, {became / mae - 1:+.2%}")
            assert abs(became / mae - 1) < change
