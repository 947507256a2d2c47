"""What packages of integers need besides code: ranges of values, and weights in the order in which they are read."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from keras_lstm_custom.export.plain_c import interpret
from keras_lstm_custom.export.plain_c.ir import VIEWS, Value, ordered
from keras_lstm_custom.export.quantization.room import with_room

NOTHING = -1e8  #: what is below stands for minus infinity, or for what a mask takes away (Keras subtracts 1e9)


class Interval(NamedTuple):
    """What values to expect."""

    low: float
    high: float
    lowest: float  #: that was seen


def ranges(outputs: list[Value], rows: list[np.ndarray], at_once: int = 16) -> dict[int, Interval]:
    """Return an interval for every value: what it was, and room for what so few rows have not shown.

    What stands for minus infinity does not count.
    """
    found: dict[int, tuple[float, float, int]] = {}
    for start in range(0, len(rows[0]), at_once):
        values = interpret.run(outputs, [array[start : start + at_once] for array in rows])
        for number, array in values.items():
            finite = array[np.abs(array) < -NOTHING]
            low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
            before = found.get(number, (low, high, 0))
            found[number] = (min(low, before[0]), max(high, before[1]), before[2] + finite.size)
    return {n: Interval(*with_room(low, high, count), low) for n, (low, high, count) in found.items()}


def with_loads(outputs: list[Value]) -> dict[int, int]:
    """Put in front of what reads an input a copy of it, in the package's own numbers, and number all values anew.

    Returns:
        For each value's new number the old one of the value whose range it has.
    """
    loads: dict[tuple, Value] = {}
    placed: list[Value] = []
    of: dict[int, int] = {}
    for value in ordered(outputs):
        for n, source in enumerate(value.inputs):
            base = source
            while base.kind in VIEWS:
                base = base.inputs[0]
            if base.kind != "input" or value.kind in VIEWS or value.kind == "window":
                continue
            key = (source.number, value.group)
            if key not in loads:
                load = loads[key] = Value("load", [source], source.steps, source.shape)
                load.group, load.layer = value.group, value.layer
                of[load.number] = source.number
                placed.append(load)
            value.inputs[n] = loads[key]
        placed.append(value)
    before = {number: of.get(value.number, value.number) for number, value in enumerate(placed)}
    for number, value in enumerate(placed):
        value.number = number
    return before


def by_four(numbers: np.ndarray) -> np.ndarray:
    """Return numbers of rows with zeros up to a multiple of four."""
    return np.concatenate([numbers, np.zeros(-len(numbers) % 4)]).astype(np.int64)


def packed_rows(numbers: np.ndarray) -> np.ndarray:
    """Return int8 rows as words of four weights, the first in the lowest byte: of four rows two words at a time."""
    rows, columns = numbers.shape
    whole = np.zeros((-(-rows // 4) * 4, -(-columns // 4) * 4), np.uint8)
    whole[:rows, :columns] = np.ascontiguousarray(numbers).view(np.uint8)
    words = whole.reshape(-1, 4, whole.shape[1] // 4, 4) @ np.array([1, 1 << 8, 1 << 16, 1 << 24], np.uint64)
    pairs = words.shape[2] // 2 * 2
    parts = []
    for block in words:
        parts += [block[:, :pairs].reshape(4, -1, 2).transpose(1, 0, 2).reshape(-1), block[:, pairs:].reshape(-1)]
    return np.concatenate(parts).astype(np.uint32)
