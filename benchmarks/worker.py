"""The process of one framework: `worker.py MODULE FRAMEWORK`; questions on standard input, answers on standard output.

`MODULE.FRAMEWORK()` imports the framework and returns two functions: `candidates(**case)` gives functions without
arguments by name, and `product(n)` gives one that multiplies two n x n matrices. A candidate may have an attribute
`note`, a function that says something about it once it has run.
"""

import ctypes
import importlib
import json
import os
import signal
import sys
import time
from pathlib import Path

WARM = 0.02  #: seconds of calls that are not timed, at the start of a turn
MIN_CALLS, MAX_CALLS, SECONDS = 2, 30, 0.03  #: of a turn
LONG = 0.15  #: seconds after which one call is enough, the first
DIE_WITH_PARENT = 1  #: PR_SET_PDEATHSIG of prctl: nobody wakes a stopped process that is left behind


def timed(function) -> float:
    """Return the seconds of one call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def turn(function) -> list[float]:
    """Return the milliseconds of some calls, after some that are not counted."""
    first = timed(function)
    if first >= LONG:
        return [1e3 * first]
    start = time.perf_counter()
    while time.perf_counter() - start < WARM:
        function()
    times = []
    while len(times) < MIN_CALLS or (len(times) < MAX_CALLS and sum(times) < SECONDS):
        times.append(timed(function))
    return [1e3 * seconds for seconds in times]


def products(product) -> float:
    """Return the GFLOP/s of the fastest of several square products."""
    best = 0.0
    for n in (512, 768, 1024, 1536, 2048):
        run = product(n)
        run()
        best = max(best, 2 * n**3 / min(timed(run) for _ in range(8)) / 1e9)
    return best


def resident(what: str) -> float:
    """Return VmRSS or VmHWM of this process in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(what))


class Framework:
    """What can be asked of the process."""

    def __init__(self, module: str, name: str):
        self.candidates, self.product = getattr(importlib.import_module(module), name)()
        self.ready = {}

    def prepare(self, **case):
        """Make the candidates of a case ready: traced, compiled, run. Return their notes."""
        self.ready = self.candidates(**case)
        notes = {}
        for name, function in self.ready.items():
            if timed(function) < LONG:
                function()
            notes[name] = function.note() if hasattr(function, "note") else None
        return notes

    def turn(self, name):
        return turn(self.ready[name])

    def forget(self):
        self.ready.clear()

    def products(self):
        return products(self.product)

    def memory(self, name, **case):
        """Return the peak of this process above what it holds once the framework is there and has run a product."""
        self.product(8)()
        before = resident("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # from now on, not from the import, counts the high-water mark
        function = self.candidates(**case, only=name)[name]
        function(), function()
        return resident("VmHWM") - before


def main() -> None:
    """Answer until there are no more questions."""
    ctypes.CDLL(None).prctl(DIE_WITH_PARENT, signal.SIGKILL)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the framework prints is not an answer
    try:
        framework = Framework(*sys.argv[1:3])
        answer = {"ready": True}
    except ModuleNotFoundError as error:
        answer = {"missing": str(error)}
    print(json.dumps(answer), file=answers, flush=True)
    for line in sys.stdin:
        what, arguments = json.loads(line)
        print(json.dumps(getattr(framework, what)(**arguments)), file=answers, flush=True)


if __name__ == "__main__":
    main()
