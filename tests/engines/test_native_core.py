"""The C++ core alone: every instruction set of this processor against the equations in double precision."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from keras_lstm_custom.engines.native import build
from keras_lstm_custom.errors import EngineError
from tests.engines.minimax import expm1_coefficients

pytestmark = pytest.mark.skipif(
    build.compiler() is None or platform.system() != "Linux", reason="needs a C++ compiler under Linux"
)

MACHINE = platform.machine()
HERE = build.INSTRUCTION_SETS.get(MACHINE, build.BASELINE)
SANITIZERS = ["-g", "-O1", "-fno-omit-frame-pointer", "-fno-sanitize-recover=all"]


def run(command, *arguments, core):
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{core}: worst relative error" in done.stdout
    return done.stdout


def test_every_instruction_set(tmp_path):
    told = run([build.link(["test_core", "dispatch"], tmp_path / "test_core")], "3", "2", core=next(iter(HERE)))
    needed = {"avx2": {"avx2", "fma"}, "avx512": {"avx512f", "avx512vl"}}
    flags = set(Path("/proc/cpuinfo").read_text().split())
    assert re.findall(r"(\w+): worst", told) == [name for name in HERE if needed.get(name, set()) <= flags]


@pytest.mark.parametrize("sanitizer", ["address,undefined", "thread"])
def test_under_sanitizers(sanitizer, tmp_path):
    flags = [*SANITIZERS, f"-fsanitize={sanitizer}"]
    run(
        [build.link(["test_core", "dispatch"], tmp_path / "test_core", (), flags, build.BASELINE)],
        "1",
        "4",
        core="baseline",
    )


@pytest.fixture
def emulated(monkeypatch):
    """Compile for ARM64, and return what runs the programs here."""
    needed = {"aarch64-linux-gnu-g++": "g++-aarch64-linux-gnu", "qemu-aarch64": "qemu-user"}
    missing = [package for command, package in needed.items() if shutil.which(command) is None]
    if missing:
        pytest.skip(f"needs what Debian has in {' and '.join(missing)}")
    monkeypatch.setenv("CXX", "aarch64-linux-gnu-g++")
    return ["qemu-aarch64"]


def test_neon_in_an_emulator(emulated, tmp_path):
    """The core and the activations of ARM64: the same tests, and bounds, as where they run at full speed."""
    program = build.link(["test_core", "dispatch"], tmp_path / "test_core", ["-static"])
    run([*emulated, program], "1", "3", core="neon")
    program = build.link(["test_activations"], tmp_path / "test_activations", ["-static"], sets={})
    done = subprocess.run([*emulated, program, "99991", "499"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", HERE)
def test_activations_saturate_and_are_as_exact_as_documented(name, tmp_path):
    """A four-thousandth of float32, most where something happens; all of it, in ten minutes: `test_activations 1`."""
    program = build.link(["test_activations"], tmp_path / "test_activations", (), HERE[name], sets={})
    done = subprocess.run([program, "99991", "499"], capture_output=True, text=True, check=False)
    if done.returncode == 77:
        pytest.skip(f"this processor has no {name}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "s (1 - s): " in done.stdout


@pytest.fixture
def recorded(monkeypatch, tmp_path):
    """A compiler that writes down what it is asked: `recorded(target)` is called with what it says it compiles for."""

    def compiler(target):
        script = tmp_path / "c++"
        script.write_text(
            f'#!/bin/sh\n[ "$2" = -dumpmachine ] && echo {target} && exit\necho "$@" >> {tmp_path}/asked\n'
            'while [ $# -gt 0 ]; do [ "$1" = -o ] && echo made > "$2"; shift; done\n'
        )
        script.chmod(0o755)
        monkeypatch.setenv("CXX", f"{script} -option")
        return lambda: (tmp_path / "asked").read_text().splitlines()

    return compiler


def test_macos_is_asked_for_a_library_of_its_kind(recorded, tmp_path):
    asked = recorded("arm64-apple-darwin23.1.0")
    build.build(tmp_path / "library.dylib")
    *compiled, linked = asked()
    (stub,) = (line for line in compiled if " -c " not in line)
    assert "-dynamiclib" in stub
    assert "-install_name,@rpath/libtensorflow_framework.2.dylib" in stub
    assert [line.split("-DKLC_SET=")[1].split()[0] for line in compiled if "-DKLC_SET" in line] == ["neon"]
    assert all("-DKLC_CORES=CORE(neon)" in line for line in compiled if "dispatch.cc" in line)
    assert "-dynamiclib" in linked
    assert "libtensorflow_framework.2.dylib" in linked
    assert "-option" in linked
    assert "-pthread" not in linked
    assert (tmp_path / "library.dylib").read_bytes().startswith(b"made\n\nkeras_lstm_custom, built from ")


def test_an_operating_system_that_is_not_known_is_refused(recorded, tmp_path):
    recorded("x86_64-w64-mingw32")
    with pytest.raises(EngineError, match="a compiler for Linux or macOS"):
        build.build(tmp_path / "library.dll")
    assert not (tmp_path / "library.dll").exists()


def test_the_coefficients_are_those_of_least_error():
    coefficients, largest = expm1_coefficients()
    text = (build.SOURCE / "activations.h").read_text()
    there = re.search(r"kQ\[\] = \{(.*)\}", text).group(1).replace("f", "").split(",")
    np.testing.assert_array_equal(np.array(there, "float32"), coefficients.astype("float32"))
    assert f"{largest:.1e}".replace("e-08", "e-8") in text
