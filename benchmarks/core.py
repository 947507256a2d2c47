"""The native core alone, for who changes it: `python benchmarks/core.py [--seconds 1] [--cell lstm]`.

Without TensorFlow and threads, so that a change of one in a hundred shows, if the version before takes turns with it.
The constants of `engines/native/src` (tiles, panels at a time, prefetching, when to pack) were chosen with it.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from pathlib import Path

from keras_lstm_custom.engines.native import build


def main() -> None:
    """Build and run it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=1.0, help="for each cell and shape")
    parser.add_argument("--cell", help="one only, by its name in core.cc")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source = Path(__file__).with_suffix("").resolve()
        program = build.link([str(source), "dispatch"], Path(folder, "core"), (), ["-I", str(build.SOURCE)])
        cell = [arguments.cell] if arguments.cell else []
        subprocess.run([program, str(arguments.seconds), *cell], check=True)


if __name__ == "__main__":
    main()
