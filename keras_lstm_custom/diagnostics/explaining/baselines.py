"""What a prediction is compared with: the baseline of every variable, one row or a sample of rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from keras import tree

from keras_lstm_custom.diagnostics.explaining.holding import HeldModel, Recording
from keras_lstm_custom.diagnostics.explaining.variables import Variable, steps_read
from keras_lstm_custom.errors import ArgumentError, InputError

Array = np.ndarray
WORDS = ("zeros", "mean")


class Data:
    """The rows to explain, and how the model reads them."""

    def __init__(self, held: HeldModel, x: Any, names: list[str], rows_at_a_time: int):
        self.held, self.x, self.names = held, x, names
        self.leaves: list[Array] = tree.flatten(x)
        self.batch = len(self.leaves[0])
        self.rows_at_a_time = rows_at_a_time
        self.alone = sum(leaf.ndim > 1 and leaf.dtype != bool for leaf in self.leaves) == 1

    def rows(self, numbers: Array) -> list[Array]:
        """Return these rows of every input."""
        return [leaf[numbers] for leaf in self.leaves]

    def record(self, leaves: list[Array]) -> Recording:
        """Run the model on rows and return what it computed."""
        return self.held.record(tree.pack_sequence_as(self.x, leaves))

    def blocks(self, numbers: Array | None = None) -> Iterator[tuple[Array, int]]:
        """Yield row numbers, always `rows_at_a_time` (the last ones repeat some), and how many of them are new."""
        numbers = np.arange(self.batch) if numbers is None else numbers
        for start in range(0, len(numbers), self.rows_at_a_time):
            part = numbers[start : start + self.rows_at_a_time]
            yield np.resize(part, self.rows_at_a_time), len(part)

    def mask(self, leaves: list[Array], number: int, recorded: Recording) -> Array | None:
        """Return the mask of an input, as these rows of it were read; or None."""
        return steps_read(leaves[number], recorded, self.alone)


def references(data: Data, variables: list[Variable], baseline: Any, first: Recording) -> tuple[list[Array], str]:
    """Return for each variable its reference rows, `(1 or n, ...)`, and what they are called.

    `baseline` is that of `attribute`; `first` is any recording, for the shapes.
    """
    parts = _by_input(data, "zeros" if baseline is None else baseline)
    parts = ["zeros" if part is None else part for part in parts]
    words = [part for part in parts if isinstance(part, str)]
    for word in words:
        if word not in WORDS:
            raise ArgumentError(
                "There is no baseline of that name.",
                expected=f"{', '.join(map(repr, WORDS))}, or an array",
                received=repr(word),
                remedy="Pass 'zeros', 'mean', one row, or a sample of rows (timesteps and features as in x).",
            )
    means = _means(data, variables) if "mean" in words else [np.zeros(0)] * len(variables)
    read = {variable.leaf for variable in variables if variable.call is not None and variable.column is None}
    rows = [
        None if isinstance(part, str) else _rows(np.asarray(part), leaf, name, number in read)
        for number, (part, leaf, name) in enumerate(zip(parts, data.leaves, data.names, strict=True))
    ]
    counts = sorted({len(row) for row in rows if row is not None} - {1})
    if len(counts) > 1:
        raise InputError(
            "The samples of the inputs must have as many rows, because a row is taken from all of them together.",
            expected=f"{counts[-1]} rows each",
            received=", ".join(
                f"{len(row)} of {name!r}" for name, row in zip(data.names, rows, strict=True) if row is not None
            ),
            remedy="Take the same rows of every input, or one row.",
        )
    count = counts[0] if counts else 1
    given = any(rows[variable.leaf] is not None for variable in variables if variable.call is not None)
    embedded = _embedded(data, rows, count) if given else []
    found = []
    for variable, mean in zip(variables, means, strict=True):
        row, shape = rows[variable.leaf], variable.at(data.leaves, first).shape[1:]
        if row is not None:
            found.append(row if variable.call is None else embedded[variable.call][:count])
        else:
            found.append(mean[None] if parts[variable.leaf] == "mean" else np.zeros((1, *shape)))
    label = words[0] if len(words) == len(parts) and len(set(words)) == 1 else _label(rows, count)
    return found, label


def _by_input(data: Data, baseline: Any) -> list[Any]:
    """Return the baseline of each input."""
    if isinstance(baseline, str):
        return [baseline] * len(data.leaves)
    if not tree.is_nested(data.x):
        return [baseline]
    if isinstance(data.x, dict) and isinstance(baseline, dict) and set(baseline) == set(data.x):
        return [baseline[key] for key in sorted(data.x)]
    if isinstance(baseline, (list, tuple)) and len(baseline) == len(data.leaves):
        return list(baseline)
    if len(data.leaves) == 1:
        return [baseline]
    raise ArgumentError(
        "The baseline does not name the inputs of the model.",
        expected=f"one baseline for each of {', '.join(map(repr, data.names))}, in a {type(data.x).__name__} like x, "
        "or 'zeros' or 'mean' for all",
        received=f"{type(baseline).__name__} with {', '.join(map(repr, baseline))}" if isinstance(baseline, dict)
        else f"{type(baseline).__name__} of length {len(baseline) if hasattr(baseline, '__len__') else 1}",
        remedy="Pass a dict (or list) with the same keys (or length) as x; None in it stands for zeros.",
    )  # fmt: skip


def _rows(baseline: Array, leaf: Array, name: str, tokens: bool) -> Array:
    """Return a baseline as rows `(n, ...)` like those of its input."""
    shape = leaf.shape[1:]
    if baseline.shape == shape or baseline.shape == () or (not tokens and baseline.shape == shape[-1:]):
        rows = np.broadcast_to(baseline, shape)[None]
    elif baseline.ndim == len(shape) + 1 and baseline.shape[1:] == shape and len(baseline):
        rows = baseline
    else:
        each = "one token number" if tokens else f"one number, {shape[-1:]} for each feature"
        raise InputError(
            f"The baseline of {name!r} has the wrong shape.",
            expected=f"{each}, {shape} for one row like those of x, or {('n', *shape)} for a sample of n rows",
            received=f"shape {baseline.shape}",
            remedy="Cut or reshape it; x[:20] of other data of the same kind is a sample of 20 rows.",
        )
    if tokens and not (np.issubdtype(rows.dtype, np.integer) or np.array_equal(rows, np.round(rows))):
        raise InputError(
            f"The baseline of {name!r} must hold token numbers, because an Embedding reads them.",
            expected="whole numbers, 'zeros' (vectors of zeros) or 'mean' (the mean vector of the tokens in x)",
            received=f"{rows.dtype}, from {rows.min()} to {rows.max()}",
            remedy="Pass the numbers of tokens, e.g. that of the padding.",
        )
    if not np.isfinite(rows).all():
        raise InputError(
            f"The baseline of {name!r} holds values that are not finite.",
            expected="finite numbers",
            received=f"{np.count_nonzero(~np.isfinite(rows))} of {rows.size} that are NaN or infinite",
            remedy="Drop or fill such rows first.",
        )
    return rows.astype(leaf.dtype)


def _embedded(data: Data, rows: list[Array | None], count: int) -> list[Array]:
    """Return what each call of an Embedding gives out for the reference rows, `(count or more, ...)`."""
    inputs = [
        np.resize(leaf[:1], (count, *leaf.shape[1:])) if row is None else np.resize(row, (count, *row.shape[1:]))
        for row, leaf in zip(rows, data.leaves, strict=True)
    ]
    size = data.rows_at_a_time
    parts = []
    for start in range(0, count, size):
        leaves = [np.resize(leaf[start : start + size], (size, *leaf.shape[1:])) for leaf in inputs]
        parts.append([vectors[: count - start] for _, vectors in data.record(leaves).embedded])
    return [np.concatenate(vectors) for vectors in zip(*parts, strict=True)]


def _means(data: Data, variables: list[Variable]) -> list[Array]:
    """Return the mean of each variable: of every feature over all rows and steps that are not masked.

    An input without steps, `(batch, features)`, has the mean over its rows.
    """
    sums: list[Any] = [0.0] * len(variables)
    counts: list[Any] = [0.0] * len(variables)
    shapes = []
    for numbers, new in data.blocks():
        leaves = data.rows(numbers)
        recorded = data.record(leaves)
        shapes = [variable.at(leaves, recorded).shape[1:] for variable in variables]
        for k, variable in enumerate(variables):
            values = variable.at(leaves, recorded)[:new].astype(np.float64)
            mask = data.mask(leaves, variable.leaf, recorded)
            steps = tuple(range(values.ndim - 1)) if values.ndim > 2 else (0,)
            weights = np.ones(values.shape[:2] if values.ndim > 2 else (new, 1))
            if mask is not None and values.ndim > 2:
                weights = mask[:new].astype(np.float64)
            weights = weights.reshape(*weights.shape, *[1] * (values.ndim - weights.ndim))
            sums[k] = sums[k] + (values * weights).sum(steps)
            counts[k] = counts[k] + (np.ones_like(values) * weights).sum(steps)
    return [np.broadcast_to(s / np.maximum(n, 1), shape) for s, n, shape in zip(sums, counts, shapes, strict=True)]


def _label(rows: list[Array | None], count: int) -> str:
    if count > 1:
        return f"a sample of {count} rows"
    return "a row of its own for each input" if len(rows) > 1 else "one row"
