"""What CONTRIBUTING.md says of adding a cell is done, word for word, to a copy of the project, and leads to a cell."""

import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: "New file" or "At the end of", the path, and the code.
STEPS = re.compile(r"(New file|At the end of)\s+`([^`]+)`[^`]*?:\n\n   ```python\n(.*?)   ```", re.DOTALL)
TESTS = ["tests/test_descriptors.py", "tests/cells/test_cells.py", "tests/layers/test_oracle.py"]
FASTEST = """
from keras_lstm_custom import Leaky
layer = Leaky(5, leak=0.25)
layer(__import__("numpy").zeros((3, 4, 2), "float32"), training=True)
assert layer.last_engine == "derived", layer.last_engine
"""


@pytest.mark.tensorflow
def test_adding_a_cell(tmp_path):
    for folder in ("keras_lstm_custom", "tests"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    steps = STEPS.findall((ROOT / "CONTRIBUTING.md").read_text())
    assert len(steps) == 6
    for where, name, code in steps:
        path = tmp_path / name
        assert path.exists() == (where == "At the end of")
        with path.open("a") as file:
            file.write("\n\n" * path.exists() + textwrap.dedent(code))
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    for command in (
        ["-m", "pytest", "-q", "-p", "no:cacheprovider", *TESTS, "-k", "Leaky or every_public"],
        ["-c", FASTEST],
    ):
        done = subprocess.run([sys.executable, *command], cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert not [line for line in done.stdout.splitlines() if "no tests ran" in line]
