"""What packages of integers need besides code: ranges of values, and weights in the order in which they are read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from keras_lstm_custom.errors import ExportError
from keras_lstm_custom.export.plain_c.graph import interpret
from keras_lstm_custom.export.plain_c.graph.ir import VIEWS, Value, ordered, unshaped, viewed
from keras_lstm_custom.export.plain_c.integers.fixed_point import INFINITE
from keras_lstm_custom.export.plain_c.integers.weights import Moments
from keras_lstm_custom.export.quantization.room import with_room

#: As far below the other numbers minus infinity lies in integers: exp makes 1e-7 of it.
FAR = 16.0
#: What int16 hold of a state that σ or tanh read: in steps of 1/128. In a sum over time such steps err by up to 2 %.
LARGEST_STATE = 256.0


class Interval(NamedTuple):
    """What values to expect."""

    low: float
    high: float
    lowest: float  #: that was seen


class Seen(NamedTuple):
    """What values were on real input."""

    ranges: dict[int, Interval]  #: of every value, with room for what so few rows have not shown
    moments: dict[int, Moments]  #: of what every product reads


def observe(outputs: list[Value], rows: list[np.ndarray], largest: float = INFINITE, at_once: int = 16) -> Seen:
    """Return what the values behind `outputs` are on rows of real input.

    What stands for minus infinity does not count for a range; where it is, there is room for something far below.
    Any row of a table may be asked for, whether it was here or not.

    Raises:
        ExportError: a value is not below `largest`, or no number at all, so that nothing is left to compute with.
    """
    found: dict[int, tuple[float, float, int]] = {}
    without: set[int] = set()  # of what stands for minus infinity somewhere
    by_number = {value.number: value for value in ordered(outputs)}
    unlimited = {x.number for load in by_number.values() if load.kind == "load" for x in load.inputs}
    unlimited |= {value.number for value in by_number.values() if value.kind == "const"}
    products = [value for value in by_number.values() if value.kind == "linear"]
    moments = {value.number: Moments() for value in products}
    for start in range(0, len(rows[0]), at_once):
        values = interpret.run(outputs, [array[start : start + at_once] for array in rows])
        for number, array in values.items():
            if number not in unlimited and not array.max() < largest:
                raise too_wide(by_number[number], "a value", largest, float(array.max()))
            finite = array[array > -INFINITE]
            if finite.size < array.size and by_number[number].kind != "state":
                without.add(number)
            low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
            before = found.get(number, (low, high, 0))
            found[number] = (min(low, before[0]), max(high, before[1]), before[2] + finite.size)
        for value in products:
            moments[value.number].add(_read(value, [values[v.number] for v in value.inputs]))
    ranges = {n: Interval(*with_room(low, high, count), low) for n, (low, high, count) in found.items()}
    ranges |= {n: ranges[n]._replace(low=ranges[n].low - FAR) for n in without}
    for number, value in by_number.items():
        if value.kind == "gather":
            low = float(value.array.min())
            ranges[number] = Interval(min(low, 0.0), max(float(value.array.max()), 0.0), low)
    return Seen(ranges, moments)


def check_states(outputs: list[Value], ranges: Mapping[int, Interval]) -> None:
    """Refuse states that σ or tanh read, such as c, and of which int16 hold too coarse steps.

    Raises:
        ExportError: one is larger than `LARGEST_STATE` on real input.
    """
    values = ordered(outputs)
    squashed = {unshaped(v.inputs[0]).number for v in values if v.kind == "map" and v.fn in ("sigmoid", "tanh")}
    for state in values:
        if state.kind == "state":
            found = ranges[state.next.number]
            most = max(-found.low, found.high)
            if most > LARGEST_STATE and squashed & {v.number for v in _passed_on(state.next)}:
                raise too_wide(state.next, f"|{state.name}|", LARGEST_STATE, most)


def _passed_on(value: Value) -> Iterator[Value]:
    """Yield a value, and those of which it is one or the other."""
    value = unshaped(value)
    yield value
    if value.kind == "map" and value.fn in ("where", "max", "min", "same"):
        for source in value.inputs[-2:]:
            yield from _passed_on(source)


def too_wide(value: Value, what: str, most: float, received: float) -> ExportError:
    """Return the error for values that integers cannot hold."""
    return ExportError(
        f"{value.layer!r} computes larger numbers than integers can hold.",
        expected=f"{what} of at most {most:g} on the calibration samples",
        received=f"{what} of {received:.3g}",
        remedy="Scale the inputs, train with weight decay or shorter sequences, or compute in float: None or 'int8'.",
    )


def _read(product: Value, arrays: list[np.ndarray]) -> np.ndarray:
    """Return the numbers that a product reads at each position, `(positions, columns)`."""
    rank = max(array.ndim for array in arrays)
    arrays = [array[:, None] if array.ndim < rank else array for array in arrays]
    parts = [interpret.read_by(product, a, kernel) for a, kernel in zip(arrays, product.kernels, strict=True)]
    lead = np.broadcast_shapes(*(part.shape[:-1] for part in parts))
    whole = np.concatenate([np.broadcast_to(part, (*lead, part.shape[-1])) for part in parts], axis=-1)
    return whole.reshape(-1, whole.shape[-1])


def load_standardised(outputs: list[Value]) -> None:
    """Let inputs that only a Normalization of theirs reads come in as what it gives.

    One scale for all of an input would leave nothing of a feature in small units beside one in large units.
    """
    readers: dict[int, list[Value]] = defaultdict(list)
    for value in ordered(outputs):
        for source in value.inputs:
            readers[source.number].append(value)
    for x in ordered(outputs):
        chain = [x]
        while len(chain) < 3 and len(readers[chain[-1].number]) == 1:
            (reader,) = readers[chain[-1].number]
            if "exact" not in reader.attributes or reader.inputs[1].kind != "const":
                break
            chain.append(reader)
        if x.kind == "input" and len(chain) == 3:
            _, away, y = chain
            y.attributes = {"offset": away.inputs[1].array, "factor": y.inputs[1].array}
            y.kind, y.inputs = "load", [x]


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
            if value.kind == "load" or viewed(source).kind != "input" or value.kind in VIEWS or value.kind == "window":
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
