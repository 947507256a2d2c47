"""Many packages compiled and run at once."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

import keras
import numpy as np

from keras_lstm_custom.export.model.samples import predictions
from keras_lstm_custom.export.plain_c import package
from keras_lstm_custom.export.plain_c.export import read
from keras_lstm_custom.export.plain_c.emit_float import FloatEmitter
from tests.export.plain_c.zoo import inputs_for, randomised

WARNINGS = ["-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror"]
SANITIZED = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]


def float_package(model: keras.Model, name: str, tolerance: float, rows: int = 3, **options) -> package.Package:
    """Return a package whose test expects the model's own numbers."""
    x = inputs_for(model, rows)
    expected = predictions(model, x)
    emitter = FloatEmitter(name, read(model), len(model.inputs), **options)
    return made(model, name, emitter, x, expected, [tolerance * max(1.0, float(np.abs(y).max())) for y in expected])


def made(model, name, emitter, x, expected, tolerance) -> package.Package:
    inputs = {value.index: value for value in emitter.schedule.values if value.kind == "input"}
    return package.Package(
        name=name,
        emitter=emitter,
        inputs=[package.Port("x", inputs[k]) for k in range(len(model.inputs))],
        outputs=[package.Port("y", value) for value in emitter.schedule.outputs],
        about=["A test."],
        rows=[np.asarray(array).reshape(len(array), -1) for array in x],
        expected=[np.asarray(array).reshape(len(array), -1) for array in expected],
        tolerance=tolerance,
    )


def failures(packages: Mapping[str, package.Package], folder: Path, *flags: str, compiler: str = "gcc") -> list[str]:
    """Compile all packages as one program, run each one's own test, and return which fail."""
    calls = []
    for key, each in packages.items():
        for file, text in package.files(each).items():
            if file.endswith((".c", ".h")):
                (folder / file).write_text(text)
        (folder / f"{each.name}_test.c").rename(folder / f"{each.name}_test.inc")
        (folder / f"{each.name}_only.c").write_text(
            f'int {each.name}_main(void);\n#define main {each.name}_main\n#include "{each.name}_test.inc"\n'
        )
        calls.append((each.name, key))
    lines = [f"int {name}_main(void);" for name, _ in calls]
    lines += ["#include <stdio.h>", "int main(void) {"]
    lines += [f'  if ({name}_main() != 0) puts("{key}");' for name, key in calls]
    (folder / "all.c").write_text("\n".join([*lines, "  return 0;", "}", ""]))
    sources = ["all.c", *(f"{name}{end}.c" for name, _ in calls for end in ("", "_only"))]
    done = subprocess.run(
        [compiler, *flags, *WARNINGS, *sources, "-lm", "-o", "all"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[:3000]
    ran = subprocess.run(["./all"], cwd=folder, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[:3000]
    return ran.stdout.splitlines()


__all__ = ["SANITIZED", "failures", "float_package", "made", "randomised"]
