"""Builds the native engine: `python -m keras_lstm_custom.engines.native.build`.

Installing the package does the same (`setup.py`, which loads this file alone: it imports the errors and how to write,
and no more).

Needs a C++17 compiler (g++ or clang++, or what the variable CXX names) and nothing else: the few functions of
TensorFlow's C API are declared in `src/tensorflow_c_api.h`, and found in the TensorFlow of the process when the
library is loaded. So one library serves every TensorFlow 2, and TensorFlow is not needed to build it.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from keras_lstm_custom.errors import EngineError
from keras_lstm_custom.writing import new_file, scratch

SOURCE = Path(__file__).parent / "src"
LIBRARY = Path(__file__).parent / "libkeras_lstm_custom.so"

REMEDY = "`python -m keras_lstm_custom.engines.native.build`"  #: what builds it by hand

FLAGS = [
    *("-std=c++17", "-O3", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra", "-Wno-psabi"),
    *("-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math"),
]

FRAMEWORK = "libtensorflow_framework.so.2"  #: where TensorFlow's C API lives, on Linux

#: The last bytes of a library: the hash of the sources it was built from, and that of all bytes before these.
SEAL = "\nkeras_lstm_custom, built from {sources}, content {content}\n"

#: The instruction sets of each processor, by name; `dispatch.cc` chooses among them at run time.
BASELINE: dict[str, list[str]] = {"baseline": []}
INSTRUCTION_SETS = {
    "x86_64": {
        **BASELINE,
        "avx2": ["-mavx2", "-mfma"],
        "avx512": ["-mavx512f", "-mavx512vl", "-mfma", "-mprefer-vector-width=512"],
    }
}


def compiler() -> str | None:
    """Return the C++ compiler, or None if there is none."""
    names = [os.environ["CXX"]] if os.environ.get("CXX") else ["g++", "clang++"]
    return next((path for path in map(shutil.which, names) if path), None)


def build(library: Path = LIBRARY) -> Path:
    """Compile the library and return its path.

    Raises:
        EngineError: this is not Linux, there is no compiler, or it failed; the message has what it said.
    """
    if platform.system() != "Linux":
        raise EngineError(
            "The native engine cannot be built here.",
            expected="Linux, whose way to share symbols with TensorFlow the library relies on",
            received=platform.system(),
            remedy="Go on without the engine: the others need no compiler.",
        )
    names = [path.stem for path in _sources("*.cc") if path.stem != "core"]
    return link(names, library, ["-shared", f"-Wl,--no-as-needed,{FRAMEWORK}"], finish=seal)


def seal(content: bytes) -> bytes:
    """Return a library with its seal, by which `library` knows a whole one of these sources before it is loaded."""
    return content + SEAL.format(sources=sources(), content=hashlib.sha256(content).hexdigest()).encode()


def sources() -> str:
    """Return a hash of the sources."""
    files = [*_sources("*.cc"), *_sources("*.h")]
    return hashlib.sha256(b"".join(path.name.encode() + path.read_bytes() for path in files)).hexdigest()


def _sources(pattern: str) -> list[Path]:
    return sorted(path for path in SOURCE.glob(pattern) if not path.name.startswith("test_"))


def link(
    names: Sequence[str],
    target: Path,
    linking: Sequence[str] = (),
    compiling: Sequence[str] = (),
    sets: Mapping[str, list[str]] | None = None,
    finish: Callable[[bytes], bytes] = lambda content: content,
) -> Path:
    """Compile these files and the core for each instruction set, and link them to `target`, as `finish` leaves it."""
    sets = INSTRUCTION_SETS.get(platform.machine(), BASELINE) if sets is None else sets
    jobs: list[tuple[str, list[str]]] = [(name, []) for name in names]
    jobs += [("core", [f"-DKLC_SET={name}", *more]) for name, more in sets.items()]
    cxx = compiler()
    if cxx is None:
        raise EngineError(
            "The native engine cannot be built: there is no C++ compiler.",
            expected="g++ or clang++ on the PATH, or the variable CXX",
            received=f"CXX={os.environ['CXX']}" if os.environ.get("CXX") else "none",
            remedy="Install one (Debian: apt install g++), or go on without the engine.",
        )
    with scratch(EngineError) as folder, ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = [f"{folder}/{n}.o" for n in range(len(jobs))]
        shared = [cxx, *FLAGS, *compiling]
        commands = [
            [*shared, *more, "-c", str(SOURCE / f"{name}.cc"), "-o", out]
            for (name, more), out in zip(jobs, objects, strict=True)
        ]
        # An empty library of that name: ours then asks for the one that TensorFlow has loaded.
        commands.append(
            [cxx, "-shared", f"-Wl,-soname,{FRAMEWORK}", "-x", "c++", os.devnull, "-o", f"{folder}/{FRAMEWORK}"]
        )
        list(pool.map(_call, commands))
        made = f"{folder}/{target.name}"
        _call([*shared, "-pthread", *objects, f"-L{folder}", *linking, "-o", made], folder)
        with new_file(target, EngineError) as new:  # in one go: nobody loads half a library
            new.write_bytes(finish(Path(made).read_bytes()))
            shutil.copymode(made, new)
    return target


def _call(command: Sequence[str], folder: Path | None = None) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    if done.returncode:
        raise EngineError(
            "The native engine cannot be built: the compiler failed.",
            expected="g++ 9 or later, or clang++ 10 or later",
            received=f"{' '.join(command)}\n{done.stderr.strip()}",
            remedy="Set the variable CXX to another compiler, or go on without the engine.",
        )


if __name__ == "__main__":
    print(f"built {build()}")
