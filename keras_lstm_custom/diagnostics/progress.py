"""A progress bar for work that turns out to be slow."""

from __future__ import annotations

import time
from typing import Any

import keras

#: Seconds after which a progress bar appears.
SLOW = 2.0


class Progress:
    """Counts sequences that are through the model; while a batch runs, the share of it that its layers have read."""

    def __init__(self, total: int, layers: int, verbose: int | str):
        self._total = total
        self._verbose = verbose
        self._done = self._in_batch = 0  # sequences: in finished batches, and in the one that runs
        self._read = 0.0  # layer calls of the batch that runs
        self._calls = layers  # how many there will be; a first guess
        self._started = time.monotonic()
        self._bar: Any = None

    @classmethod
    def of_rows(cls, total: int, verbose: int | str) -> Progress:
        """Return one to which `add` counts rows, so many in all."""
        progress = cls(total, total, verbose)
        progress.begin(total)
        return progress

    def begin(self, sequences: int) -> None:
        """Say that the batch before is done, and the next one holds so many sequences."""
        if self._in_batch:
            self._calls = max(1, round(self._read))
        self._done += self._in_batch
        self._in_batch, self._read = sequences, 0.0
        self._show()

    def add(self, calls: float) -> None:
        """Count so much of one layer's call, or so many rows."""
        self._read += calls
        self._show()

    def finish(self) -> None:
        """Close the bar, if there is one."""
        if self._bar is not None:
            self._bar.update(self._total, finalize=True)

    def _show(self) -> None:
        slow = self._verbose == "auto" and time.monotonic() - self._started > SLOW
        if self._bar is None and (self._verbose == 1 or slow):
            self._bar = keras.utils.Progbar(self._total, unit_name="sequence")
        if self._bar is not None:
            share = min(1.0, self._read / self._calls)
            done = self._done + int(share * self._in_batch)
            self._bar.update(min(done, self._total - 1), finalize=False)  # `finish` says that all are done
