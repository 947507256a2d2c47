"""What is written: the files, the report, and the command of the shell."""

from __future__ import annotations

import json

import numpy as np
from typer.testing import CliRunner

from keras_lstm_custom import export
from keras_lstm_custom.commands import app
from tests.export.plain_c.building import MARKS
from tests.export.plain_c.zoo import inputs_for, small

pytestmark = MARKS


def test_the_report_and_the_files(tmp_path):
    model = small()
    report = export.c(model, tmp_path / "gesture", calibration=inputs_for(model, 8)[0])
    made = {path.name for path in (tmp_path / "gesture").iterdir()}
    assert made == {"gesture.h", "gesture.c", "gesture_test.c", "Makefile", "CMakeLists.txt", "keras_lstm_custom.json"}
    assert report.ok
    assert report.check("host C").max_error < 1e-6
    assert report.bytes == 4 * model.count_params()
    assert report.arena_bytes == 4 * (8 + 16)  # h and c, and the gates of one step; no sequence
    assert any("gesture_reset" in note for note in report.notes)
    assert json.loads((tmp_path / "gesture" / "keras_lstm_custom.json").read_text())["quantize"] is None


def test_without_a_compiler_the_report_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("CC", "no-such-compiler")
    report = export.c(small(), tmp_path / "net")
    assert (tmp_path / "net" / "net.c").exists()
    assert not report.ok
    assert any("no C compiler" in note for note in report.notes)


def test_the_command(tmp_path):
    small().save(tmp_path / "model.keras")
    np.save(tmp_path / "x.npy", inputs_for(small(), 24)[0])
    arguments = ["c", "model.keras", "out", "--quantize", "int16x8", "--calibration", "x.npy", "--name", "gesture"]
    arguments = [str(tmp_path / a) if a in ("model.keras", "out", "x.npy") else a for a in arguments]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "gesture_run_q" in (tmp_path / "out" / "gesture.h").read_text()


def test_a_bound_of_numpy_is_one_and_a_driver_is_a_name(tmp_path):
    report = export.c(small(), tmp_path / "driver", bound=np.float32(1e-3))
    assert report.ok
    assert type(report.bound) is float
    assert (tmp_path / "driver" / "driver_test.c").exists()
