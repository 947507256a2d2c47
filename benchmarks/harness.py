"""What the benchmarks share: options, the machine, processes that take turns, the limit of the products, results.

Each framework runs in a process of its own (`worker.py`), which is stopped while it is not its turn: threads that wait
for work by spinning then take nothing from the others. A turn begins with calls that are not timed, which wake the
threads and fill the caches. A ratio is the median of the ratios of the rounds, so that what slows the machine for a
while slows both sides.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

HERE = Path(__file__).parent
PACKAGES = ["keras_lstm_custom", "keras", "tensorflow", "tensorflow-cpu", "tf_keras", "torch", "jax", "onnxruntime"]
PACKAGES += ["ai-edge-litert", "numpy"]
THREADS = len(os.sched_getaffinity(0))
WIDTH = 180  #: of the tables
BUSY = 0.7  #: a load from which figures are not to be trusted
QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow", "JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}


def options(description: str, out: str) -> argparse.ArgumentParser:
    """Return the command line that every benchmark has."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="less of everything: below three minutes")
    parser.add_argument("--out", type=Path, default=Path("runs", out), help="where to write, without the ending")
    return parser


def environment() -> dict:
    """Return the command, versions and machine, for the head of the table and the JSON file."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    info = Path("/proc/cpuinfo")
    names = [line.split(":")[1].strip() for line in info.read_text().splitlines() if "model name" in line]
    machine = {"processor": (names or [platform.machine()])[0], "threads": THREADS, "system": platform.system()}
    machine["load before"] = round(os.getloadavg()[0], 2)
    return {"command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]), "versions": versions, "machine": machine}


def describe(environment: dict) -> str:
    """Return what ran where, and a warning if the machine is busy."""
    machine = environment["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in environment["versions"].items())
    text = f"{machine['processor']}, {machine['threads']} threads, load before {machine['load before']}\n{versions}"
    if machine["load before"] > BUSY:
        text += (
            "\n[yellow]The machine is busy: wait for a quiet one. Frameworks whose threads spin (torch) lose most.[/]"
        )
    return text


class Missing(Exception):
    """A framework is not installed."""


class Worker:
    """A process that holds candidates of one framework and runs them when asked; stopped in between."""

    def __init__(self, module: str, framework: str):
        self.name = framework
        self._log = tempfile.NamedTemporaryFile("w+")  # noqa: SIM115 - what the framework says; shown if it fails
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "worker.py"), module, framework],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env={**os.environ, **QUIET},
        )
        started = self._answer()
        if "missing" in started:
            self.close()
            raise Missing(f"{framework} is left out: {started['missing']}")
        self._rest()

    def ask(self, what: str, **arguments):
        """Return what the worker answers; it runs only until then."""
        self.process.send_signal(signal.SIGCONT)
        self.process.stdin.write(json.dumps([what, arguments]) + "\n")
        self.process.stdin.flush()
        answer = self._answer()
        self._rest()
        return answer

    def _rest(self):
        self.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.process.pid, os.WSTOPPED | os.WEXITED)  # or the next turn would begin too early

    def _answer(self):
        line = self.process.stdout.readline()
        if not line:
            self.close()
            raise RuntimeError(f"the process of {self.name} ended:\n{self.said()}")
        return json.loads(line)

    def said(self) -> str:
        """Return the end of what the process printed."""
        return Path(self._log.name).read_text(errors="replace")[-3000:]

    def close(self):
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def workers(module: str, frameworks: list[str], say: Callable[[str], None]) -> Iterator[list[Worker]]:
    """Start a worker for each framework that is installed, say which are not, and end them all."""
    with contextlib.ExitStack() as stack:
        started = []
        for framework in frameworks:
            try:
                worker = Worker(module, framework)
            except Missing as missing:
                say(str(missing))
                continue
            stack.callback(worker.close)
            started.append(worker)
        yield started


def take_turns(workers: list[Worker], rounds: int, advance: Callable[[float], None], **case) -> dict[str, dict]:
    """Return for each candidate of a case its milliseconds, a list for each round, and what it says of itself.

    `advance` is told which share of the case is done.
    """
    found, owner = {}, {}
    for worker in workers:
        for name, note in worker.ask("prepare", **case).items():
            found[name], owner[name] = {"note": note, "ms": []}, worker
        advance(0.4 / len(workers))
    for _ in range(rounds):
        for name, worker in owner.items():
            found[name]["ms"].append(worker.ask("turn", name=name))
            advance(0.6 / rounds / len(owner))
    for worker in workers:
        worker.ask("forget")
    return found


def peak_memory(module: str, framework: str, name: str, **case) -> float:
    """Return the MiB that preparing, compiling and running one candidate takes at its peak, in a process of its own."""
    with contextlib.closing(Worker(module, framework)) as worker:
        return worker.ask("memory", name=name, **case)


def peak_gflops(workers: list[Worker]) -> dict[str, float]:
    """Return what multiplying and adding reaches: square products of each framework, and registers alone."""
    found = {worker.name: worker.ask("products") for worker in workers}
    with tempfile.TemporaryDirectory() as folder:
        program = f"{folder}/fma_peak"
        command = [os.environ.get("CXX", "g++"), "-O3", "-march=native", "-ffp-contract=fast", "-pthread"]
        with contextlib.suppress(OSError, subprocess.CalledProcessError):  # no compiler; the table names its limit
            subprocess.run([*command, str(HERE / "fma_peak.cc"), "-o", program], check=True, capture_output=True)
            found["registers"] = float(subprocess.run([program, str(THREADS)], capture_output=True, text=True).stdout)
    return found


def bar(console) -> Progress:
    """Return a progress bar, which goes away when done."""
    columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()]
    return Progress(*columns, console=console, transient=True)


def table(title: str, *headings: str, left: tuple[str, ...] = ()) -> Table:
    """Return an empty table; its columns are numbers but for those named in `left`."""
    made = Table(title=title, title_justify="left", caption_justify="left")
    for heading in headings:
        made.add_column(heading, justify="left" if heading in left else "right", no_wrap=True)
    return made


def median(measured: dict) -> float:
    """Return the median of all calls, in milliseconds."""
    return statistics.median(ms for turn in measured["ms"] for ms in turn)


def spread(measured: dict) -> float:
    """Return half the distance of the quartiles of all calls, in milliseconds."""
    calls = [ms for turn in measured["ms"] for ms in turn]
    low, _, high = statistics.quantiles(calls, n=4) if len(calls) > 1 else (0, 0, 0)
    return (high - low) / 2


def ratio(row: dict[str, dict], slow: str, fast: str) -> float | None:
    """Return how many times as fast as `slow` the candidate `fast` is; None if one was not measured."""
    if slow not in row or fast not in row:
        return None
    pairs = zip(row[slow]["ms"], row[fast]["ms"], strict=True)
    return statistics.median(statistics.median(a) / statistics.median(b) for a, b in pairs)


def figure(value: float) -> str:
    """Return a number with three digits, without an exponent."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def cell(row: dict[str, dict], name: str, against: str | None = None) -> str:
    """Return the median and the spread as a cell of a table: the fastest in green, what loses to `against` in red."""
    if name not in row:
        return "-"
    text = f"{figure(median(row[name]))} [dim]±{100 * spread(row[name]) / median(row[name]):.0f}%[/]"
    if median(row[name]) == min(map(median, row.values())):
        return f"[green]{text}[/]"
    return f"[red]{text}[/]" if against in row and median(row[name]) > median(row[against]) else text


def write(path: Path, result: dict) -> Path:
    """Write the figures; return the path of the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.with_name(path.name + ".json")
    file.write_text(json.dumps(result, indent=1) + "\n")
    return file
