"""The example from accelerometer to microcontroller, with few epochs."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.tensorflow

EXAMPLE = Path(__file__).parents[2] / "examples" / "gesture_to_microcontroller.py"
pytest.importorskip("aeon", reason="aeon, which ships the data, is not installed")


def test_runs_and_its_numbers_hold(tmp_path):
    spec = importlib.util.spec_from_file_location("gesture_to_microcontroller", EXAMPLE)
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    results = example.run(tmp_path, units=8, epochs=6)
    assert json.loads((tmp_path / "results.json").read_text()) == results
    kinds = results["kinds"]
    for kind in example.KINDS:
        assert (tmp_path / kind / "main.cc").is_file()
        assert np.sum(kinds[kind]["confusion"]) == results["test_rows"] == 40
        # At most one of 40 recordings changes its class.
        assert np.trace(kinds[kind]["confusion"]) >= 39
    assert kinds["float32"]["rmse"] < 1e-6 < kinds["int16x8"]["rmse"] < kinds["int8"]["rmse"]
    assert kinds["int8"]["flash_bytes"] < kinds["float32"]["flash_bytes"]
    example.show(results)
