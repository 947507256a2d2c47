"""Correctness and speed on a GPU, in one command: `python benchmarks/gpu_all.py --seconds 560 --out runs/gpu`.

For every backend that is installed and has a GPU, in processes of their own, it runs the parts of `gpu.py`: first the
checks, in shards side by side; then what is measured, one after the other, for the time that is left. It ends in time,
prints the tables, and names what was not done and what failed (a check; ours, measured). JSON, logs and the tables are
in the folder `--out`, also of what was ended in the middle. Exit status 1: something failed, or a process broke down;
2: nothing could be run.

Needs Python, JAX or PyTorch (TensorFlow: checks only), Keras, pytest, and this folder with those of the package and of
its tests beside it. To a machine without a network carry the wheels: where there is one, for the other's Python,

    pip download keras pytest -d wheels --only-binary=:all: --python-version 3.12 --platform manylinux_2_28_x86_64
    rm wheels/numpy-*       # that of JAX or PyTorch is there

and there, in the folder of the repository,

    python -m pip install --no-index --no-deps --target site wheels/*.whl
    PYTHONPATH=site:. python benchmarks/gpu_all.py
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import gpu_tables

HERE = Path(__file__).parent
CORES = len(os.sched_getaffinity(0))
#: How many of its processes check at once: what compiles keeps a core busy, what launches a GPU.
SHARDS = {"torch": max(1, CORES // 8), "jax": max(1, 3 * CORES // 4), "tensorflow": max(1, CORES // 4)}
MEASURED = ("torch", "jax")  #: what `gpu_candidates.py` has candidates for
SETTINGS = {
    "PYTHONUNBUFFERED": "1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",  # several processes share the GPU
    "TF_FORCE_GPU_ALLOW_GROWTH": "true",
}
#: To try algorithms for each product of each case takes longer than the checks.
UNTUNED = {"XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_autotune_level=0"}
CHECKS = 0.25  #: of the time, at most
SHARES = {"measure": 5, "compile": 1}  #: of the time that is left
LEAST = 20  #: seconds that are worth a start
GRACE = 30  #: seconds for a process to start, and to finish the row that it is at
AS_PLANNED = (0, gpu_tables.CUT_OFF, gpu_tables.FAILED)
WIDTH = 170


class Job(NamedTuple):
    """A process."""

    backend: str
    part: str
    out: Path
    options: tuple[str, ...] = ()
    settings: dict[str, str] = {}

    def __str__(self):
        return " ".join([self.backend, self.part, *self.options])

    def command(self, seconds: float) -> list[str]:
        until = str(max(seconds - GRACE, seconds / 2))
        return [sys.executable, HERE / "gpu.py", f"--{self.part}", "--seconds", until, "--out", self.out, *self.options]


class Processes:
    """Runs jobs, never longer than they may; `problems` says what came to another end than it should."""

    def __init__(self, out: Path):
        self.out, self.problems, self._running = out, [], []

    def run(self, jobs: list[Job], seconds: float) -> list[int]:
        """Run them at once; return their exit statuses."""
        end = time.monotonic() + seconds
        self._running = [self._start(job, seconds) for job in jobs]
        codes = []
        for job, (process, log) in zip(jobs, self._running, strict=True):
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, end - time.monotonic()))
            late = process.poll() is None
            kill(process)
            codes.append(process.returncode)
            if late:
                self.problems.append(f"{job}: still running after {seconds:.0f} s, and ended")
            elif process.returncode not in AS_PLANNED or not list(job.out.glob(f"gpu-{job.part}-{job.backend}*.json")):
                said = "\n      ".join(log.read_text(errors="replace").strip().splitlines()[-4:])
                self.problems.append(f"{job}: broke down with exit status {process.returncode}:\n      {said}")
        self._running = []
        return codes

    def _start(self, job: Job, seconds: float) -> tuple[subprocess.Popen, Path]:
        log = self.out / f"{'-'.join([job.out.name, *str(job).split()])}.log".replace("/", "of")
        environment = os.environ | SETTINGS | job.settings | {"KERAS_BACKEND": job.backend}
        with log.open("w") as file:
            command = job.command(seconds)
            process = subprocess.Popen(
                command, stdout=file, stderr=subprocess.STDOUT, env=environment, start_new_session=True
            )
        return process, log

    def end(self) -> None:
        """End those that run."""
        for process, _ in self._running:
            kill(process)


def kill(process: subprocess.Popen) -> None:
    """End a process, if it runs, and those that it started."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def with_gpu(backends: list[str], out: Path, rehearse: bool) -> Iterator[str]:
    """Yield the backends that have a GPU, all in a rehearsal; print what the others say."""
    command = [sys.executable, HERE / "gpu.py", "--device", *["--rehearse"] * rehearse]
    asked = {}
    for backend in backends:
        environment = os.environ | SETTINGS | {"KERAS_BACKEND": backend}
        asked[backend] = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
        )
    for backend, process in asked.items():
        said = process.communicate()[0].strip().splitlines()[-12:]
        print("\n".join(said))
        if process.returncode == 0:
            yield backend
        elif process.returncode != gpu_tables.NO_GPU:
            print(f"{backend} is left out: it could not even be asked for its device")


def checks(backends: list[str], out: Path, options: tuple[str, ...]) -> list[Job]:
    """Return the checks; those of JAX in half precision once more with tuned products, which users have."""
    jobs = []
    for backend in backends:
        untuned = UNTUNED if backend == "jax" else {}
        count = SHARDS[backend]
        shards = [("--shard", f"{n}/{count}") for n in range(count)]
        jobs += [Job(backend, "check", out, (*shard, *options), untuned) for shard in shards]
        if backend == "jax":
            jobs.append(Job(backend, "check", out / "tuned", ("--only", "dtype=float16", *options)))
    return jobs


def run(processes: Processes, backends: list[str], out: Path, options: tuple[str, ...], end: float) -> None:
    """Run all parts until the time is over."""
    whole = end - time.monotonic()
    processes.run(checks(backends, out, options), CHECKS * whole)
    parts = [(b, "measure") for b in backends if b in MEASURED] + [("torch", "compile")] * ("torch" in backends)
    processes.problems += [f"{b}: checked only, it has nothing to measure yet" for b in backends if b not in MEASURED]
    for number, (backend, part) in enumerate(parts):
        left = end - time.monotonic()
        seconds = left * SHARES[part] / sum(SHARES[later] for _, later in parts[number:])
        if seconds < LEAST:
            processes.problems.append(f"{backend} {part}: not begun, {left:.0f} s were left")
            continue
        only = ("--only", "plain", "left padding") if part == "compile" else ()
        until = time.monotonic() + seconds
        (code,) = processes.run([Job(backend, part, out, (*only, *options))], seconds)
        again = until - time.monotonic()
        if (backend, part) == ("torch", "measure") and code not in AS_PLANNED and again > LEAST:
            processes.run([Job(backend, part, out, ("--no-graphs", *options))], again)


def summary(out: Path, problems: list[str]) -> tuple[list[str], bool]:
    """Return the tables of all files, what was not done and what failed; and whether anything failed."""
    tables, missing, failed = [], [], []
    for path in sorted(out.glob("**/gpu-*.json"), key=lambda path: ("-check-" in path.name, str(path))):
        content = json.loads(path.read_text())
        name = str(path.relative_to(out))
        place = f"{name}, {content['backend']} on {content['device']}, {content['seconds']:.0f} s"
        lines = gpu_tables.of(content["part"], content["rows"])
        failed += [f"{name}: {line}" for line in lines if line.startswith("FAILED")]
        ours = [row for row in content["rows"] if ("error" in row and "mode" in row) or "auto" in row.get("failed", {})]
        failed += [f"{name}: {gpu_tables.line(row)}" for row in ours]
        tables += ["", f"== {place}", *(f"   {note}" for note in content["notes"])]
        tables += [line for line in lines if not line.startswith("FAILED")]
        if content["missing"]:
            missing.append(f"{name}: {len(content['missing'])}: {'; '.join(content['missing'])}")
    tables += ["", "== not done", *(missing or ["nothing is missing"])]
    tables += ["", "== went wrong", *(problems + failed or ["nothing"])]
    return tables, bool(failed or any("broke down" in p for p in problems))


def main() -> int:
    """Read the command line and run everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=560, help="after which it has ended")
    parser.add_argument("--out", type=Path, default=Path("runs/gpu"), help="an empty folder")
    parser.add_argument("--rehearse", action="store_true", help="small sizes, where there is no GPU")
    given = parser.parse_args()
    end, out = time.monotonic() + given.seconds - 3, given.out.resolve()
    if next(out.glob("**/gpu-*.json"), None):
        print(f"{out} has results of an earlier run, which would be mixed with this one's: pass another --out.")
        return 2
    installed = [backend for backend in SHARDS if find_spec(backend)]
    if not installed:
        print(
            f"Neither {', '.join(SHARDS)} is installed for {sys.executable}, so there is nothing to run: install one."
        )
        return 2
    backends = list(with_gpu(installed, out, given.rehearse))
    if not backends:
        print("Nothing was run: no backend is ready, as said above.")
        return 2
    out.mkdir(parents=True, exist_ok=True)
    processes = Processes(out)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended from outside"))
    try:
        run(processes, backends, out, ("--rehearse",) * given.rehearse, end)
    finally:
        processes.end()
        lines, failed = summary(out, processes.problems)
        (out / "tables.txt").write_text("\n".join(lines) + "\n")
        print("\n".join(line[:WIDTH] if not line.startswith(("FAILED", "gpu-")) else line[:600] for line in lines))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
