"""How far a trace is, as a progress bar."""

from __future__ import annotations

from keras_lstm_custom.progress import Bar


class Progress:
    """Counts sequences that are through the model; while a batch runs, the share of it that its layers have read."""

    def __init__(self, total: int, layers: int, verbose: int | str):
        self._bar = Bar(total, verbose, "sequence")
        self._done = self._in_batch = 0  # sequences: in finished batches, and in the one that runs
        self._read = 0.0  # layer calls of the batch that runs
        self._calls = layers  # how many there will be; a first guess

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
        self._bar.finish()

    def _show(self) -> None:
        share = min(1.0, self._read / self._calls)
        self._bar.show(self._done + int(share * self._in_batch))
