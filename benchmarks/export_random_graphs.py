"""Random recurrent graphs, float, int8 and int16x8, on LiteRT and on the microcontroller runtime.

    python benchmarks/export_random_graphs.py --first 2000 --count 100
    python benchmarks/export_random_graphs.py --first 2000 --count 100 --untrained

Each error is the root mean squared difference to the Keras model on rows that were not in the calibration, as
a share of the standard deviation of that output of the model; the worst output of a graph counts. What the
generator (`tests/export/random_graphs.py`) chooses: normal input, and weights with noise added and a head
four times as large, so that sigmoid and softmax use their range as after training; with `--untrained` the weights
stay as Keras draws them.

The files are those that `export.tflite` writes: where eight bits, or sixteen, do not show an output, part of them is
int16 or float. Then int8 may err less than int16x8.

`floor` is what rounding the output to int8 costs by itself, whatever computes it: step / sqrt(12), the step
being 1/256 for sigmoid and softmax, 1/128 for tanh, and 1/255 of the model's own range otherwise. Where
that alone is above 3 %, the output hardly moves within its range, and eight bits cannot show it: these graphs
are counted apart.
"""

import argparse
import os
import sys
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import keras
import numpy as np

from keras_lstm_custom.export.convert import convert
from keras_lstm_custom.export.model.prepare import prepare
from tests.export.interpreters import LITERT, MICRO, run
from tests.export.random_graphs import random_graph, samples_of

CASES = {"float": (None, (LITERT, MICRO)), "int8": ("int8", (LITERT, MICRO)), "int16x8": ("int16x8", (MICRO,))}
COLUMNS = [(name, runtime) for name, (_, runtimes) in CASES.items() for runtime in runtimes]
STEPS = {"sigmoid": 1 / 256, "softmax": 1 / 256, "tanh": 1 / 128}
ACCEPTED, FLOOR = 0.06, 0.03


class Found(NamedTuple):
    """The errors of one graph, by kind of file and runtime: of its worst output, and which that is."""

    errors: dict[tuple[str, str], float]
    worst: str
    floor: float


def measure(model: keras.Model, calibration_rows: int, test_rows: int) -> Found:
    """Convert a model in each way, and compare."""
    samples = samples_of(model, calibration_rows + test_rows)
    calibration, test = [x[:calibration_rows] for x in samples], [x[calibration_rows:] for x in samples]
    reference = [np.asarray(y) for y in keras.tree.flatten(model(test))]
    prepared = prepare(model)
    each = {}
    for name, (quantize, runtimes) in CASES.items():
        content = convert(prepared, quantize, calibration).content
        for runtime in runtimes:
            pairs = zip(run(content, test, runtime), reference, strict=True)
            each[name, runtime] = [float(np.sqrt(np.mean((got - y) ** 2)) / y.std()) for got, y in pairs]
    worst = int(np.argmax(np.maximum(each["int8", LITERT], each["int8", MICRO])))
    activation = _activation(model, worst)
    y = reference[worst]
    step = STEPS.get(activation, (max(y.max(), 0) - min(y.min(), 0)) / 255)
    told = f"output {worst + 1} of {len(reference)}, {activation}"
    return Found({key: max(values) for key, values in each.items()}, told, float(step / 12**0.5 / y.std()))


def _activation(model: keras.Model, output: int) -> str:
    name = model.output_names[output]
    layer = next((layer for layer in model.layers if layer.name == name), None)
    return layer.activation.__name__ if isinstance(layer, keras.layers.Dense) else type(layer).__name__


def summary(table: list[Found]) -> None:
    """Print medians, the largest, and how many are above what is accepted."""
    for key in COLUMNS:
        values = np.array([found.errors[key] for found in table])
        over = f", above {ACCEPTED:.0%}: {int((values > ACCEPTED).sum())}" if key[0] != "float" else ""
        print(f"{key[0]} on {key[1]}: median {np.median(values):.2e}, largest {values.max():.2e}{over}")
    ratios = np.array([found.errors["int8", MICRO] / found.errors["int16x8", MICRO] for found in table])
    print(f"int8 / int16x8 on micro: geometric mean {np.exp(np.log(ratios).mean()):.2f}, smallest {ratios.min():.2f}")


def main() -> None:
    """Print the table and its summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seeds", type=int, nargs="+", help="these instead")
    parser.add_argument("--untrained", action="store_true", help="leave the weights as the initializers draw them")
    parser.add_argument("--calibration", type=int, default=128, help="rows")
    parser.add_argument("--test", type=int, default=16, help="rows")
    options = parser.parse_args()
    print(f"{'seed':>5} {'T':>4} {'weights':>8}  " + "  ".join(f"{name} {runtime:>6}" for name, runtime in COLUMNS))
    table = []
    for seed in options.seeds or range(options.first, options.first + options.count):
        model = random_graph(seed, randomise=not options.untrained)
        found = measure(model, options.calibration, options.test)
        table.append(found)
        row = "  ".join(f"{found.errors[key]:>{len(key[0]) + 7}.2e}" for key in COLUMNS)
        beyond = max(found.errors[key] for key in COLUMNS) > ACCEPTED
        note = f"  {found.worst}, floor {found.floor:.1%}" if beyond or found.floor > FLOOR else ""
        print(f"{seed:>5} {model.inputs[0].shape[1]:>4} {model.count_params():>8}  {row}{note}", flush=True)
    shown = [found for found in table if found.floor <= FLOOR]
    print(f"\nAll {len(table)} graphs")
    summary(table)
    if 0 < len(shown) < len(table):
        print(f"\nThe {len(shown)} whose worst output int8 can show within {FLOOR:.0%}")
        summary(shown)


if __name__ == "__main__":
    main()
