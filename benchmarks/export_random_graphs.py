"""Random recurrent graphs, float, int8 and int16x8, on LiteRT and on the microcontroller runtime.

    python benchmarks/export_random_graphs.py --count 100

Each error is the root mean squared difference to the Keras model on 8 rows that were not in the
calibration (128 rows), as a share of the standard deviation of the model's output; the worst output counts.
"""

import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import keras
import numpy as np

from keras_lstm_custom.export.convert import convert
from keras_lstm_custom.export.prepare import prepare
from tests.export.interpreters import LITERT, MICRO, run
from tests.export.random_graphs import random_graph, samples_of

CASES = {"float": (None, (LITERT, MICRO)), "int8": ("int8", (LITERT, MICRO)), "int16x8": ("int16x8", (MICRO,))}
CALIBRATION, TEST = 128, 8
COLUMNS = [(name, runtime) for name, (_, runtimes) in CASES.items() for runtime in runtimes]


def errors(model: keras.Model) -> dict[tuple[str, str], float]:
    """Return the worst output's error for each kind of file and runtime."""
    samples = samples_of(model, CALIBRATION + TEST)
    calibration, test = [x[:CALIBRATION] for x in samples], [x[CALIBRATION:] for x in samples]
    outputs = model(test)
    reference = [np.asarray(y) for y in (outputs if isinstance(outputs, (list, tuple)) else [outputs])]
    prepared = prepare(model)
    found = {}
    for name, (quantize, runtimes) in CASES.items():
        content, _ = convert(prepared, quantize, calibration)
        for runtime in runtimes:
            pairs = zip(run(content, test, runtime), reference, strict=True)
            found[name, runtime] = max(float(np.sqrt(np.mean((got - y) ** 2)) / y.std()) for got, y in pairs)
    return found


def main() -> None:
    """Print the table and its summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--first", type=int, default=0)
    options = parser.parse_args()
    print(f"{'seed':>4} {'T':>4} {'weights':>8}  " + "  ".join(f"{name} {runtime:>6}" for name, runtime in COLUMNS))
    table = []
    for seed in range(options.first, options.first + options.count):
        model = random_graph(seed)
        found = errors(model)
        table.append(found)
        row = "  ".join(f"{found[key]:>{len(key[0]) + 7}.2e}" for key in COLUMNS)
        print(f"{seed:>4} {model.inputs[0].shape[1]:>4} {model.count_params():>8}  {row}", flush=True)
    print()
    for key in COLUMNS:
        values = np.array([found[key] for found in table])
        over = f", above 6 %: {int((values > 0.06).sum())}" if key[0] != "float" else ""
        print(f"{key[0]} on {key[1]}: median {np.median(values):.2e}, largest {values.max():.2e}{over}")
    ratios = np.array([found["int8", MICRO] / found["int16x8", MICRO] for found in table])
    print(f"int8 / int16x8 on micro: geometric mean {np.exp(np.log(ratios).mean()):.2f}, smallest {ratios.min():.2f}")


if __name__ == "__main__":
    main()
