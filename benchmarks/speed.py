"""How fast training and inference are, against Keras, torch and JAX.

    python benchmarks/speed.py [--quick] [--cell GRU] [--out runs/speed]

One layer with `return_sequences`, float32: each engine of ours and `auto`, `keras.layers.LSTM` as a graph and compiled
by XLA, tf_keras, torch.nn.LSTM and a scan of JAX, what is not installed left out. Training is one forward and
backward pass of the sum of squares of all outputs, for the gradients of all weights; inference is one forward pass.
Then peak memory, each candidate in a process of its own, and whole models by `model.fit`; both of the LSTM only.

Prints tables, and writes the figures (JSON, with versions and machine) and a picture. `latency.py` has `predict`,
single sequences and single steps.
"""

from __future__ import annotations

import statistics
from concurrent.futures import ThreadPoolExecutor

import harness
import layers
import picture
import training
from rich.console import Console
from rich.table import Table

SHAPE = "batch, steps, features, units"
QUICK = [(1, 100, 32, 128), (32, 100, 32, 128), (64, 100, 64, 256), (128, 50, 128, 512), (32, 500, 16, 64)]
FULL = [
    *[(1, 1, 32, 128), (1, 100, 32, 128), (1, 1000, 8, 32), (4, 100, 64, 1024), (8, 200, 16, 64)],
    *[(16, 4096, 4, 16), (32, 1, 64, 256), (32, 100, 32, 128), (32, 500, 16, 64), (64, 100, 64, 256)],
    *[(100, 28, 28, 100), (128, 50, 128, 512), (256, 30, 32, 64)],
]
MEMORY_QUICK = [(64, 100, 64, 256)]
MEMORY = [(16, 4096, 4, 16), *MEMORY_QUICK, (128, 50, 128, 512)]
GATES = {"LSTM": 4, "GRU": 3}
MODES = {True: "training", False: "inference"}
NAMES = [name for names in layers.CANDIDATES.values() for name in names]
RATIOS = [("keras", "auto"), ("keras", "native"), ("keras", "portable"), ("keras XLA", "auto"), ("tf_keras", "auto")]
RATIOS += [("torch", "auto"), ("torch", "native"), ("jax", "auto")]


def measure_layers(shapes, rounds, console, cell="LSTM") -> tuple[list[dict], dict]:
    """Return one row for each shape and mode, and the GFLOP/s of products."""
    rows = []
    with harness.workers("layers", list(layers.CANDIDATES), console.print) as workers, harness.bar(console) as progress:
        step = progress.add_task("products", total=2 * len(shapes))
        peak = harness.peak_gflops(workers)
        limit = max(peak.values())
        for shape in shapes:
            for mode in MODES:
                progress.update(step, description=f"{label(shape)} {MODES[mode]}")
                done = harness.take_turns(
                    workers, rounds, lambda share: progress.advance(step, share), shape=shape, training=mode, cell=cell
                )
                gates = GATES[cell]
                flops = (3 if mode else 1) * 2 * shape[0] * shape[1] * (shape[2] + shape[3]) * gates * shape[3]
                rows.append({"shape": shape, "training": mode, "limit_ms": flops / limit / 1e6, "candidates": done})
    return rows, peak


def measure_memory(shapes, missing, console) -> list[dict]:
    """Return the peak memory of training, in MiB; two processes at a time, since nothing is timed."""
    jobs = [(f, name, shape) for shape in shapes for f, names in layers.CANDIDATES.items() for name in names]
    jobs = [job for job in jobs if job[1] not in missing]
    with harness.bar(console) as progress, ThreadPoolExecutor(2) as pool:
        step = progress.add_task("peak memory", total=len(jobs))

        def measure(job):
            found = harness.peak_memory("layers", *job[:2], shape=job[2], training=True)
            progress.advance(step)
            return found

        found = list(pool.map(measure, jobs))
    rows = [{"shape": shape, "MiB": {}} for shape in shapes]
    for (_, name, shape), mib in zip(jobs, found, strict=True):
        rows[shapes.index(shape)]["MiB"][name] = mib
    return rows


def measure_models(batches, rounds, console) -> list[dict]:
    """Return the times of one epoch of each model."""
    with harness.workers("training", ["tensorflow"], console.print) as workers, harness.bar(console) as progress:
        rows = []
        step = progress.add_task("model.fit", total=len(training.MODELS))
        for model in training.MODELS:
            done = harness.take_turns(
                workers, rounds, lambda share: progress.advance(step, share), model=model, batches=batches
            )
            rows.append({"model": model, "batches": batches, "candidates": done})
    return rows


def label(shape) -> str:
    """Return a shape as in the tables."""
    return ", ".join(map(str, shape))


def layer_table(rows, peak, mode) -> Table:
    """Return the table of one mode: medians, and the spread beside them."""
    names = [name for name in NAMES if any(name in row["candidates"] for row in rows)]
    title = f"{MODES[mode]}, milliseconds: median ± half the distance of the quartiles"
    table = harness.table(title, SHAPE, *names, "limit", "keras / auto", "torch / auto")
    for row in (row for row in rows if row["training"] == mode):
        found = row["candidates"]
        ratios = [harness.ratio(found, slow, "auto") for slow in ("keras", "torch")]
        table.add_row(
            label(row["shape"]),
            *(harness.cell(found, name, "keras" if name == "auto" else None) for name in names),
            harness.figure(row["limit_ms"]),
            *("-" if r is None else f"{r:.2f}" for r in ratios),
        )
    best = max(value for name, value in peak.items() if name != "registers")
    table.caption = (
        f"limit: the products alone at {max(peak.values()):.0f} GFLOP/s; the best product measured has {best:.0f}"
    )
    return table


def ratio_table(rows) -> tuple[Table, list[dict]]:
    """Return how many times as fast the second of each pair is, as a table and as figures."""
    headings = ("mode", "pair", "geometric mean", "worst", "at")
    table, figures = harness.table("how many times as fast", *headings, left=("mode", "pair", "at")), []
    for mode, name in MODES.items():
        for slow, fast in RATIOS:
            found = [(harness.ratio(r["candidates"], slow, fast), r["shape"]) for r in rows if r["training"] == mode]
            found = [(value, shape) for value, shape in found if value]
            if found:
                mean, (worst, shape) = statistics.geometric_mean(value for value, _ in found), min(found)
                table.add_row(name, f"{slow} / {fast}", f"{mean:.2f}", f"{worst:.2f}", label(shape))
                figures.append({"mode": name, "ratio": [slow, fast], "mean": mean, "worst": worst, "at": shape})
    return table, figures


def memory_table(rows) -> Table:
    """Return the table of peak memory."""
    names = [name for name in NAMES if any(name in row["MiB"] for row in rows)]
    table = harness.table("training, peak memory in MiB above the framework's own", SHAPE, *names)
    for row in rows:
        values = [row["MiB"].get(name) for name in names]
        table.add_row(label(row["shape"]), *("-" if v is None else harness.figure(v) for v in values))
    return table


def model_table(rows) -> Table:
    """Return the table of whole models."""
    title = f"model.fit, one epoch of {rows[0]['batches']} batches of {training.BATCH}, milliseconds"
    table = harness.table(title, "model", *training.CANDIDATES, "keras / auto", left=("model",))
    for row in rows:
        found = row["candidates"]
        cells = [harness.cell(found, name) for name in training.CANDIDATES]
        table.add_row(row["model"], *cells, f"{harness.ratio(found, 'keras', 'auto'):.2f}")
    return table


def main() -> None:
    """Read the command line, measure, print, and write what was measured."""
    parser = harness.options(__doc__, "speed")
    parser.add_argument("--cell", choices=GATES, default="LSTM")
    arguments = parser.parse_args()
    quick, cell = arguments.quick, arguments.cell
    console = Console(width=harness.WIDTH)
    result = harness.environment()
    console.print(harness.describe(result))
    rows, peak = measure_layers(QUICK if quick else FULL, 3 if quick else 9, console, cell)
    for mode in MODES:
        console.print(layer_table(rows, peak, mode))
    table, ratios = ratio_table(rows)
    console.print(table)
    result |= {"cell": cell, "peak_gflops": peak, "layers": rows, "ratios": ratios}
    harness.write(arguments.out, result)  # what is measured is kept, whatever comes after
    if cell != "LSTM":
        return
    missing = {name for name in NAMES if not any(name in row["candidates"] for row in rows)}
    memory = measure_memory(MEMORY_QUICK if quick else MEMORY, missing, console)
    console.print(memory_table(memory))
    models = measure_models(10 if quick else 40, 4 if quick else 9, console)
    console.print(model_table(models))
    result |= {"memory": memory, "models": models}
    console.print(f"wrote {harness.write(arguments.out, result)} and {picture.draw(result, arguments.out)}")


if __name__ == "__main__":
    main()
