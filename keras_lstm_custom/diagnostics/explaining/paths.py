"""Attributions of a block of rows: gradients along the way from the baseline, and parts of the input taken away."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields, replace
from itertools import islice
from typing import Any

import numpy as np
from keras import ops, tree

from keras_lstm_custom.diagnostics.autodiff import no_gradients, repeated, value_and_gradients
from keras_lstm_custom.diagnostics.explaining.baselines import Data
from keras_lstm_custom.diagnostics.explaining.holding import Recording
from keras_lstm_custom.diagnostics.explaining.targets import Target
from keras_lstm_custom.diagnostics.explaining.variables import Variable
from keras_lstm_custom.diagnostics.progress import Progress
from keras_lstm_custom.structures import Tensor

Array = np.ndarray
#: One version of a block of rows: each variable with other values, `(rows, ...)`.
Version = list[Array]


class Block:
    """Rows of the data, and what the model computed for them."""

    def __init__(self, data: Data, numbers: Array, variables: list[Variable]):
        self.numbers = numbers
        self.leaves = data.rows(numbers)
        self.recorded: Recording = data.record(self.leaves)
        self.values: Version = [variable.at(self.leaves, self.recorded) for variable in variables]


class Runner:
    """Runs versions of a block through the model, several at a time, and gives values or gradients of the target."""

    def __init__(self, data: Data, variables: list[Variable], target: Target, versions_at_a_time: int):
        self._data, self._variables, self._target = data, variables, target
        self._at_a_time = versions_at_a_time
        self._value = repeated(self._pick_only)
        self._gradient = repeated(self._differentiate)

    def values(self, block: Block, versions: Iterable[Version], progress: Progress) -> Iterator[Array]:
        """Return the target for each version, `(rows,)`."""
        return self._run(self._value, block, versions, progress)

    def gradients(self, block: Block, versions: Iterable[Version], progress: Progress) -> Iterator[Version]:
        """Return the gradient of the target with respect to every variable, for each version."""
        return self._run(self._gradient, block, versions, progress)

    def _run(self, function: Callable, block: Block, versions: Iterable[Version], progress: Progress) -> Iterator[Any]:
        rows, copies, held = len(block.numbers), 0, {}
        iterator = iter(versions)
        while part := list(islice(iterator, self._at_a_time)):
            count = len(part)
            part += [part[-1]] * (copies - count)  # the last run has the shape of those before, which is compiled
            if len(part) != copies:
                copies, held = len(part), self._held(block, len(part))
            joined = [ops.convert_to_tensor(np.concatenate(arrays)) for arrays in zip(*part, strict=True)]
            found = tree.map_structure(lambda v: ops.convert_to_numpy(v).astype(np.float64), function(joined, held))
            progress.add(count * rows)
            for k in range(count):
                here = slice(k * rows, (k + 1) * rows)
                yield tree.map_structure(lambda array, here=here: array[here], found)

    def _held(self, block: Block, copies: int) -> dict[str, Any]:
        """Return what is the same in all versions, once for each of them."""

        def repeated(array: Array) -> Tensor:
            # What has no axis of rows fits any number of them; an axis folded into the rows comes after them.
            whole = array.ndim > 0 and len(array) % len(block.numbers) == 0
            return ops.convert_to_tensor(np.concatenate([array] * copies) if whole else array)

        return {
            "leaves": [repeated(leaf) for leaf in block.leaves],
            "masks": {key: repeated(mask) for key, mask in block.recorded.masks.items()},
            "place": repeated(self._target.place[block.numbers]),
        }

    def _pick(self, values: list[Tensor], held: dict[str, Any]) -> Tensor:
        leaves, vectors = list(held["leaves"]), {}
        for variable, tensor in zip(self._variables, values, strict=True):
            if variable.call is None:
                leaves[variable.leaf] = tensor
            else:
                vectors[variable.call] = tensor
        output = self._data.held.run(tree.pack_sequence_as(self._data.x, leaves), held["masks"], vectors)
        return self._target.pick(output, held["place"])

    def _pick_only(self, values: list[Tensor], held: dict[str, Any]) -> Tensor:
        with no_gradients():
            return self._pick(values, held)

    def _differentiate(self, values: list[Tensor], held: dict[str, Any]) -> list[Tensor]:
        return value_and_gradients(lambda tensors: ops.sum(self._pick(tensors, held)), values)[1]


@dataclass
class Panels:
    """Pieces of the ways from reference rows to rows of the data, one after the other in arrays of the same length."""

    row: Array  #: of the data
    sample: Array  #: which reference row the way comes from
    start: Array  #: share of the way behind it: 0 at the reference
    stop: Array  #: 1 at the row of the data
    low: Array  #: the target at `start`
    high: Array  #: the target at `stop`

    def __len__(self) -> int:
        return len(self.row)

    def take(self, numbers: Array) -> Panels:
        """Return these panels."""
        return Panels(*(getattr(self, field.name)[numbers] for field in fields(self)))

    def halves(self, middle: Array) -> Panels:
        """Return the first halves, then the second ones; `middle` is the target between them."""
        cut = (self.start + self.stop) / 2
        first, second = replace(self, stop=cut, high=middle), replace(self, start=cut, low=middle)
        return first.joined(second)

    def joined(self, other: Panels) -> Panels:
        """Return these panels and the others after them."""
        pairs = ((getattr(self, field.name), getattr(other, field.name)) for field in fields(self))
        return Panels(*map(np.concatenate, pairs))


def panel_gradients(
    runner: Runner, block: Block, references: list[Array], panels: Panels, points: int, progress: Progress
) -> Version:
    r"""Return (x - x') times the integral of the gradient over each panel, by Gauss-Legendre with `points` points.

    The rows of `block` are those of `panels`.
    """
    nodes, weights = np.polynomial.legendre.leggauss(points)
    width = panels.stop - panels.start
    shares = [panels.start + width * (node + 1) / 2 for node in nodes]
    versions = (_on_the_way(block, references, panels, share) for share in shares)
    totals = [np.zeros(values.shape) for values in block.values]
    for weight, gradient in zip(weights, runner.gradients(block, versions, progress), strict=True):
        for total, part in zip(totals, gradient, strict=True):
            total += _over(width * weight / 2, part) * part
    return [total * away for total, away in zip(totals, _away(block, references, panels), strict=True)]


def middle_values(runner: Runner, block: Block, references: list[Array], panels: Panels, progress: Progress) -> Array:
    """Return the target in the middle of each panel."""
    version = _on_the_way(block, references, panels, (panels.start + panels.stop) / 2)
    return next(runner.values(block, [version], progress))


def baseline_values(runner: Runner, block: Block, references: list[Array], progress: Progress) -> Array:
    """Return the target at every reference row with the masks of the data, `(rows, samples)`."""
    versions = (
        [_like(values, np.broadcast_to(rows[k % len(rows)], values.shape)) for rows, values in pairs]
        for k, pairs in ((k, zip(references, block.values, strict=True)) for k in range(max(map(len, references))))
    )
    return np.stack(list(runner.values(block, versions, progress)), axis=1)


def _away(block: Block, references: list[Array], panels: Panels) -> Version:
    """Return x - x' for each panel."""
    pairs = zip(block.values, references, strict=True)
    return [values.astype(np.float64) - rows[panels.sample % len(rows)] for values, rows in pairs]


def _on_the_way(block: Block, references: list[Array], panels: Panels, share: Array) -> Version:
    """Return x' + share (x - x'), counted from x, so that no rounding moves what is the same in both."""
    pairs = zip(block.values, _away(block, references, panels), strict=True)
    return [_like(values, values - _over(1 - share, away) * away) for values, away in pairs]


def _over(row_numbers: Array, values: Array) -> Array:
    """Return one number for each row in a shape that multiplies `values`."""
    return row_numbers.reshape(-1, *[1] * (values.ndim - 1))


def occlusion(
    runner: Runner, block: Block, variables: list[Variable], references: list[Array], progress: Progress
) -> Version:
    """Return by how much the target falls when one number (of tokens: one vector) is replaced by the baseline's.

    Over several references it is the mean of theirs.
    """
    count = max(map(len, references))
    totals = [np.zeros(values.shape) for values in block.values]

    def versions() -> Iterator[Version]:
        yield block.values
        for number, here in _places(block, variables):
            for k in range(count):
                changed = block.values[number].copy()
                changed[here] = references[number][k % len(references[number])][here[1:]]
                yield [changed if n == number else values for n, values in enumerate(block.values)]

    found = runner.values(block, versions(), progress)
    whole = next(found)
    for number, here in _places(block, variables):
        fall = np.mean([whole - next(found) for _ in range(count)], axis=0)
        part = totals[number][here]  # a view; a token's vector shares what is the token's
        part += _over(fall, part) / part[0].size
    return totals


def _places(block: Block, variables: list[Variable]) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """Yield the number of a variable and an index of one of its numbers, or of a token's vector, in all rows."""
    for number, (variable, values) in enumerate(zip(variables, block.values, strict=True)):
        shape = values.shape[1:] if variable.call is None else values.shape[1:-1]
        for place in np.ndindex(shape):
            yield number, (slice(None), *place)


def occluded(block: Block, variables: list[Variable]) -> int:
    """Return how many places there are to occlude."""
    return sum(1 for _ in _places(block, variables))


def _like(values: Array, array: Array) -> Array:
    return array.astype(values.dtype)
