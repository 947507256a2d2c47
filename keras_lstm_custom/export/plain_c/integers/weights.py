"""Weights as int8 with a scale for each row, rounded with a view to the numbers that they will be multiplied with.

A kernel that eight bits do not suit is the sum of two: the second holds what is left of the first, in finer steps.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from keras_lstm_custom.export.plain_c.graph.ir import Value, ordered

#: Of the mean variance of a product's inputs, what is added to each, since the rows seen are few.
DAMPING = 0.01
BLOCK = (
    1024  #: so many columns are rounded with a view to each other: a covariance of all would need memory for squares
)
#: How many steps of the second kernel are one of the first: from -127 to 127, they fill what lies between two of these.
FINER = 254
MOST = 127  #: of an int8 weight
#: Says of each input of a product whether its kernel is the sum of two.
Doubled = Callable[[Value], Sequence[bool]]


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
    scales = _scales(rows)
    return np.round(rows / scales[:, None]).astype(np.int8), scales


def _scales(rows: np.ndarray) -> np.ndarray:
    scales = np.abs(rows).max(axis=1) / MOST
    return np.where(scales > 0, scales, 1.0)


def quantise(
    outputs: Sequence[Value], seen: Mapping[int, Moments] | None = None, doubled: Doubled | None = None
) -> None:
    """Give every product behind `outputs` its kernels as int8, `quantised`, and the bias that goes with them.

    A product one of whose kernels is the sum of two reads its input twice, and has the attribute `doubled`. Products
    of the same kernels, as of a layer that is called twice, get the same numbers, so that these stand in flash once.

    Args:
        outputs: what the model gives.
        seen: what each product reads on real input; None = each weight goes to the nearest integer.
        doubled: which kernels are to be the sum of two, at twice their bytes; None = none of them.
    """
    alike: dict[tuple[bytes, ...], list[Value]] = defaultdict(list)
    for value in ordered(outputs):
        if value.kind == "linear":
            alike[tuple(kernel.tobytes() for kernel in value.kernels)].append(value)
    uses = Counter(kernel for kernels in alike for kernel in kernels)
    twice: set[bytes] = set()
    if doubled is not None:
        for kernels, values in alike.items():
            twice |= {kernel for v in values for kernel, two in zip(kernels, doubled(v), strict=True) if two}
    for kernels, values in alike.items():
        rows, two = [kernel.T for kernel in values[0].kernels], [kernel in twice for kernel in kernels]
        scales = [_scales(part) for part in rows]
        steps = [scale / FINER if of else scale for scale, of in zip(scales, two, strict=True)]
        numbers = [np.round(part / step[:, None]) for part, step in zip(rows, steps, strict=True)]
        more = np.zeros(len(rows[0]))
        if seen is not None and all(uses[kernel] == 1 for kernel in kernels):
            moments = Moments()
            for value in values:
                moments.merge(seen[value.number])
            has_bias = any(value.bias.any() for value in values)
            most = [MOST * (FINER + 1) if of else MOST for of in two]
            numbers, more = _compensated(rows, steps, most, moments, has_bias)
        for value in values:
            _give(value, numbers, scales, two)
            value.attributes["bias"] = value.bias + more


def _give(value: Value, numbers: Sequence[np.ndarray], scales: Sequence[np.ndarray], twice: Sequence[bool]) -> None:
    """Give a product its kernels as int8, and to one that is the sum of two its input twice."""
    inputs, kernels, quantised = [], [], []
    for x, kernel, number, scale, two in zip(value.inputs, value.kernels, numbers, scales, twice, strict=True):
        high = np.clip(np.round(number / FINER), -MOST, MOST) if two else number
        parts = [(high, scale), (number - FINER * high, scale / FINER)] if two else [(number, scale)]
        inputs += [x] * len(parts)
        coarse = (high * scale[:, None]).T
        kernels += [coarse, kernel - coarse] if two else [kernel]
        quantised += [(part.astype(np.int8), step) for part, step in parts]
    value.inputs = inputs
    value.attributes |= {"kernels": kernels, "quantised": quantised, **({"doubled": True} if any(twice) else {})}


def _compensated(
    parts: Sequence[np.ndarray], scales: Sequence[np.ndarray], most: Sequence[int], moments: Moments, has_bias: bool
) -> tuple[list[np.ndarray], np.ndarray]:
    """Return of rows how many steps each weight becomes such that their products err least, and the bias' share of it.

    Column by column is rounded, those first whose inputs vary most, and its error goes into the columns after it, as
    far as their inputs vary together with its own (Frantar et al. 2022, "GPTQ", arXiv:2210.17323). The mean error
    goes into the bias; where there is none, an input of zeros must go on giving zeros, which a layer normalisation
    behind it would else make large.
    """
    rows = np.concatenate(parts, axis=1)
    widths = [part.shape[1] for part in parts]
    steps = np.repeat(np.stack(scales, axis=1), widths, axis=1)
    limits = np.repeat(most, widths)
    numbers = np.concatenate(
        [
            _block(part, steps[:, start : start + BLOCK], limits[start:], moments.spread(start, has_bias))
            for start, part in _blocks(rows)
        ],
        axis=1,
    )
    mean_error = (rows - numbers * steps) @ moments.mean
    return np.split(numbers, np.cumsum(widths)[:-1], axis=1), mean_error if has_bias else np.zeros(len(rows))


def _block(rows: np.ndarray, steps: np.ndarray, limits: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Return how many steps each weight becomes."""
    order = np.argsort(-np.diag(spread), kind="stable")
    upper = np.linalg.cholesky(np.linalg.inv(spread[np.ix_(order, order)])).T
    left, numbers = rows[:, order], np.zeros(rows.shape)
    for place, column in enumerate(order):
        numbers[:, column] = np.clip(np.round(left[:, place] / steps[:, column]), -limits[column], limits[column])
        error = (left[:, place] - numbers[:, column] * steps[:, column]) / upper[place, place]
        left[:, place + 1 :] -= error[:, None] * upper[place, place + 1 :]
    return numbers
