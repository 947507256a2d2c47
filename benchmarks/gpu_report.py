"""What a part of `gpu.py` has found, on the disk after every row."""

from __future__ import annotations

import argparse
import json
import os
import threading
import time

import gpu_tables
import harness
import keras
from gpu_device import device

BACKEND = keras.backend.backend()
START = time.monotonic()


def elapsed() -> float:
    """Seconds since the start of this process, about."""
    return time.monotonic() - START


class Report:
    """Rows that are on the disk as soon as they are there, and a watch that ends the process in time."""

    def __init__(self, part: str, options: argparse.Namespace):
        self.rows, self.notes, self.options, self.part = [], [], options, part
        self.missing: list[str] = []  #: what is planned and not done
        self.head = harness.environment() | {"device": device(), "backend": BACKEND, "part": part}
        shard = "" if options.shard == (0, 1) else f"-{options.shard[0]}"
        again = "-no-graphs" if options.no_graphs else ""
        self.path = options.out / f"gpu-{part}-{BACKEND}{again}{shard}.json"
        options.out.mkdir(parents=True, exist_ok=True)
        self.over = False
        watch = threading.Timer(options.seconds + 20, self._stop)  # what does not look at the clock itself
        watch.daemon = True
        watch.start()

    def plan(self, labels: list[str]) -> None:
        self.missing = labels
        self.write()

    def done(self, label: str) -> None:
        self.missing.remove(label)
        self.write()

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
        content = self.head | {"seconds": round(elapsed(), 1), "notes": self.notes, "missing": self.missing}
        new = self.path.with_suffix(".new")
        new.write_text(json.dumps(content | {"rows": self.rows}, default=str))
        new.replace(self.path)  # whole, whenever the process ends

    def finish(self) -> int:
        self.write()
        print(f"\n== {self.part}, {BACKEND}, {self.head['device']}, {elapsed():.0f} s; {self.path.name}")
        print("\n".join([f"   note: {note}" for note in self.notes] + gpu_tables.of(self.part, self.rows)), flush=True)
        return gpu_tables.FAILED if any(not row.get("ok", True) for row in self.rows) else 0

    def _stop(self):
        self.note(f"cut off after {elapsed():.0f} s, in the middle of a row")
        self.finish()
        os._exit(gpu_tables.CUT_OFF)
