"""Builds the native engine: `python -m keras_lstm_custom.engines.native.build`.

Installing the package does the same (`setup.py`, which loads this file alone: it imports the errors and how to write,
and no more).

Needs a C++17 compiler (g++ or clang++, or the command in the variable CXX, which may cross-compile) and nothing else:
the few functions of TensorFlow's C API are declared in `src/tensorflow_c_api.h`, and found in the TensorFlow of the
process when the library is loaded. So one library serves every TensorFlow 2, and none is needed to build it.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from keras_lstm_custom.errors import EngineError
from keras_lstm_custom.writing import new_file, scratch


class System(NamedTuple):
    """How libraries are made on an operating system."""

    suffix: str
    framework: str  #: where TensorFlow's C API lives
    shared: list[str]
    named: str  #: what gives a library the name by which others ask for it
    threads: list[str]


#: By what the compiler calls them. Under macOS nothing has been run: a library for it was linked with zig, no more.
SYSTEMS = {
    "linux": System(".so", "libtensorflow_framework.so.2", ["-shared"], "-Wl,-soname,{}", ["-pthread"]),
    "darwin": System(".dylib", "libtensorflow_framework.2.dylib", ["-dynamiclib"], "-Wl,-install_name,@rpath/{}", []),
}
_SYSTEM_NAMES = {"linux": "linux", "darwin": "darwin", "macos": "darwin"}  #: how they begin in what a compiler is for
_OTHER_MACHINE_NAMES = {"arm64": "aarch64"}

SOURCE = Path(__file__).parent / "src"
_HERE = SYSTEMS.get(platform.system().lower(), SYSTEMS["linux"])
LIBRARY = Path(__file__).parent / f"libkeras_lstm_custom{_HERE.suffix}"

REMEDY = "`python -m keras_lstm_custom.engines.native.build`"  #: what builds it by hand

#: Names another compiler for the cores alone. They need no library of C++, so any for the same machine will do:
#: the wheels have them from g++, which they were measured with, and the rest from one that knows older systems.
CORE_CXX = "CORE_CXX"

FLAGS = [
    *("-std=c++17", "-O3", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra", "-Wno-psabi"),
    *("-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math"),
]

#: The last bytes of a library: the hash of the sources it was built from, and that of all bytes before these.
SEAL = "\nkeras_lstm_custom, built from {sources}, content {content}\n"

#: The instruction sets of each processor, by name, the best last; `dispatch.cc` chooses among them at run time.
BASELINE: dict[str, list[str]] = {"baseline": []}
INSTRUCTION_SETS: dict[str, Mapping[str, list[str]]] = {
    "x86_64": {
        **BASELINE,
        "avx2": ["-mavx2", "-mfma"],
        "avx512": ["-mavx512f", "-mavx512vl", "-mfma", "-mprefer-vector-width=512"],
    },
    "aarch64": {"neon": []},  # every one of them has it
}


class Compiler(NamedTuple):
    """A C++ compiler, and the kind of machine it compiles for, which may be another than this."""

    command: list[str]
    machine: str
    system: str


def compiler() -> Compiler | None:
    """Return the C++ compiler, or None if there is none. The variable CXX may hold options, too."""
    names = [os.environ["CXX"]] if os.environ.get("CXX") else ["g++", "clang++"]
    command = next((words for words in map(shlex.split, names) if words and shutil.which(words[0])), None)
    if command is None:
        return None
    told = subprocess.run([*command, "-dumpmachine"], capture_output=True, text=True, check=False)
    machine, *rest = told.stdout.strip().split("-")  # x86_64-linux-gnu, arm64-apple-darwin23.1.0
    system = next((system for name, system in _SYSTEM_NAMES.items() if any(part.startswith(name) for part in rest)), "")
    return Compiler(command, _OTHER_MACHINE_NAMES.get(machine, machine), system)


def build(library: Path = LIBRARY) -> Path:
    """Compile the library and return its path.

    Raises:
        EngineError: this is neither Linux nor macOS, there is no compiler, or it failed; the message has what it said.
    """
    names = [path.stem for path in _sources("*.cc") if path.stem != "core"]
    return link(names, library, shared=True, finish=seal)


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
    *,
    shared: bool = False,
) -> Path:
    """Compile these files and the core for each instruction set, and link them to `target`, as `finish` leaves it."""
    cxx = _compiler()
    system = SYSTEMS[cxx.system]
    built = INSTRUCTION_SETS.get(cxx.machine, BASELINE) if sets is None else sets
    cores = "-DKLC_CORES=" + "".join(f"CORE({name})" for name in reversed(list(built)))
    core_cxx = shlex.split(os.environ.get(CORE_CXX, "")) or cxx.command
    jobs = [(cxx.command, name, [cores]) for name in names]
    jobs += [(core_cxx, "core", [f"-DKLC_SET={name}", *more]) for name, more in built.items()]
    with scratch(EngineError) as folder, ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = [f"{folder}/{n}.o" for n in range(len(jobs))]
        flags = [*FLAGS, *compiling]
        commands = [
            [*command, *flags, *more, "-c", str(SOURCE / f"{name}.cc"), "-o", out]
            for (command, name, more), out in zip(jobs, objects, strict=True)
        ]
        if shared:
            # A library of TensorFlow's name, of functions that do nothing: ours then asks for the one that is loaded.
            stub, named = Path(folder, "stub.cc"), system.named.format(system.framework)
            stub.write_text("".join(f'extern "C" void {name}() {{}}\n' for name in _tensorflow_functions()))
            commands.append(
                [*cxx.command, *system.shared, "-fPIC", named, str(stub), "-o", f"{folder}/{system.framework}"]
            )
            linking = [*system.shared, f"{folder}/{system.framework}", *linking]
        list(pool.map(_call, commands))
        made = f"{folder}/{target.name}"
        _call([*cxx.command, *flags, *system.threads, *objects, *linking, "-o", made], folder)
        with new_file(target, EngineError) as new:  # in one go: nobody loads half a library
            new.write_bytes(finish(Path(made).read_bytes()))
            shutil.copymode(made, new)
    return target


def check_target(platform_tag: str) -> None:
    """Raise `EngineError` if a wheel for this platform would hold a library for another kind of machine."""
    machine = _compiler().machine
    names = {"x86_64": ("x86_64",), "aarch64": ("aarch64", "arm64")}
    wrong = [name for other, spelled in names.items() if other != machine for name in spelled]
    if machine in names and platform_tag.endswith(tuple(wrong)):
        raise EngineError(
            "The wheel would hold a library that its machines cannot load.",
            expected=f"a wheel for {machine}, which the compiler compiles for",
            received=platform_tag,
            remedy=f"Pass --plat-name, e.g. linux_{machine}, or set the variable CXX to another compiler.",
        )


def _compiler() -> Compiler:
    cxx = compiler()
    if cxx is None:
        raise EngineError(
            "The native engine cannot be built: there is no C++ compiler.",
            expected="g++ or clang++ on the PATH, or the variable CXX",
            received=f"CXX={os.environ['CXX']}" if os.environ.get("CXX") else "none",
            remedy="Install one (Debian: apt install g++), or go on without the engine.",
        )
    if cxx.system not in SYSTEMS:
        raise EngineError(
            "The native engine cannot be built here.",
            expected="a compiler for Linux or macOS, whose ways to share symbols with TensorFlow the library relies on",
            received=f"`{shlex.join(cxx.command)} -dumpmachine` says {cxx.machine or 'nothing'}, {platform.system()}",
            remedy="Go on without the engine: the others need no compiler.",
        )
    return cxx


def _tensorflow_functions() -> list[str]:
    """Return the functions of TensorFlow's C API that the operations use."""
    return re.findall(r"\b(TF_\w+)\(", (SOURCE / "tensorflow_c_api.h").read_text())


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
