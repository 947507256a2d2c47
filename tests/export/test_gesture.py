"""The example from accelerometer to microcontroller, with few epochs."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.tensorflow

EXAMPLE = Path(__file__).parents[2] / "examples" / "gesture_to_microcontroller.py"
pytest.importorskip("aeon", reason="aeon, which ships the data, is not installed")


def test_runs_and_its_numbers_hold(tmp_path, monkeypatch, capsys):
    spec = importlib.util.spec_from_file_location("gesture_to_microcontroller", EXAMPLE)
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    results = example.run(tmp_path, units=8, epochs=6)
    assert json.loads((tmp_path / "results.json").read_text()) == results
    rows = {(row["way"], row["numbers"]): row for row in results["rows"]}
    assert set(rows) == {(way, kind) for way in example.WAYS for kind in example.KINDS}
    for kind in example.KINDS:
        assert (tmp_path / "c" / kind / "gesture.c").is_file()
        assert (tmp_path / "tflm" / kind / "main.cc").is_file()
        for way in (example.PLAIN_C, example.REFERENCE):
            counts = results["confusions"][f"{way}, {kind}"]
            assert np.sum(counts) == results["test_rows"] == 40
            assert np.trace(counts) >= 39  # at most one of 40 recordings changes its class
        reference, cmsis_nn = (rows[way, kind] for way in (example.REFERENCE, example.CMSIS_NN))
        assert "rmse" not in cmsis_nn
        assert reference["ram"] <= cmsis_nn["ram"]
        assert rows[example.PLAIN_C, kind]["ram"] < reference["ram"]
    for way in (example.PLAIN_C, example.REFERENCE):
        errors, flash = ([rows[way, kind][what] for kind in example.KINDS] for what in ("rmse", "flash"))
        assert errors[0] < 1e-6 < min(errors[1:])
        assert max(errors[1:]) < 0.01
        assert max(flash[1:]) < flash[0]
    if results["emulated"]:
        assert all(("instructions" in row) == (row["way"] == example.PLAIN_C) for row in results["rows"])
    monkeypatch.setattr(example.arm, "missing", lambda: "qemu-system-arm")
    example.show({**results, "emulated": False})
    assert "no emulator is installed (qemu-system-arm" in capsys.readouterr().out
    example.show(results)
