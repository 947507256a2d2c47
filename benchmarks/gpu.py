"""Correctness and speed on a GPU, one command for each part: `KERAS_BACKEND=torch python benchmarks/gpu.py --check`.

Needs Python, the backend (JAX or PyTorch; TensorFlow for `--check`), Keras, this package and pytest. Each part ends
by itself after `--seconds`, writes what it has after every row (JSON in the folder `--out`), and prints its table last.

--check    each engine that says it serves a case against the reference engine on this device and the float64 oracle on
           the CPU: outputs, states, all gradients; second derivatives, `explain_engine`, `model.fit`. TF32 is off, but
           for the rows that say what it does. Exit status 1 if anything fails.
--measure  forward, and training (forward, and backward for all weights, of the sum of squares), batch 64, 512 steps:
           ours on "auto" and on each engine, Keras' layer, the framework's plain call of cuDNN. All candidates of a row
           take turns; a time ends when the device is done; medians and quartiles; first calls and compilation apart.
           TF32 is as the framework has it: JAX multiplies float32 in TF32, torch does inside cuDNN only.
--compile  (torch) the same over 32 steps, under torch.compile, too: it unrolls Keras' loop.
--rehearse small sizes, to try the command where there is no GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import harness
import keras

START = time.monotonic()
BACKEND = keras.backend.backend()
UNITS = (512, 128, 1024)  #: the most important size first
DTYPES = ("float32", "mixed_bfloat16")
TURNS, LONG, ROW_SECONDS = (3, 12), 0.15, 1.2  #: least and most; a call so long is made once in a turn


def elapsed() -> float:
    """Seconds since the start of this process, about."""
    return time.monotonic() - START


class Report:
    """Rows that are on the disk as soon as they are there, and a watch that ends the process in time."""

    def __init__(self, part: str, options: argparse.Namespace):
        self.rows, self.notes, self.options, self.part = [], [], options, part
        self.head = harness.environment() | {"device": device(), "backend": BACKEND, "part": part}
        shard = "" if options.shard == (0, 1) else f"-{options.shard[0]}"
        self.path = options.out / f"gpu-{part}-{BACKEND}{shard}.json"
        options.out.mkdir(parents=True, exist_ok=True)
        self.over = False
        watch = threading.Timer(options.seconds + 20, self._stop)  # what does not look at the clock itself
        watch.daemon = True
        watch.start()

    def time_left(self) -> bool:
        """Whether there is time for more; else say so, once."""
        if elapsed() > self.options.seconds and not self.over:
            self.over = True
            self.note(f"stopped after {elapsed():.0f} s: what is missing was not run")
        return not self.over

    def note(self, text: str) -> None:
        self.notes.append(text)
        print(f"[{elapsed():.0f} s] {text}", flush=True)

    def add(self, row: dict) -> None:
        self.rows.append(row)
        self.write()

    def write(self) -> None:
        content = self.head | {"seconds": round(elapsed(), 1), "notes": self.notes, "rows": self.rows}
        self.path.write_text(json.dumps(content, indent=None, default=str))

    def finish(self) -> int:
        self.write()
        print(f"\n== {self.part}, {BACKEND}, {self.head['device']}, {elapsed():.0f} s; {self.path.name}")
        for note in self.notes:
            print(f"   note: {note}")
        failed = TABLES[self.part](self.rows)
        sys.stdout.flush()
        return int(bool(failed))

    def _stop(self):
        self.note(f"cut off after {elapsed():.0f} s, in the middle of a row")
        self.finish()
        os._exit(3)


def device() -> str:
    """What the backend computes on."""
    if BACKEND == "jax":
        import jax

        return jax.devices()[0].device_kind
    if BACKEND == "torch":
        import torch

        return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    return tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU") if gpus else "cpu"


def check(report: Report) -> None:
    """Run every check of this shard."""
    sys.path.append(str(harness.HERE.parent))  # where the tests are, which it reuses
    import gpu_check

    number, count = report.options.shard
    gpu_check.exact_products(True)
    jobs = gpu_check.jobs()[number::count]
    for name, rows in jobs[:6] if report.options.rehearse else jobs:
        if not report.time_left():
            break
        try:
            for row in rows():
                report.add(row)
        except Exception as error:  # a case that cannot even be set up
            report.add({"check": name, "case": str(getattr(rows, "args", "")), "engine": "", "bound": None})
            report.rows[-1] |= gpu_check.failure(error)
    gpu_check.exact_products(False)
    if report.time_left() and number == 0:
        for row in gpu_check.tf32(gpu_check.Case(batch=8, timesteps=6, features=64, units=64)):
            report.add(row)
    report.note(f"{len(jobs)} checks in this shard")


def measure(report: Report) -> None:
    """Measure all rows of one size and dtype after the other."""
    from gpu_candidates import CANDIDATES, WORKLOADS

    rehearse, compiling = report.options.rehearse, report.part == "compile"
    steps, batch = (12, 3) if rehearse else (32 if compiling else 512, 64)
    sizes = [(u, d) for d in DTYPES for u in ((8, 16) if rehearse else UNITS)]
    sizes = sizes[:1] if compiling else sorted(sizes, key=lambda s: (8 if rehearse else 512) != s[0])
    absent = set()
    pool = None if compiling else ThreadPoolExecutor(max_workers=max(2, harness.THREADS - 2))
    for units, dtype in sizes:
        prepared = []
        for name, workload in WORKLOADS.items():
            if report.options.only and name not in report.options.only:
                continue
            for training in (True, False):
                if not report.time_left() or (not training and not workload.inference) or name in absent:
                    continue
                row = {"units": units, "dtype": dtype, "case": name, "mode": "training" if training else "forward"}
                try:
                    shape = (batch, steps, units, units)
                    prepared.append((row, CANDIDATES[BACKEND](workload, shape, dtype, training, pool)))
                except AttributeError as error:
                    absent.add(name)
                    report.note(f"{name}: not in this version ({error})")
                except Exception as error:
                    report.add(row | {"error": f"{type(error).__name__}: {error}"[:500]})
        for row, futures in prepared:
            candidates = {}
            for name, future in futures.items():
                if report.time_left() or (compiling and name == "plain cuDNN"):
                    try:
                        start = time.monotonic()
                        candidates[name] = future.result()
                        candidates[name].run()
                        row.setdefault("first call s", {})[name] = round(time.monotonic() - start, 2)
                    except Exception as error:
                        candidates.pop(name, None)
                        row.setdefault("failed", {})[name] = f"{type(error).__name__}: {error}"[:500]
                        if "CUDA error" in str(error):  # after it nothing on this device can be relied on
                            report.add(row | {"error": f"{name}: {error}"[:500]})
                            report.finish()
                            os._exit(4)
            if candidates and (compiling or report.time_left()):
                report.add(row | timed(candidates))
                print(line(report.rows[-1]), flush=True)
            futures.clear()
    if pool is not None:
        pool.shutdown(wait=False, cancel_futures=True)


def timed(candidates: dict) -> dict:
    """Let all candidates take turns; medians and quartiles in milliseconds, notes, memory."""
    names, times, memory = list(candidates), {n: [] for n in candidates}, {}
    for name, candidate in candidates.items():
        candidate.run()
        memory[name] = candidate.memory()

    def call(name):
        start = time.perf_counter()
        candidates[name].run()
        return time.perf_counter() - start

    once = {name: call(name) for name in names}
    calls = {name: 1 if once[name] > LONG else 3 for name in names}
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


def line(row: dict) -> str:
    """One row of the table of times."""
    head = f"{row['units']:>4} {row['dtype'].removeprefix('mixed_'):8} {row['case']:17} {row['mode']:8}"
    if "ms" not in row:
        return f"{head} FAILED {row['error'][:150]}"
    ms, spread = row["ms"], {n: (q[2] - q[0]) / 2 for n, q in row["quartiles"].items()}
    others = [n for n in ms if n not in ("keras", "auto")]
    parts = [f"keras {ms['keras']:.2f}({spread['keras']:.2f})" if "keras" in ms else "keras -"]
    if "auto" in ms:
        parts.append(f"auto={row['engine']['auto']} {ms['auto']:.2f}({spread['auto']:.2f})")
        parts.append(f"x{ms['keras'] / ms['auto']:.1f}" if "keras" in ms else "")
    parts += [f"{n} {ms[n]:.2f}({spread[n]:.2f})" for n in others]
    memory = [f"{n} {m:.0f}" for n, m in row["MiB"].items() if m is not None]
    failed = [f"{n} FAILED: {why[:80]}" for n, why in row.get("failed", {}).items()]
    return f"{head} {', '.join(p for p in [*parts, *failed] if p)}; MiB {' '.join(memory)}"


def print_times(rows: list[dict]) -> list[dict]:
    """Print the times; return nothing, since no time fails."""
    print("units, dtype, case, mode; milliseconds: median (half the distance of the quartiles); x: Keras / auto")
    for row in rows:
        print(line(row))
    return []


def print_checks(rows: list[dict]) -> list[dict]:
    """Print how many checks passed, the worst of each kind, and all that failed; return those."""
    failed = [row for row in rows if not row["ok"]]
    kinds: dict[tuple, list] = {}
    for row in rows:
        kinds.setdefault((row["check"], row["engine"]), []).append(row)
    for (check, engine), of_kind in sorted(kinds.items()):
        good = [r for r in of_kind if r["ok"]]
        shares = [r["error"] / r["bound"] for r in good if r["bound"] and r["error"] is not None]
        worst = f", at most {max(shares):.2f} of what is allowed" if shares else ""
        print(f"{check:28} {engine:11} {len(good)}/{len(of_kind)}{worst}")
        if check.startswith(("tf32", "torch.nn")):
            print("\n".join(f"   {r['error'] or 0:.1e} ({r['worst']}) {r['case']}" for r in of_kind))
    for row in failed:
        what = row["worst"] if row["error"] is None else f"{row['worst']}: {row['error']:.2e}, allowed {row['bound']}"
        print(f"FAILED {row['check']} {row['engine']} [{row['case']}] {what}"[:400])
    print(f"{len(rows) - len(failed)} passed, {len(failed)} failed")
    return failed


PARTS = {"check": check, "measure": measure, "compile": measure}
TABLES = {"check": print_checks, "measure": print_times, "compile": print_times}


def main() -> int:
    """Read the command line and run one part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    part = parser.add_mutually_exclusive_group(required=True)
    for name in PARTS:
        part.add_argument(f"--{name}", dest="part", action="store_const", const=name)
    parser.add_argument("--rehearse", action="store_true")
    parser.add_argument("--seconds", type=float, default=150, help="when to stop")
    parser.add_argument("--out", type=Path, default=Path("runs"))
    parser.add_argument("--no-graphs", action="store_true", help="torch: launch every step by itself")
    parser.add_argument("--only", nargs="+", help="names of the cases to measure")
    parser.add_argument("--shard", default="0/1", help="n/m: every m-th check from the n-th, to run several at once")
    options = parser.parse_args()
    options.shard = tuple(int(n) for n in options.shard.split("/"))
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
