"""The runtimes that an exported file can meet, and how to run it on them without being taken down by them."""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_lstm_custom.array_files import read_arrays
from keras_lstm_custom.errors import DataError
from keras_lstm_custom.export.choices import check_choice
from keras_lstm_custom.writing import scratch


@dataclass(frozen=True)
class Runtime:
    """One way of running a TFLite file."""

    name: str
    title: str
    module: str  #: the Python module that holds it
    package: str  #: what to install for it


WORKER = Path(__file__).with_name("worker.py")

#: Every runtime by name.
RUNTIMES: dict[str, Runtime] = {
    runtime.name: runtime
    for runtime in (
        Runtime("litert", "LiteRT Interpreter", "ai_edge_litert.interpreter", "ai-edge-litert"),
        Runtime("compiled", "LiteRT CompiledModel", "ai_edge_litert.compiled_model", "ai-edge-litert"),
        Runtime("micro", "TensorFlow Lite for Microcontrollers", "tflite_micro", "tflite-micro"),
    )
}


@dataclass(frozen=True)
class Tensor:
    """One input or output of a file."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float  #: real value = scale · (stored - zero_point); 0 where the values are not quantised
    zero_point: int


@dataclass(frozen=True)
class Run:
    """What a runtime gave for some rows. If it did not finish, `ok` is false and `message` says why."""

    runtime: str
    ok: bool
    message: str = ""
    outputs: tuple[np.ndarray, ...] = ()  #: real values, all rows
    raw: tuple[np.ndarray, ...] = ()  #: the same as the file stores them
    fed: tuple[np.ndarray, ...] = ()  #: the inputs as the file stores them
    input_tensors: tuple[Tensor, ...] = ()
    output_tensors: tuple[Tensor, ...] = ()
    seconds: tuple[float, ...] = ()  #: of each timed invocation

    @property
    def ms_per_invocation(self) -> float | None:
        """Median over the timed invocations, in milliseconds; None if none was timed."""
        return 1e3 * float(np.median(self.seconds)) if self.seconds else None


@functools.cache
def is_installed(name: str) -> bool:
    """Return whether the runtime `name` can be imported here."""
    try:
        return importlib.util.find_spec(RUNTIMES[name].module) is not None
    except ModuleNotFoundError:
        return False


def installed() -> list[str]:
    """Return the names of the runtimes that are installed here."""
    return [name for name in RUNTIMES if is_installed(name)]


def run_file(
    path: str | os.PathLike,
    inputs: Any,
    runtime: str,
    *,
    reset_every: int = 0,
    feedback: Mapping[int, int] | None = None,
    timed_invocations: int = 0,
    timeout: float = 120.0,
) -> Run:
    """Run a TFLite file on one runtime, in a process of its own.

    Args:
        path: the file.
        inputs: one array, or one for each input in the file's order: `(rows, ...)`. The rows are fed one
            invocation after another, as many at a time as the file's batch. Real values are quantised by
            the file's scales; values that have the file's dtype already are fed as they are.
        runtime: a name from `RUNTIMES`.
        reset_every: the state is reset before each so many invocations; 0 = never.
        feedback: `{input index: output index}` of states that the caller keeps: such an input is not part
            of `inputs`; it starts at zero, again after each reset, and is then that output of the invocation before.
        timed_invocations: how many more invocations of the last row to time.
        timeout: seconds after which the process is ended.

    Returns:
        A `Run`. A refusal, a crash or a hang of the runtime is a `Run` that is not `ok`.

    Raises:
        ArgumentError: the runtime is unknown.
    """
    check_choice("runtime", runtime, RUNTIMES)
    arrays = list(inputs) if isinstance(inputs, (list, tuple)) else [inputs]
    job = {
        "task": "run",
        "path": str(path),
        "runtime": runtime,
        "reset_every": reset_every,
        "feedback": dict(feedback or {}),
        "timed_invocations": timed_invocations,
    }
    message, facts, reply = _ask(job, arrays, timeout)
    if message:
        return Run(runtime, ok=False, message=message)
    return Run(
        runtime,
        ok=True,
        outputs=_series(reply, "output"),
        raw=_series(reply, "raw"),
        fed=_series(reply, "fed"),
        input_tensors=_tensors(facts["inputs"]),
        output_tensors=_tensors(facts["outputs"]),
        seconds=tuple(facts["seconds"]),
    )


def smallest_arena(
    path: str | os.PathLike,
    inputs: Sequence[np.ndarray],
    *,
    feedback: Mapping[int, int] | None = None,
    step: int = 16,
    timeout: float = 120.0,
) -> tuple[int | None, str]:
    """Return the smallest arena, in bytes, with which the microcontroller runtime gives the right first row.

    It is found by bisection to within `step` bytes, each try in a process of its own, on this computer: with
    64-bit pointers. A 32-bit device needs less.

    Returns:
        `(bytes, "")`, or `(None, reason)` if the file does not run with an ample arena either.
    """
    job = {"task": "smallest_arena", "path": str(path), "runtime": "micro", "feedback": dict(feedback or {})}
    message, facts, _ = _ask({**job, "step": step}, [array[:1] for array in inputs], timeout)
    return (None, message) if message else (facts["arena_bytes"], "")


def _ask(job: dict, arrays: Sequence[np.ndarray], timeout: float) -> tuple[str, dict, dict]:
    """Let a worker process do the job; return why it failed (or ""), its facts and its arrays."""
    job = {**job, "timeout": timeout}
    with scratch() as folder:
        request, reply = folder / "request.npz", folder / "reply.npz"
        content: dict[str, Any] = {f"input_{k}": np.asarray(array) for k, array in enumerate(arrays)}
        np.savez(request, job=json.dumps(job), **content)
        # -P: the worker's own folder stays off the module path, so that nothing there hides a runtime's module.
        command = [sys.executable, "-P", str(WORKER), str(request), str(reply)]
        # NumPy's library for matrices would take memory for a thread on each core; the worker multiplies none.
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, errors="replace", timeout=timeout, env=environment
            )
        except subprocess.TimeoutExpired:
            return f"did not finish within {timeout:g} seconds", {}, {}
        if done.returncode != 0 or not reply.exists():
            return _reason(done), {}, {}
        try:
            values = read_arrays(reply)
            facts = json.loads(str(values.pop("facts")))
        except (DataError, KeyError, ValueError) as error:  # of a worker whose memory the file has destroyed
            return f"the process gave no readable answer: {str(error).splitlines()[0]}", {}, {}
    refusal = facts.pop("refusal", "")
    # The native runtimes print a cause that the exception they raise does not name.
    message = " / ".join(dict.fromkeys(_causes(refusal, done.stderr))) if refusal else ""
    return message, facts, values


def _reason(done: subprocess.CompletedProcess) -> str:
    """Return in one line why a worker process ended without a reply."""
    name = signal.Signals(-done.returncode).name if done.returncode < 0 else f"code {done.returncode}"
    last = [line.strip() for line in done.stderr.splitlines() if line.strip()][-1:]
    return " after: ".join([f"the process was ended by {name}", *last])


#: What a line of a runtime's log begins with that says why it refused a file.
_TELLING = ("ERROR:", "Didn't find op", "Node ", "tensorflow/lite/")


def _causes(refusal: str, log: str) -> list[str]:
    """Return the lines that say something; where in the runtime's source they come from does not."""
    marked = [line for line in log.splitlines() if line.lstrip(" └").startswith(_TELLING)]
    source = r"^[\s└]*(ERROR:\s*)?(\[\S+?:\d+\]\s*)?(tensorflow/\S+\.(cc|h)(:\d+)?\s*)?"
    lines = [re.sub(source, "", line) for line in [*refusal.splitlines(), *marked]]
    return [line.strip() for line in lines if line.strip()]


def _series(values: dict, prefix: str) -> tuple[np.ndarray, ...]:
    return tuple(values[f"{prefix}_{k}"] for k in range(sum(name.startswith(f"{prefix}_") for name in values)))


def _tensors(facts: list[dict]) -> tuple[Tensor, ...]:
    return tuple(Tensor(f["name"], tuple(f["shape"]), f["dtype"], f["scale"], f["zero_point"]) for f in facts)
