"""The test that a package brings along: it passes what is right, and sees what is wrong."""

from __future__ import annotations

import re
import subprocess
import sys

import numpy as np
import pytest

from keras_lstm_custom import export
from keras_lstm_custom.export.model.calibration import held_back
from keras_lstm_custom.export.model.samples import predictions
from keras_lstm_custom.export.plain_c import host
from tests.export.plain_c.building import MARKS, failures, package_of
from tests.export.plain_c.zoo import inputs_for, small

pytestmark = MARKS


@pytest.mark.parametrize("quantize", [None, "int8"])
def test_a_package_passes_its_test_however_its_error_is_spread(quantize, tmp_path, monkeypatch):
    """One value in a thousand is wrong by a tenth: a small error of the whole, and more than a test may let pass."""
    model, x = small(), inputs_for(small(), 48)
    rows = held_back(x)[1] if quantize else [array[:32] for array in x]
    expected = [np.array(y) for y in predictions(model, rows)]
    for y in expected:
        y[0, 0] += 0.7 * np.abs(y).max()
    monkeypatch.setattr(sys.modules[export.c.__module__], "predictions", lambda *_: expected)
    report = export.c(model, tmp_path / "net", quantize, x, bound=1.0)
    assert report.ok


def test_the_test_of_int8_sees_what_its_error_would_hide(tmp_path):
    """It expects what this computer made of it, not what the model gives within 6 %."""
    model = small()
    export.c(model, tmp_path / "net", "int8", inputs_for(model, 48))
    text = (tmp_path / "net" / "net.c").read_text()
    (bias,) = re.findall(r"static const float c\d+\[2\] = \{([^}]*)\}", text)[:1]
    shifted = ", ".join(f"{float(number.strip().rstrip('f')) + 0.01:.9g}f" for number in bias.split(","))
    for name, body in (("right", text), ("wrong", text.replace(bias, shifted))):
        (tmp_path / "net" / "net.c").write_text(body)
        host.build(["gcc"], tmp_path / "net", ["net.c", "net_test.c"], name, "-O1")
    ends = [subprocess.run([tmp_path / "net" / name], check=False).returncode for name in ("right", "wrong")]
    assert ends == [0, 1]


def test_the_test_of_a_package_sees_the_recurrence(tmp_path):
    """With all recurrent weights at zero it fails."""
    model = small()
    kernel = model.layers[0].cell.recurrent_kernel
    before = np.asarray(kernel)
    kernel.assign(0 * before)
    wrong = package_of(model, "net", 1e-5)
    kernel.assign(before)
    right = package_of(model, "net", 1e-5)
    wrong.expected = right.expected
    assert failures({"right": right}, tmp_path, "-std=c99", "-O0") == []
    assert failures({"wrong": wrong}, tmp_path, "-std=c99", "-O0") == ["wrong"]
