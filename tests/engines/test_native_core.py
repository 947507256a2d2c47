"""The C++ core alone: every instruction set of this processor against the equations in double precision."""

from __future__ import annotations

import platform
import subprocess

import pytest

from keras_lstm_custom.engines.native import build

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
