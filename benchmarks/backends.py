"""Our layer against `keras.layers.LSTM` on JAX and torch: `KERAS_BACKEND=torch python benchmarks/backends.py`.

One LSTM layer that returns all steps, plain, with recurrent dropout, and with a left-padded mask. Training is
forward and backward of the sum of squares with respect to all weights; inference is one forward pass. On JAX both are
compiled by `jax.jit`; on torch the plain `torch.nn.LSTM` runs too. All that is compared takes turns in one run, so
that what slows the machine slows all; a figure is the median over the turns. Prints a table and writes the figures
(JSON, with versions and machine). `--quick`: fewer turns. On a GPU: `--shapes gpu --dtype mixed_bfloat16`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import harness
import keras
import numpy as np
from rich.console import Console
from rich.table import Table
from speed import MODES, QUICK

import keras_lstm_custom as klc
from keras_lstm_custom.engines import ENGINES

#: (batch, steps, features, units)
SHAPES = {
    "quick": QUICK,
    "small": [(1, 1, 32, 128), (1, 30, 8, 32), (4, 10, 8, 16), (32, 20, 4, 8), (8, 200, 16, 64)],
    "gpu": [(64, 512, units, units) for units in (128, 512, 1024)],
}
#: What a layer is asked for: name -> arguments of the layer, whether the first steps of each row are masked.
CASES = {"plain": ({}, False), "recurrent dropout": ({"recurrent_dropout": 0.2}, False), "left-padded mask": ({}, True)}


def layers(shape, case, dtype):
    """Return our layer on each engine that can serve, on "auto", and Keras' layer."""
    options, masked = CASES[case]
    options = {**options, "return_sequences": True, "dtype": dtype}
    found = {"keras": keras.layers.LSTM(shape[3], **options)}
    auto = klc.LSTM(shape[3], **options)
    for name in ENGINES:
        layer = klc.LSTM(shape[3], engine=name, **options)
        if layer.explain_engine(shape[:3], masked=masked, training=True).chosen and name != "reference":
            found[name] = layer
    return {**found, "auto": auto}


def jax_functions(shape, layers, mask, training):
    """Return a function without arguments for each layer, compiled when it is called first."""
    import jax

    x = jax.random.normal(jax.random.key(0), shape[:3], layers["keras"].compute_dtype)
    mask = None if mask is None else jax.numpy.asarray(mask)

    def function(layer):
        layer.build(shape[:3])
        weights = [v.value for v in layer.trainable_variables]
        others = [v.value for v in layer.non_trainable_variables]

        def forward(weights, others, x):
            return layer.stateless_call(weights, others, x, mask=mask, training=training)[0]

        def loss(*arguments):
            return jax.numpy.sum(forward(*arguments).astype("float32") ** 2)

        run = jax.jit(jax.value_and_grad(loss) if training else forward)
        return lambda: jax.block_until_ready(run(weights, others, x))

    return {name: function(layer) for name, layer in layers.items()}


def torch_functions(shape, layers, mask, training):
    """Return a function without arguments for each layer, and for the plain `torch.nn.LSTM`."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    tensor_type = getattr(torch, layers["keras"].compute_dtype)
    x = torch.randn(shape[:3], device=device, dtype=tensor_type)
    mask = None if mask is None else torch.as_tensor(mask, device=device)

    def function(forward, weights):
        def train():
            loss = (forward().float() ** 2).sum()
            torch.autograd.grad(loss, weights)
            wait()

        def infer():
            with torch.no_grad():
                forward()
            wait()

        return train if training else infer

    functions = {}
    for name, layer in layers.items():
        layer.build(shape[:3])
        weights = [v.value for v in layer.trainable_variables]
        functions[name] = function(lambda layer=layer: layer(x, mask=mask, training=training), weights)
    if mask is None and not getattr(layers["keras"], "recurrent_dropout", 0):
        plain = torch.nn.LSTM(shape[2], shape[3], batch_first=True, device=device, dtype=tensor_type)
        functions["torch.nn"] = function(lambda: plain(x)[0], list(plain.parameters()))
    return functions


FUNCTIONS = {"jax": jax_functions, "torch": torch_functions}


def measure(shape, case, training, dtype, rounds):
    """Return the times in milliseconds of each candidate, all taking turns, and the engine that "auto" took."""
    _, steps, _, _ = shape
    batch = shape[0]
    mask = np.arange(steps) >= np.arange(batch)[:, None] % max(1, steps // 2) if CASES[case][1] else None
    keras.utils.set_random_seed(0)
    candidates = layers(shape, case, dtype)
    functions = FUNCTIONS[keras.backend.backend()](shape, candidates, mask, training)
    for run in functions.values():
        for _ in range(4):
            run()
    times = {name: [] for name in functions}
    names = list(functions)
    for turn in range(rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:  # nobody always follows the same
            for _ in range(2):
                start = time.perf_counter()
                functions[name]()
                times[name].append(1e3 * (time.perf_counter() - start))
    return times, candidates["auto"].last_engine


def benchmark(options) -> list[dict]:
    """Measure all shapes and cases, print the table, and return its rows."""
    rows, table = [], Table(title="milliseconds: median (half the distance of the quartiles); x: Keras' time / ours")
    for heading in ("batch, steps, features, units", "case", "", "Keras", "candidates", "auto"):
        table.add_column(heading)
    shapes = [tuple(s) for name in options.shapes for s in SHAPES[name]]
    for shape in shapes:
        for case in CASES:
            for training in (True, False):
                if case == "recurrent dropout" and not training:
                    continue  # the same as the plain layer
                times, auto = measure(shape, case, training, options.dtype, options.rounds)
                median = {name: statistics.median(t) for name, t in times.items()}
                quartiles = {name: statistics.quantiles(t, n=4) for name, t in times.items()}
                row = {"shape": shape, "case": case, "training": training, "auto": auto}
                rows.append({**row, "median_ms": median, "quartiles_ms": quartiles})
                figure = {n: f"{m:.2f} ({(quartiles[n][2] - quartiles[n][0]) / 2:.2f})" for n, m in median.items()}
                others = [f"{n} {figure[n]} x{median['keras'] / median[n]:.2f}" for n in median if n != "keras"]
                cells = (", ".join(map(str, shape)), case, MODES[training], figure["keras"], "\n".join(others), auto)
                table.add_row(*cells)
                print(" | ".join(cells).replace("\n", "; "), flush=True)
    Console(width=150).print(table)
    for case in CASES:
        for training in (True, False):
            ratios = [
                r["median_ms"]["keras"] / r["median_ms"]["auto"]
                for r in rows
                if r["case"] == case and r["training"] == training
            ]
            if ratios:
                mean, worst = statistics.geometric_mean(ratios), min(ratios)
                print(f"{case}, {MODES[training]}: keras / auto: geometric mean {mean:.2f}, worst {worst:.2f}")
    return rows


def device() -> str:
    """Return what the backend computes on."""
    if keras.backend.backend() == "jax":
        import jax

        return jax.devices()[0].device_kind
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def main() -> None:
    """Read the command line, measure, and write what was measured."""
    if keras.backend.backend() not in FUNCTIONS:
        raise SystemExit("Set KERAS_BACKEND to jax or torch; TensorFlow is measured by benchmarks/speed.py.")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few turns")
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=["quick", "small"])
    parser.add_argument("--dtype", default="float32", help="dtype policy, such as mixed_bfloat16")
    parser.add_argument("--out", type=Path, help="where to write; else runs/backends-BACKEND-DTYPE.json")
    options = parser.parse_args()
    options.rounds = 5 if options.quick else 15
    environment = harness.environment()
    environment["machine"]["device"] = device()
    Console().print(harness.describe(environment), environment["machine"]["device"], sep="\n")
    rows = benchmark(options)
    out = options.out or Path(f"runs/backends-{keras.backend.backend()}-{options.dtype}.json")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({**environment, "dtype": options.dtype, "rounds": options.rounds, "rows": rows}))
    print(f"wrote {out}")


if __name__ == "__main__":
    main()
