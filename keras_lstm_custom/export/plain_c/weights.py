"""Weights as int8 with a scale for each row, rounded with a view to the numbers that they will be multiplied with."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from keras_lstm_custom.export.plain_c.ir import Value, ordered

#: Of the mean variance of a product's inputs, what is added to each, since the rows seen are few.
DAMPING = 0.01
BLOCK = (
    1024  #: so many columns are rounded with a view to each other: a covariance of all would need memory for squares
)


class Moments:
    """Sums over all that a product was seen to read."""

    def __init__(self) -> None:
        self.count = 0
        self.sums: np.ndarray | float = 0.0
        self.squares: dict[int, np.ndarray | float] = {}  #: Σ x xᵀ of each block of columns, by its start

    def add(self, x: np.ndarray) -> None:
        """Take rows of numbers, `(rows, columns)`."""
        self._take(len(x), x.sum(0), {start: part.T @ part for start, part in _blocks(x)})

    def merge(self, other: Moments) -> None:
        """Take what another one has seen."""
        self._take(other.count, other.sums, other.squares)

    def _take(self, count: int, sums: np.ndarray | float, squares: Mapping[int, np.ndarray | float]) -> None:
        self.count, self.sums = self.count + count, self.sums + sums
        self.squares = {start: self.squares.get(start, 0.0) + square for start, square in squares.items()}

    @property
    def mean(self) -> np.ndarray:
        return np.asarray(self.sums) / self.count

    def spread(self, start: int, centred: bool) -> np.ndarray:
        """Return E x xᵀ of the block of columns that starts there, about the mean or zero, and a little of its own."""
        found = np.asarray(self.squares[start]) / self.count
        if centred:
            mean = self.mean[start : start + len(found)]
            found = found - np.outer(mean, mean)
        size = float(np.trace(found)) / len(found)
        damping = DAMPING + len(found) / self.count
        return found + np.eye(len(found)) * (damping * size if size > 0 else 1.0)


def _blocks(x: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    for start in range(0, x.shape[1], BLOCK):
        yield start, x[:, start : start + BLOCK]


def eight_bits(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of a matrix as int8, each number to the nearest, and the scale of each row."""
    scales = np.abs(rows).max(axis=1) / 127
    scales = np.where(scales > 0, scales, 1.0)
    return np.round(rows / scales[:, None]).astype(np.int8), scales


def quantise(outputs: Sequence[Value], seen: Mapping[int, Moments] | None = None) -> None:
    """Give every product behind `outputs` its kernels as int8, `quantised`, and the bias that goes with them.

    Products of the same kernels, as of a layer that is called twice, get the same numbers, so that these stand in
    flash once.

    Args:
        outputs: what the model gives.
        seen: what each product reads on real input; None = each weight goes to the nearest integer.
    """
    alike: dict[tuple[bytes, ...], list[Value]] = defaultdict(list)
    for value in ordered(outputs):
        if value.kind == "linear":
            alike[tuple(kernel.tobytes() for kernel in value.kernels)].append(value)
    uses = Counter(kernel for kernels in alike for kernel in kernels)
    for kernels, values in alike.items():
        rows = [kernel.T for kernel in values[0].kernels]
        quantised, more = [eight_bits(part) for part in rows], np.zeros(len(rows[0]))
        if seen is not None and all(uses[kernel] == 1 for kernel in kernels):
            moments = Moments()
            for value in values:
                moments.merge(seen[value.number])
            has_bias = any(value.bias.any() for value in values)
            quantised, more = _compensated(rows, [scales for _, scales in quantised], moments, has_bias)
        for value in values:
            value.attributes["quantised"] = quantised
            value.attributes["bias"] = value.bias + more


def _compensated(
    parts: Sequence[np.ndarray], scales: Sequence[np.ndarray], moments: Moments, has_bias: bool
) -> tuple[list[tuple[np.ndarray, np.ndarray]], np.ndarray]:
    """Return rows as int8 such that their products err least, and what the bias takes over of the error.

    Column by column is rounded, those first whose inputs vary most, and its error goes into the columns after it, as
    far as their inputs vary together with its own (Frantar et al. 2022, "GPTQ", arXiv:2210.17323). The mean error
    goes into the bias; where there is none, an input of zeros must go on giving zeros, which a layer normalisation
    behind it would else make large.
    """
    rows = np.concatenate(parts, axis=1)
    steps = np.concatenate([np.repeat(s[:, None], part.shape[1], 1) for s, part in zip(scales, parts, strict=True)], 1)
    numbers = np.concatenate(
        [
            _block(part, steps[:, start : start + BLOCK], moments.spread(start, has_bias))
            for start, part in _blocks(rows)
        ],
        axis=1,
    )
    split = np.split(numbers.astype(np.int8), np.cumsum([part.shape[1] for part in parts])[:-1], axis=1)
    mean_error = (rows - numbers * steps) @ moments.mean
    return list(zip(split, scales, strict=True)), mean_error if has_bias else np.zeros(len(rows))


def _block(rows: np.ndarray, steps: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Return how many steps each weight becomes."""
    order = np.argsort(-np.diag(spread), kind="stable")
    upper = np.linalg.cholesky(np.linalg.inv(spread[np.ix_(order, order)])).T
    left, numbers = rows[:, order], np.zeros(rows.shape)
    for place, column in enumerate(order):
        numbers[:, column] = np.clip(np.round(left[:, place] / steps[:, column]), -127, 127)
        error = (left[:, place] - numbers[:, column] * steps[:, column]) / upper[place, place]
        left[:, place + 1 :] -= error[:, None] * upper[place, place + 1 :]
    return numbers
