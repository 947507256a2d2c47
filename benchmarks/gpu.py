"""Correctness and speed on a GPU, one part for one backend: `KERAS_BACKEND=torch python benchmarks/gpu.py --check`.

`gpu_all.py` runs all parts for all backends in one command. Each part ends by itself after `--seconds`, has all that it
found and all that is missing on the disk after every row (JSON in the folder `--out`), and prints its table last.
Exit status 2: there is no GPU, so nothing was run; 3: cut off in the middle of a row; 4: CUDA broke down.

--check    each engine that says it serves a case against the reference engine on this device and the float64 oracle on
           the CPU: outputs, states, all gradients; second derivatives, `explain_engine`, `model.fit`. TF32 is off, but
           for the rows that say what it does. Exit status 5 if any fails.
--measure  forward, and training (forward, and backward for all weights, of the sum of squares), batch 64, 512 steps:
           ours on "auto" and on each engine, Keras' layer, the framework's plain call of cuDNN. All candidates of a row
           take turns; a time ends when the device is done; medians and quartiles; first calls and compilation apart.
           TF32 is as the framework has it: JAX multiplies float32 in TF32, torch does inside cuDNN only. What
           docs/gpu.md has no figure of comes first.
--compile  (torch) the same over 32 steps, under torch.compile, too: it unrolls Keras' loop.
--device   what the backend computes on.
--rehearse small sizes, to try the command where there is no GPU. Its times are no GPU's.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import gpu_tables
import harness
import keras
from gpu_device import device, no_gpu
from gpu_report import Report

BACKEND = keras.backend.backend()
UNITS = (512, 128, 1024)  #: the most important size first
DTYPES = ("float32", "mixed_bfloat16")
#: What docs/gpu.md has figures of is measured last, but for cases that another engine serves since: those come first.
KNOWN = {"torch": {(512, "float32")}, "jax": {(512, "float32"), (512, "mixed_bfloat16")}}
CHANGED = {"torch": {("left padding", "forward")}, "jax": {("vanilla RNN", "training"), ("vanilla RNN", "forward")}}
TURNS, LONG, ROW_SECONDS = (2, 12), 0.15, 1.2  #: least and most; a call so long is made once in a turn


class Row(NamedTuple):
    """What is measured at a time."""

    units: int
    dtype: str
    case: str
    mode: str

    def __str__(self):
        return " ".join(map(str, self))


def check(report: Report) -> None:
    """Run every check of this shard."""
    sys.path.append(str(harness.HERE.parent))  # where the tests are, which it reuses
    import gpu_check

    number, count = report.options.shard
    only = report.options.only
    gpu_check.exact_products(True)
    jobs = [job for job in gpu_check.jobs() if not only or any(text in job[0] for text in only)][number::count]
    jobs = jobs[:6] if report.options.rehearse else jobs
    report.plan([label for label, _ in jobs])
    for label, rows in jobs:
        if not report.time_left():
            break
        try:
            for row in rows():
                report.add(row)
        except Exception as error:  # a case that cannot even be set up
            report.add({"check": label, "case": "", "engine": "", "bound": None} | gpu_check.failure(error))
        report.done(label)
    gpu_check.exact_products(False)
    if report.time_left() and number == 0 and not only:
        for row in gpu_check.tf32(gpu_check.Case(batch=8, timesteps=6, features=64, units=64)):
            report.add(row)
    report.note(f"{len(jobs)} checks in this shard")


def groups(options: argparse.Namespace) -> list[list[Row]]:
    """Return what to measure, in the order of the time: the rows of a group are prepared at once."""
    from gpu_candidates import WORKLOADS

    def rank(row):
        if options.part == "compile" or (row.units, row.dtype) not in KNOWN.get(BACKEND, ()):
            return 1
        return 0 if (row.case, row.mode) in CHANGED.get(BACKEND, ()) else 2

    sizes = [(512, "float32")] if options.part == "compile" else [(u, d) for d in DTYPES for u in UNITS]
    rows = [
        Row(*size, name, mode)
        for mode in ("training", "forward")
        for size in sizes
        for name, workload in WORKLOADS.items()
        if (mode == "training" or workload.inference) and (not options.only or name in options.only)
    ]
    rows.sort(key=rank)
    return [list(g) for _, g in groupby(rows, lambda row: (rank(row), row.units, row.dtype, row.mode))]


def measure(report: Report) -> None:
    """Measure the rows of one group after the other."""
    from gpu_candidates import CANDIDATES, WORKLOADS

    rehearse, compiling = report.options.rehearse, report.part == "compile"
    steps, batch = (12, 3) if rehearse else (32 if compiling else 512, 64)
    planned = groups(report.options)
    report.plan([str(row) for rows in planned for row in rows])
    pool = None if compiling else ThreadPoolExecutor(max_workers=max(2, harness.THREADS - 2))
    for rows in planned:
        prepared = []
        for row in rows:
            if report.time_left():
                units = row.units // 64 if rehearse else row.units
                try:
                    shape, training = (batch, steps, units, units), row.mode == "training"
                    futures = CANDIDATES[BACKEND](WORKLOADS[row.case], shape, row.dtype, training, pool)
                    prepared.append((row, futures))
                except Exception as error:
                    report.add(row._asdict() | {"error": f"{type(error).__name__}: {error}"[:500]})
                    report.done(str(row))
        for row, futures in prepared:
            if not report.time_left():
                break
            report.add(row._asdict() | measured(report, futures))
            report.done(str(row))
            print(gpu_tables.line(report.rows[-1]), flush=True)
            futures.clear()
    if pool is not None:
        pool.shutdown(wait=False, cancel_futures=True)


def measured(report: Report, futures: dict) -> dict:
    """Return the times of all candidates of a row, and why some have none."""
    found, candidates = {"first call s": {}, "failed": {}}, {}
    for name, future in futures.items():
        try:
            start = time.monotonic()
            candidates[name] = future.result()
            candidates[name].run()
            found["first call s"][name] = round(time.monotonic() - start, 2)
        except Exception as error:
            candidates.pop(name, None)
            found["failed"][name] = f"{type(error).__name__}: {error}"[:500]
            if "CUDA error" in str(error):  # after it nothing on this device can be relied on
                report.note(f"ended by {name}: {error}"[:500])
                report.finish()
                os._exit(gpu_tables.BROKEN)
    try:
        return found | (timed(candidates) if candidates else {"error": "no candidate runs"})
    except Exception as error:
        return found | {"error": f"{type(error).__name__}: {error}"[:500]}


def timed(candidates: dict) -> dict:
    """Let all candidates take turns; medians and quartiles in milliseconds, notes, memory."""
    names, times, memory = list(candidates), {n: [] for n in candidates}, {}
    for name, candidate in candidates.items():
        if name != "keras":  # what ours records comes with the second call
            candidate.run()
        memory[name] = candidate.memory()

    def call(name):
        start = time.perf_counter()
        candidates[name].run()
        return time.perf_counter() - start

    once = {name: call(name) for name in names}
    calls = {name: 1 if once[name] > LONG else 3 if once[name] > LONG / 5 else 5 for name in names}
    times |= {name: [1e3 * once[name]] for name in names if once[name] > LONG}
    turns = int(ROW_SECONDS / sum(once[n] * calls[n] for n in names))
    for turn in range(min(max(turns, TURNS[0]), TURNS[1])):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:  # nobody always follows the same
            measured = [call(name) for _ in range(calls[name])]
            times[name] += [1e3 * t for t in (measured if len(measured) == 1 else measured[1:])]
    return {
        "ms": {n: statistics.median(t) for n, t in times.items()},
        "quartiles": {n: statistics.quantiles(t, n=4) for n, t in times.items()},
        "calls": {n: len(t) for n, t in times.items()},
        "MiB": memory,
        "engine": {n: c.note() for n, c in candidates.items()},
    }


PARTS = {"check": check, "measure": measure, "compile": measure}


def main() -> int:
    """Read the command line and run one part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    part = parser.add_mutually_exclusive_group(required=True)
    for name in (*PARTS, "device"):
        part.add_argument(f"--{name}", dest="part", action="store_const", const=name)
    parser.add_argument("--rehearse", action="store_true")
    parser.add_argument("--seconds", type=float, default=150, help="when to stop")
    parser.add_argument("--out", type=Path, default=Path("runs"))
    parser.add_argument("--no-graphs", action="store_true", help="torch: launch every step by itself")
    parser.add_argument("--only", nargs="+", help="names of the cases to measure; texts in those to check")
    parser.add_argument("--shard", default="0/1", help="n/m: every m-th check from the n-th, to run several at once")
    options = parser.parse_args()
    options.shard = tuple(int(n) for n in options.shard.split("/"))
    if not options.rehearse and (reason := no_gpu()):
        print(f"{BACKEND} has no GPU here, so nothing was run: {reason} (--rehearse tries the command without one.)")
        return gpu_tables.NO_GPU
    if options.part == "device":
        print(f"{BACKEND} computes on {device()}")
        return 0
    if options.no_graphs and BACKEND == "torch":
        from keras_lstm_custom.engines.torch import graphs

        graphs.serves = lambda z_x: False
    report = Report(options.part, options)
    PARTS[options.part](report)
    return report.finish()


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # a thread that still compiles is not waited for
