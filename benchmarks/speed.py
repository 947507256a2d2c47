"""How fast each engine is, against Keras and torch: `python benchmarks/speed.py [--quick] [--out runs/speed]`.

Training is one forward and backward pass of the sum of squares of all outputs, for the gradients of all weights;
inference is one forward pass. All that is compared takes turns in one run, so that what slows the machine slows
all; a figure is the median over the turns. torch runs in a process of its own, so that its threads disturb nobody.
Prints a table and writes the figures (JSON, with versions and machine) and a picture. `--quick` takes below 3 minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

#: (batch, steps, features, units)
QUICK = [(1, 100, 32, 128), (32, 100, 32, 128), (64, 100, 64, 256), (128, 50, 128, 512), (32, 500, 16, 64)]
FULL = [
    *QUICK,
    *[(1, 1, 32, 128), (1, 1000, 8, 32), (8, 200, 16, 64), (16, 4096, 4, 16), (32, 1, 64, 256)],
    *[(256, 30, 32, 64), (4, 100, 64, 1024), (100, 28, 28, 100)],
]
NAMES = {True: "training", False: "inference"}
RATIOS = [("keras", "native"), ("keras", "portable"), ("torch", "native")]
KEYS = ["keras", "keras XLA", "portable", "native", "torch"]

TORCH = """
import json, sys, time, torch
torch.set_num_threads(int(sys.argv[1]))
for line in sys.stdin:
    (b, t, i, u), training, n = json.loads(line)
    torch.manual_seed(0)
    m, x, times = torch.nn.LSTM(i, u, batch_first=True), torch.randn(b, t, i), []
    for k in range(n + 1):
        start = time.perf_counter()
        if training:
            m.zero_grad(); y, _ = m(x); (y * y).sum().backward()
        else:
            with torch.inference_mode(): m(x)
        if k: times.append(time.perf_counter() - start)
    print(json.dumps(times), flush=True)
"""


class Torch:
    """torch.nn.LSTM in a process of its own; not there if torch is not installed."""

    def __init__(self, threads: int):
        import importlib.util

        self.process = None
        if importlib.util.find_spec("torch"):
            variables = {**os.environ, "OMP_WAIT_POLICY": "passive"}
            command = [sys.executable, "-c", TORCH, str(threads)]
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=variables
            )

    def times(self, shape, training, n):
        self.process.stdin.write(json.dumps([shape, training, n]) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


def candidates(shape, training):
    """Return a function without arguments for each layer that can run the shape, compiled and ready."""
    import keras
    import tensorflow as tf

    import keras_lstm_custom as klc

    batch, steps, features, units = shape
    keras.utils.set_random_seed(0)
    x = tf.random.normal((batch, steps, features))
    layers = {"keras": keras.layers.LSTM(units, return_sequences=True)}
    layers["keras XLA"] = layers["keras"]
    for engine in ("portable", "native"):
        layer = klc.LSTM(units, return_sequences=True, engine=engine)
        if layer.explain_engine(shape[:3]).answers[engine].ok:
            layers[engine] = layer
    functions = {}
    for name, layer in layers.items():
        if not layer.built:
            layer.build((batch, steps, features))
        # The batch is unknown to the graph, as it is in `fit`.
        signature = [tf.TensorSpec((None, steps, features))]

        def run(x, layer=layer):
            if not training:
                return layer(x, training=False)
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(layer(x, training=True) ** 2)
            return tape.gradient(loss, [w.value for w in layer.weights])

        compiled = tf.function(run, input_signature=signature, jit_compile=name == "keras XLA", autograph=False)
        functions[name] = lambda compiled=compiled: compiled(x)
    return functions


def measure(shape, training, rounds, torch):
    """Return the times in milliseconds of each candidate, all taking turns."""
    functions = candidates(shape, training)
    for run in functions.values():
        run(), run()
    times = {name: [] for name in functions}
    for _ in range(rounds):
        for name, run in functions.items():
            for _ in range(2):
                start = time.perf_counter()
                run()
                times[name].append(1e3 * (time.perf_counter() - start))
        if torch.process:
            times.setdefault("torch", []).extend(1e3 * t for t in torch.times(shape, training, 2))
    return times


def peak_gflops() -> float:
    """Return what a large product of this TensorFlow reaches."""
    import tensorflow as tf

    a = tf.random.normal((1536, 1536))
    tf.matmul(a, a)
    best = 1e9
    for _ in range(8):
        start = time.perf_counter()
        tf.matmul(a, a)
        best = min(best, time.perf_counter() - start)
    return 2 * 1536**3 / best / 1e9


def ratio(row, a, b):
    """Return how many times as fast as `a` the candidate `b` is; None if one was not measured."""
    median = row["median_ms"]
    return median[a] / median[b] if a in median and b in median else None


def cells(row) -> list[str]:
    """Return one row of the table."""
    figures = []
    for name in KEYS:
        low, _, high = row["quartiles_ms"].get(name, (0, 0, 0))
        figures.append(f"{row['median_ms'][name]:.2f} ({(high - low) / 2:.2f})" if name in row["median_ms"] else "-")
    ratios = [ratio(row, a, b) for a, b in RATIOS]
    names = [", ".join(map(str, row["shape"])), NAMES[row["training"]]]
    return [*names, *figures, f"{row['limit_ms']:.2f}", *("-" if r is None else f"{r:.2f}" for r in ratios)]


def benchmark(shapes, rounds) -> dict:
    """Measure all shapes, print the table and return everything."""
    import keras
    import tensorflow as tf
    from rich.console import Console
    from rich.table import Table

    threads = len(os.sched_getaffinity(0))
    torch, peak, rows = Torch(threads), peak_gflops(), []
    title = f"milliseconds: median (half the distance of the quartiles); limit: the products at {peak:.0f} GFLOP/s"
    table = Table(title=title)
    for heading in ["batch, steps, features, units", "", *KEYS, "limit", *(f"{a} / {b}" for a, b in RATIOS)]:
        table.add_column(heading, justify="right")
    for shape in shapes:
        for training in (True, False):
            times = measure(shape, training, rounds, torch)
            b, t, i, u = shape
            row = {
                "shape": shape,
                "training": training,
                "median_ms": {name: statistics.median(t) for name, t in times.items()},
                "quartiles_ms": {name: statistics.quantiles(t, n=4) for name, t in times.items()},
                "limit_ms": (3 if training else 1) * 2 * b * t * (i + u) * 4 * u / peak / 1e6,
            }
            rows.append(row)
            table.add_row(*cells(row))
            print(*cells(row), sep=" | ", file=sys.stderr, flush=True)
    Console(width=190).print(table)
    for training in (True, False):
        for a, b in RATIOS:
            ratios = [r for r in (ratio(row, a, b) for row in rows if row["training"] == training) if r]
            if ratios:
                mean, worst = statistics.geometric_mean(ratios), min(ratios)
                print(f"{NAMES[training]}: {a} / {b}: geometric mean {mean:.2f}, worst {worst:.2f}")
    versions = {"python": platform.python_version(), "tensorflow": tf.__version__, "keras": keras.__version__}
    machine = {"processor": _processor(), "threads": threads}
    return {"versions": versions, "machine": machine, "peak_gflops": peak, "rounds": rounds, "rows": rows}


def _processor() -> str:
    names = [
        line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    ]
    return names[0] if names else platform.machine()


def picture(result: dict, path: Path) -> None:
    """Draw how many times faster than Keras each candidate is, one group of bars for each shape."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 1, figsize=(10, 7), sharex=True, layout="constrained")
    names = [n for n in KEYS[1:] if any(n in r["median_ms"] for r in result["rows"])]
    colours = dict(zip(KEYS[1:], ["#b8b8b8", "#e8a33d", "#2f6db3", "#7a9e7e"], strict=True))
    for axis, training in zip(axes, (True, False), strict=True):
        rows = [r for r in result["rows"] if r["training"] == training]
        for k, name in enumerate(names):
            places = [n + (k - (len(names) - 1) / 2) * 0.8 / len(names) for n in range(len(rows))]
            values = [r["median_ms"]["keras"] / r["median_ms"].get(name, float("nan")) for r in rows]
            heights = [v - 1 for v in values]  # from the line of Keras up, or down
            axis.bar(places, heights, 0.8 / len(names), bottom=1, label=name, color=colours[name])
            for place, value in zip(places, values, strict=True):
                above = not value < 1
                axis.annotate(
                    f"{value:.1f}" if value == value else "",
                    (place, value if value == value else 1),
                    (0, 2 if above else -2),
                    textcoords="offset points",
                    ha="center",
                    va="bottom" if above else "top",
                    fontsize=7,
                )
        axis.axhline(1, color="black", linewidth=0.8)
        axis.set_yscale("log")
        axis.set_yticks([0.25, 0.5, 1, 2, 4, 8, 16], ["¼", "½", "1", "2", "4", "8", "16"])
        axis.minorticks_off()
        axis.margins(y=0.12)
        axis.set_ylabel("times as fast as keras.layers.LSTM")
        axis.set_title("training (forward and backward)" if training else "inference")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].legend(frameon=False, ncols=len(names))
    axes[1].set_xticks(range(len(rows)), ["{} x {}\n{} → {}".format(*r["shape"]) for r in rows], fontsize=8)
    axes[1].set_xlabel("batch x steps, features → units")
    figure.suptitle(f"{result['machine']['processor']}, {result['machine']['threads']} threads")
    figure.savefig(path, dpi=130)


def main() -> None:
    """Read the command line, measure, and write what was measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="five shapes, few turns")
    parser.add_argument("--out", type=Path, default=Path("runs/speed"), help="where to write .json and .png")
    options = parser.parse_args()
    result = benchmark(QUICK if options.quick else FULL, rounds=4 if options.quick else 9)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.with_suffix(".json").write_text(json.dumps(result, indent=1))
    picture(result, options.out.with_suffix(".png"))
    print(f"wrote {options.out}.json and {options.out}.png")


if __name__ == "__main__":
    main()
