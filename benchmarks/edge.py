"""Plain C packages on emulated Cortex-M cores: bytes of code and weights, of RAM, and instructions; and their error.

    python benchmarks/edge.py
    python benchmarks/edge.py --graphs 100
    python benchmarks/edge.py --graphs 100 --variants

Needs arm-none-eabi-gcc and qemu-system-arm (Debian: gcc-arm-none-eabi, qemu-system-arm). Instructions are counted by
QEMU, they are not cycles. `text` is code and constants of NAME.o at -O2, `all in` the flash of a linked program that
calls it (integers through `NAME_run_q`) and prints nothing; RAM is the struct and the stack below the call. `--graphs`
compares random models (`tests/export/random_graphs.py`) with Keras on this computer instead: root mean squared error
over the deviation of the worst output, on rows that were not in the calibration; `--variants` takes other cells (GRU,
sLSTM, the LSTM's options) for theirs.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import keras
import numpy as np

from keras_lstm_custom import export
from keras_lstm_custom.errors import ExportError
from keras_lstm_custom.export.plain_c.build import BOUNDS
from tests.export.plain_c import arm
from tests.export.random_graphs import random_graph, samples_of

layers = keras.layers
MODELS = {
    "LSTM(24) + Dense(4), T=100, I=6": lambda: _model((100, 6), layers.LSTM(24), layers.Dense(4, "softmax")),
    "GRU(24) + Dense(4), T=100, I=6": lambda: _model((100, 6), layers.GRU(24), layers.Dense(4, "softmax")),
    "LSTM(64) + Dense(32), T=100, I=32": lambda: _model((100, 32), layers.LSTM(64), layers.Dense(32)),
    "4 x LSTM(32), T=100, I=32": lambda: _model(
        (100, 32), *(layers.LSTM(32, return_sequences=k < 3) for k in range(4)), layers.Dense(4)
    ),
}


def _model(shape: tuple[int, int], *parts: keras.Layer) -> keras.Model:
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input(shape), *parts])


def table(cores: list[str]) -> None:
    """Print a row for each model, kind of numbers and core."""
    print("| model | numbers | core | text | all in | RAM | million instructions | error |")
    print("|---|---|---|---|---|---|---|---|")
    for label, make in MODELS.items():
        model = make()
        for quantize in BOUNDS:
            with tempfile.TemporaryDirectory() as place:
                folder = Path(place) / "net"
                report = export.c(model, folder, quantize, samples_of(model, 48))
                end = "_q" if quantize == "int16x8" else ""
                for core in cores:
                    cost = arm.cost(folder, "net", core, f"net_run{end}(&m, tx0, y0)")
                    row = (label, quantize or "float32", core, f"{cost.text:,}", f"{cost.image:,}")
                    ram = f"{cost.struct + cost.stack:,}"
                    numbers = (f"{cost.instructions / 1e6:.2f}", f"{report.checks[0].relative_to_signal:.1e}")
                    print("|", " | ".join([*row, ram, *numbers]), "|", flush=True)


def _exported(model: keras.Model, folder: Path, kind: str | None, x: list[np.ndarray]) -> export.ExportReport:
    """Return the report of a package, and of one that is refused for its error that of the package in plain int8."""
    try:
        return export.c(model, folder, kind, x, verbose=0)
    except ExportError:
        return export.c(model, folder, kind, x, bound=np.inf, verbose=0)


def graphs(first: int, count: int, variants: bool) -> None:
    """Print the error of random graphs, and a summary."""
    found: dict[str | None, list[float]] = {kind: [] for kind in BOUNDS}
    refused = 0
    for seed in range(first, first + count):
        model = random_graph(seed, variants=variants)
        x = samples_of(model, 128)
        row = []
        for kind, errors in found.items():
            with tempfile.TemporaryDirectory() as place:
                try:
                    errors.append(_exported(model, Path(place) / "net", kind, x).checks[0].relative_to_signal)
                    row.append(f"{errors[-1]:.1e}")
                except Exception as error:
                    refused += 1
                    row.append(f"{type(error).__name__}: {str(error).splitlines()[0]}")
        print(seed, *row, flush=True)
    for kind, errors in found.items():
        beyond = sum(error > BOUNDS[kind] for error in errors)
        told = f"median {np.median(errors):.1e}, largest {max(errors):.1e}, above {BOUNDS[kind]:g}: {beyond}"
        print(f"{kind or 'float32'}: {len(errors)} graphs, {told}")
    print(f"refused: {refused}")


def main() -> None:
    """Print what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cores", nargs="+", default=list(arm.CORES), choices=list(arm.CORES))
    parser.add_argument("--graphs", type=int, default=0, help="how many random graphs to compare, instead of the table")
    parser.add_argument("--first", type=int, default=0, help="the first one's number")
    parser.add_argument("--variants", action="store_true", help="other cells in the random graphs")
    options = parser.parse_args()
    if options.graphs:
        graphs(options.first, options.graphs, options.variants)
    elif arm.missing():
        parser.exit(1, f"not installed: {arm.missing()}\n")
    else:
        table(options.cores)


if __name__ == "__main__":
    main()
