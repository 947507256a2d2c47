"""A package run on real input and compared with the model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keras_lstm_custom.export.plain_c import host
from keras_lstm_custom.export.plain_c.package import Package
from keras_lstm_custom.export.plain_c.writing.files import files, write
from keras_lstm_custom.export.running.report import OutputError
from keras_lstm_custom.export.running.verify import output_error

Errors = tuple[OutputError, ...]

#: How far two computations in float32 may be from each other, as a share of the largest output: four times the half
#: of a step. Measured: up to 2.9 times, on sigmoid, tanh, softplus and linear outputs near 0.002 to 6.
ROUNDED = 4 * 2.0**-24


def largest(array: np.ndarray) -> float:
    """Return what the tolerance of an output is a share of."""
    return max(float(np.abs(array).max()), 1e-3)


@dataclass(frozen=True)
class Comparison:
    """Real input, what the model makes of it, and how far a package may be from that."""

    rows: Sequence[np.ndarray]  #: of each input
    expected: Sequence[np.ndarray]  #: of each output
    bound: float  #: the largest accepted error, as a share of the output's standard deviation
    folder: Path  #: where it is compiled
    floats: bool = False  #: whether both are computed in float32 alone, and nothing more is asked than that they agree

    def errors(self, package: Package) -> Errors:
        """Compile and run a package; return how far its outputs are from the model's."""
        return _errors(package, self.expected, self._outputs(package))

    def beyond(self, errors: Errors) -> Errors:
        """Return the errors that are not accepted."""
        shares = self._shares(errors)
        return tuple(error for error, share in shares if not error.relative_to_signal <= self.bound and not share)

    def hardly_moving(self, errors: Errors) -> list[str]:
        """Return a note on each output of which float32 shows less than the bound asks for."""
        return [
            f"{error.name!r} hardly moves: an error of {error.relative_to_signal:.1e} of its deviation is {share:.1e}"
            " of its largest value, as near as two computations in float32 are."
            for error, share in self._shares(errors)
            if not error.relative_to_signal <= self.bound and share
        ]

    def _shares(self, errors: Errors) -> Iterator[tuple[OutputError, float]]:
        """Yield each error, and the share of the largest value that it is, if that is no more than float32 rounds."""
        for error, wanted in zip(errors, self.expected, strict=True):
            most = float(np.abs(wanted).max())
            yield error, error.rmse / most if self.floats and 0 < error.rmse <= ROUNDED * most else 0.0

    def settle(self, package: Package) -> None:
        """Let a package's test expect what this computer makes of its rows, within what other compilers round.

        The model's own numbers would need a tolerance as wide as the farthest value, which no bound on the mean error
        limits; and so wide a test would not see much.
        """
        emitter = package.emitter
        package.expected = host.run(package, self.folder, package.rows, emitter.test_number, emitter.test_end)
        package.tolerance = [emitter.rounding * largest(wanted) for wanted in self.expected]

    def _outputs(self, package: Package) -> list[np.ndarray]:
        write(self.folder, files(package))
        return host.run(package, self.folder, [np.asarray(array, np.float32) for array in self.rows])


def _errors(package: Package, expected: Sequence[np.ndarray], got: Sequence[np.ndarray]) -> Errors:
    return tuple(
        output_error(port.name, wanted, found.reshape(wanted.shape))
        for port, wanted, found in zip(package.outputs, expected, got, strict=True)
    )
