"""Many packages compiled and run at once."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_lstm_custom.export.model.samples import predictions
from keras_lstm_custom.export.plain_c.build import emitter_for, packed
from keras_lstm_custom.export.plain_c.compare import Comparison
from keras_lstm_custom.export.plain_c.package import Package
from keras_lstm_custom.export.plain_c.writing.files import files
from tests.export.plain_c.zoo import inputs_for

#: Of tests that compile packages.
MARKS = [pytest.mark.tensorflow, pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")]
WARNINGS = ["-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror"]
SANITIZED = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]


def package_of(model: keras.Model, name: str, share: float, quantize: str | None = None, rows: int = 3) -> Package:
    """Return a package whose test expects the model's own numbers within a share of the largest (in float, or of 1)."""
    x = inputs_for(model, rows)
    expected = predictions(model, x)
    emitter = emitter_for(name, model, quantize, x)
    made = packed(name, model, emitter, x, expected, quantize)
    made.tolerance = [
        share * max(1.0 if quantize is None else 0.0, float(np.abs(y).max())) * emitter.scale_of(port.value)
        for y, port in zip(expected, made.outputs, strict=True)
    ]
    return made


def error_on(
    model: keras.Model, x: list[np.ndarray], calibration: list[np.ndarray], folder: Path, quantize: str = "int16x8"
) -> float:
    """Return how far a package is off on rows that it was not calibrated with, as a share of the outputs' deviation."""
    expected = predictions(model, x)
    made = packed("net", model, emitter_for("net", model, quantize, calibration), x, expected, quantize)
    return max(error.relative_to_signal for error in Comparison(x, expected, 1.0, folder).errors(made))


def failures(packages: Mapping[str, Package], folder: Path, *flags: str, compiler: str = "gcc") -> list[str]:
    """Compile all packages as one program, run each one's own test, and return which fail."""
    calls = []
    for key, each in packages.items():
        for file, text in files(each).items():
            if file.endswith((".c", ".h")):
                (folder / file).write_text(text)
        (folder / f"{each.name}_test.c").rename(folder / f"{each.name}_test.inc")
        (folder / f"{each.name}_only.c").write_text(
            f'int {each.name}_main(void);\n#define main {each.name}_main\n#include "{each.name}_test.inc"\n'
        )
        calls.append((each.name, key))
    lines = ["#include <stdio.h>", *(f"int {name}_main(void);" for name, _ in calls), "int main(void) {"]
    lines += [f'  if ({name}_main() != 0) puts("{key}");' for name, key in calls]
    (folder / "all.c").write_text("\n".join([*lines, "  return 0;", "}", ""]))
    sources = ["all.c", *(f"{name}{end}.c" for name, _ in calls for end in ("", "_only"))]
    call = [compiler, *flags, *WARNINGS, *sources, "-lm", "-o", "all"]
    done = subprocess.run(call, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[:3000]
    ran = subprocess.run(["./all"], cwd=folder, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[:3000]
    return ran.stdout.splitlines()
