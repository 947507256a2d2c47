"""A package compiled by this computer's compiler, and run on rows of input in a process of its own."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_lstm_custom.errors import ExportError
from keras_lstm_custom.export.plain_c.package import Package

LONGEST = 600  #: seconds that compiling, or running, may take

_DRIVER = """\
#include <stdio.h>
#include "{name}.h"
static struct {name} m;
{buffers}
int main(void) {{
  for (;;) {{
{reads}
    {name}_run{end}({arguments});
{writes}
  }}
}}
"""


def compiler() -> list[str] | None:
    """Return the command of a C compiler: that of the variable CC, or cc; None if there is none.

    Raises:
        ExportError: CC cannot be read as a command.
    """
    given = os.environ.get("CC", "")
    try:
        command = shlex.split(given) or ["cc"]
    except ValueError as error:
        raise ExportError(
            "The variable CC is no command.",
            expected="the command of a C compiler, such as cc",
            received=f"{given!r} ({error})",
            remedy="Set CC to such a command, or unset it.",
        ) from error
    return command if shutil.which(command[0]) else None


def driver(package: Package, kind: str = "float", end: str = "") -> str:
    """Return a program that reads rows of numbers and writes what the package makes of them."""
    xs = [(f"x{k}", port.size) for k, port in enumerate(package.inputs)]
    ys = [(f"y{k}", port.size) for k, port in enumerate(package.outputs)]
    return _DRIVER.format(
        name=package.name,
        end=end,
        buffers="\n".join(f"static {kind} {name}[{size}];" for name, size in (*xs, *ys)),
        reads="\n".join(
            f"    if (fread({name}, sizeof({kind}), {size}, stdin) != {size}) return 0;" for name, size in xs
        ),
        arguments=", ".join(["&m", *(name for name, _ in (*xs, *ys))]),
        writes="\n".join(f"    fwrite({name}, sizeof({kind}), {size}, stdout);" for name, size in ys),
    )


def build(command: Sequence[str], folder: Path, sources: Sequence[str], target: str, *flags: str) -> Path:
    """Compile sources in a folder to a program.

    Raises:
        ExportError: the compiler refuses them.
    """
    program = folder / target
    call = [*command, "-std=c99", *flags, *sources, "-lm", "-o", str(program)]
    done = _ended(call, cwd=folder)
    if done.returncode:
        raise _broken(f"{shlex.join(command)} refuses it: {done.stderr.decode(errors='replace').strip()[:800]}")
    return program


def run(
    package: Package, folder: Path, inputs: Sequence[np.ndarray], kind: str = "float", end: str = ""
) -> list[np.ndarray]:
    """Compile the package in `folder`, and return what it makes of rows of input, `(rows, size)` for each output.

    Raises:
        ExportError: it cannot be compiled, or does not run.
    """
    command = compiler()
    assert command is not None
    main = f"{package.name}_driver.c"  # a name that no file of the package has
    (folder / main).write_text(driver(package, kind, end))
    program = build(command, folder, [main, f"{package.name}.c"], "driver", "-O1")
    dtype = {"float": np.float32, "int16_t": np.int16}[kind]
    rows = [np.asarray(array, dtype).reshape(len(array), -1) for array in inputs]
    fed = np.concatenate(rows, axis=1).tobytes()
    done = _ended([str(program)], input=fed)
    sizes = [port.size for port in package.outputs]
    got = np.frombuffer(done.stdout, dtype)
    if done.returncode or got.size != len(rows[0]) * sum(sizes):
        raise _broken(f"it ended with {done.returncode} after {got.size} numbers")
    return np.split(got.reshape(len(rows[0]), -1), np.cumsum(sizes)[:-1], axis=1)


def passes(package: Package, folder: Path, texts: Mapping[str, str]) -> bool:
    """Return whether the package's own test, compiled in `folder`, ends with 0."""
    command = compiler()
    assert command is not None
    for name, text in texts.items():
        (folder / name).write_text(text)
    program = build(command, folder, [f"{package.name}.c", f"{package.name}_test.c"], "own_test", "-O1")
    return _ended([str(program)]).returncode == 0


def _ended(call: Sequence[str], **options: Any) -> subprocess.CompletedProcess:
    """Run a program to its end."""
    try:
        return subprocess.run(call, capture_output=True, timeout=LONGEST, check=False, **options)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _broken(f"{call[0]}: {error}") from error


def _broken(received: str) -> ExportError:
    return ExportError(
        "The package does not run on this computer, so it was not kept.",
        expected="C that compiles and runs",
        received=received,
        remedy="Please report this, with the model's configuration.",
    )
