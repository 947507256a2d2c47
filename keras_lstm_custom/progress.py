"""A progress bar for work that turns out to be slow."""

from __future__ import annotations

import time
from typing import Any

import keras

#: Seconds after which a progress bar appears.
SLOW = 2.0


class Bar:
    """A bar of Keras' that appears at once (`verbose=1`), never (0), or when the work turns out slow ("auto")."""

    def __init__(self, total: int, verbose: int | str, unit: str):
        self._total = total
        self._verbose = verbose
        self._unit = unit
        self._started = time.monotonic()
        self._bar: Any = None

    def show(self, done: int) -> None:
        """Say how much is done."""
        slow = self._verbose == "auto" and time.monotonic() - self._started > SLOW
        if self._bar is None and (self._verbose == 1 or slow):
            self._bar = keras.utils.Progbar(self._total, unit_name=self._unit)
        if self._bar is not None:
            self._bar.update(min(done, self._total - 1), finalize=False)  # `finish` says that all is done

    def finish(self) -> None:
        """Close the bar, if there is one."""
        if self._bar is not None:
            self._bar.update(self._total, finalize=True)
