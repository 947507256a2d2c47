"""A progress bar for work that turns out to be slow."""

from __future__ import annotations

import time
from typing import Any

import keras

#: Seconds after which a progress bar appears.
SLOW = 2.0


class Progress:
    """Counts sequences, once for each recurrent layer they pass through."""

    def __init__(self, total: int, verbose: int | str):
        self._total = total
        self._done = 0.0
        self._verbose = verbose
        self._started = time.monotonic()
        self._bar: Any = None

    def add(self, sequences: float) -> None:
        """Count `sequences` more, parts of one included."""
        self._done += sequences
        slow = self._verbose == "auto" and time.monotonic() - self._started > SLOW
        if self._bar is None and (self._verbose == 1 or slow):
            self._bar = keras.utils.Progbar(self._total, unit_name="sequence")
        if self._bar is not None and self._done < self._total - 0.5:
            self._bar.update(int(self._done), finalize=False)

    def finish(self) -> None:
        """Close the bar, if there is one."""
        if self._bar is not None:
            self._bar.update(self._total, finalize=True)
