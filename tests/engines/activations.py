"""Runs `test_activations.cc` for each instruction set: `python -m tests.engines.activations` over all of float32.

That takes two minutes of a core for each set; the tests run it over a part.
"""

from __future__ import annotations

import platform
import subprocess
import tempfile
from pathlib import Path

from keras_lstm_custom.engines.native import build

SETS = build.INSTRUCTION_SETS.get(platform.machine(), build.BASELINE)


def check(name: str, folder: Path, stride: int, inside: int) -> subprocess.CompletedProcess:
    """Check every `stride`-th float32, and every `inside`-th where something happens. It returns 77 without the set."""
    program = build.link(["test_activations"], folder / "test_activations", (), SETS[name], sets={})
    return subprocess.run([program, str(stride), str(inside)], capture_output=True, text=True, check=False)


if __name__ == "__main__":
    for each in SETS:
        with tempfile.TemporaryDirectory() as folder:
            done = check(each, Path(folder), 1, 1)
        print(f"{each}: {'as documented' if done.returncode == 0 else f'returns {done.returncode}'}\n{done.stdout}")
