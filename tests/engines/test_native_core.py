"""The C++ core alone: every instruction set of this processor against the equations in double precision."""

from __future__ import annotations

import platform
import re
import subprocess

import numpy as np
import pytest

from keras_lstm_custom.engines.native import build
from tests.engines import activations
from tests.engines.minimax import expm1_coefficients

pytestmark = pytest.mark.skipif(
    build.compiler() is None or platform.system() != "Linux", reason="needs a C++ compiler under Linux"
)

SANITIZERS = ["-g", "-O1", "-fno-omit-frame-pointer", "-fno-sanitize-recover=all", "-DKLC_BASELINE_ONLY"]


def run(program, places):
    done = subprocess.run([program, str(places)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "baseline: worst relative error" in done.stdout


def test_every_instruction_set(tmp_path):
    run(build.link(["test_core", "dispatch"], tmp_path / "test_core"), places=3)


@pytest.mark.parametrize("sanitizer", ["address,undefined", "thread"])
def test_under_sanitizers(sanitizer, tmp_path):
    flags = [*SANITIZERS, f"-fsanitize={sanitizer}"]
    run(build.link(["test_core", "dispatch"], tmp_path / "test_core", (), flags, build.BASELINE), places=1)


@pytest.mark.parametrize("name", activations.SETS)
def test_activations_saturate_and_are_as_exact_as_documented(name, tmp_path):
    """A four-thousandth of float32, most where something happens."""
    done = activations.check(name, tmp_path, 99991, 499)
    if done.returncode == 77:
        pytest.skip(f"this processor has no {name}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "s (1 - s): " in done.stdout


def test_the_coefficients_are_those_of_least_error():
    coefficients, largest = expm1_coefficients()
    text = (build.SOURCE / "activations.h").read_text()
    there = re.search(r"kQ\[\] = \{(.*)\}", text).group(1).replace("f", "").split(",")
    np.testing.assert_array_equal(np.array(there, "float32"), coefficients.astype("float32"))
    assert f"{largest:.1e}".replace("e-08", "e-8") in text
