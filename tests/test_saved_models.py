"""The shipped artefacts still load, and still give the numbers recorded beside them."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from packaging.version import Version

from keras_lstm_custom.installation import OLDEST

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "saved_models" / "jfk_temperature"
RECORDS = {path.name.removesuffix(".json"): json.loads(path.read_text("utf-8")) for path in FOLDER.glob("*.json")}
#: Outputs are of order 1 and come from float32 sums over 48 steps; another processor adds in another order.
ROUNDING = 1e-4


@pytest.fixture(scope="module")
def publish():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "examples"))
        import publish_forecast

        yield publish_forecast


@pytest.fixture(scope="module")
def samples(publish):
    return publish.held_out(RECORDS["lstm.keras"]["plan"])


def artefacts():
    """Only a `.keras` file runs on every backend."""
    return [pytest.param(n, marks=() if n.endswith(".keras") else pytest.mark.tensorflow) for n in sorted(RECORDS)]


def test_every_artefact_has_a_record_and_no_file_is_unaccounted_for(publish):
    assert set(RECORDS) == set(publish.ARTEFACTS)
    told = {file for record in RECORDS.values() for file in record["sha256"]}
    told |= {f"{name}.{kind}" for name in RECORDS for kind in ("json", "npz")}
    assert {path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*") if path.is_file()} == told


def test_all_together_are_small():
    assert sum(path.stat().st_size for path in (ROOT / "saved_models").rglob("*") if path.is_file()) < 5_000_000


@pytest.mark.parametrize("name", sorted(RECORDS))
def test_files_are_those_that_were_measured(publish, name):
    record = RECORDS[name]
    assert {file: publish.sha256(FOLDER / file) for file in record["sha256"]} == record["sha256"]
    assert publish.sha256(ROOT / record["data"]["file"]) == record["data"]["sha256"]
    assert (ROOT / record["script"]).is_file()
    assert record["command"]
    assert {"python", "keras", "tensorflow", "keras_lstm_custom"} <= set(record["versions"])


@pytest.mark.parametrize("name", [name for name in sorted(RECORDS) if name.endswith(".keras")])
def test_keras_files_are_written_by_the_oldest_version(name):
    """What a newer Keras writes, an older one may not read."""
    with zipfile.ZipFile(FOLDER / name) as archive:
        written_by = json.loads(archive.read("metadata.json"))["keras_version"]
    assert Version(written_by).release[:2] == OLDEST["keras"]
    assert RECORDS[name]["versions"]["written_by_keras"] == written_by


@pytest.mark.parametrize("name", artefacts())
def test_stored_input_gives_the_stored_output(publish, name):
    with np.load(FOLDER / f"{name}.npz") as stored:
        outputs = publish.ARTEFACTS[name](FOLDER / name, stored["x"])
        assert np.std(stored["y"]) > 0.05  # not a trivial output
        np.testing.assert_allclose(outputs, stored["y"], rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("name", artefacts())
def test_errors_on_the_held_out_weather_are_those_recorded(publish, samples, name):
    record = RECORDS[name]
    outputs = publish.ARTEFACTS[name](FOLDER / name, samples.test.x)
    assert publish.held_out_errors(samples, outputs) == pytest.approx(record["errors"], rel=1e-4)
    assert record["errors"]["rmse"] < record["seasonal_naive_errors"]["rmse"]
    assert record["max_difference_to_keras_file"] < ROUNDING * record["scaler"]["std"]["temperature"]
