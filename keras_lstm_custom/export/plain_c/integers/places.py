"""With how many binary places values lie in memory as integers: from what they were on real input."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from keras_lstm_custom.export.plain_c.graph.ir import VIEWS, Value, ordered, viewed
from keras_lstm_custom.export.plain_c.integers import fixed_point as fp
from keras_lstm_custom.export.plain_c.integers.data import Interval, with_loads
from keras_lstm_custom.export.plain_c.integers.remainders import normalised
from keras_lstm_custom.export.plain_c.writing.emitter import Emitter

#: How many binary places more than its value the rest of a value has that takes two int16.
REST = 13
#: From here on the table of σ is 1, and so of tanh.
SATURATED = 8.0


class IntegerPlaces(Emitter):
    """Knows the binary places of every value."""

    number = "int16_t"
    unit, pad = 2, 4

    def __init__(
        self, name: str, outputs: list[Value], inputs: int, rows: list[np.ndarray], found: dict[int, Interval]
    ):
        """Take what `Emitter` takes, rows of real input, and the range of each value on them."""
        self._whole = {
            k: float(np.abs(array).max()) for k, array in enumerate(rows) if (array == np.round(array)).all()
        }
        for output in outputs:
            output.attributes["sent"] = output.attributes.pop("output")
        domains = {v.number: found[v.inputs[0].number] for v in ordered(outputs) if v.kind == "map"}
        before = with_loads(outputs)
        self._ranges = {new: found[old] for new, old in before.items() if old in found}
        self._domains = {new: domains[old] for new, old in before.items() if old in domains}
        super().__init__(name, outputs, inputs)
        self._places: dict[int, int] = {}
        self.output_count = len(outputs)
        #: by the index of an input: what loads it, less its mean and over its deviation
        self.standardised = {
            v.inputs[0].index: v for v in self.schedule.values if v.kind == "load" and "factor" in v.attributes
        }
        self.normalises = bool(normalised(self.schedule.values))

    def coarse(self) -> list[str]:
        states = [state for phase in self.schedule.phases for state in phase.states]
        if not states:
            return []
        state = min(states, key=self.places)
        step = f"in steps of {2.0 ** -self.places(state):.2g}"
        return [f"|{state.name}| of {state.layer!r} reaches {self.largest(state.next):.3g}, {step}"]

    def largest(self, value: Value) -> float:
        """Return the largest absolute value to expect."""
        expected = self._ranges.get(value.number)
        return max(-expected.low, expected.high) if expected else 0.0

    def places(self, value: Value) -> int:
        """Return the binary places with which a value lies in memory."""
        if value.number not in self._places:
            self._places[value.number] = self._find_places(value)
        return self._places[value.number]

    def _find_places(self, value: Value) -> int:
        if value.kind in VIEWS or value.kind in ("load", "window", "pick"):
            return self.places(value.inputs[0])
        if "rest_of" in value.attributes:
            return min(self.places(value.rest_of) + REST, fp.WIDEST)
        if value.kind == "input":
            return self._places_of_input(value)
        if value.kind in ("const", "table"):
            return fp.places_for(float(np.abs(value.array[value.array > -fp.INFINITE]).max(initial=0)))
        if value.number in self.memory.shared and value.number not in self.schedule.stored:
            return self.places(self.memory.shared[value.number][0])
        if value.kind == "reduce" and value.fn == "max":
            return self.places(value.inputs[0])
        if value.kind == "reduce" and value.fn == "rms":
            return min(fp.places_for(self.largest(value)), self.places(value.inputs[0]) + finer(value))
        if value.kind == "state":
            return fp.places_for(max(self.largest(value), self.largest(value.next)))
        if value.kind == "map" and value.fn in ("sigmoid", "tanh"):
            return 15
        readers = self.schedule.readers(value)
        largest = max(self.largest(value), self._last_token(readers))
        if value.kind == "linear" and not self._carried(value) and all(map(_saturates, readers)):
            largest = min(largest, SATURATED)
        return fp.places_for(largest)

    def _places_of_input(self, value: Value) -> int:
        loads = [v for v in self.schedule.values if v.kind == "load" and viewed(v.inputs[0]) is value]
        if value.index in self.standardised:
            return fp.places_for(self.largest(self.standardised[value.index]))
        readers = [reader for load in loads for reader in self.schedule.readers(load)]
        token = self._last_token(readers)
        if 2 <= max(self._whole.get(value.index, 0), token) < 32768:
            return 0
        # What is masked, and nothing else reads, may be cut off: `IntegerMaps._compared`.
        kept = [reader for reader in readers if reader.kind == "map" and reader.fn == "where"]
        compared = [reader for reader in readers if reader.kind == "map" and reader.fn in ("eq", "ne")]
        masked = kept and compared and len(kept) + len(compared) == len(readers)
        return fp.places_for(max(token, *map(self.largest, kept if masked else [value])))

    def _last_token(self, readers: Sequence[Value]) -> float:
        """Return the largest token that int16 hold and that one of these looks up; 0 if none does."""
        return min(max((len(r.array) - 1.0 for r in readers if r.kind == "gather"), default=0.0), 32767.0)

    def _carried(self, value: Value) -> bool:
        return any(viewed(state.next) is value for phase in self.schedule.phases for state in phase.states)

    def stored(self, value: Value) -> np.ndarray:
        numbers = fp.quantised(value.array, self.places(value))
        if any(reader.kind == "linear" for reader in self.schedule.readers(value)):
            return np.append(numbers, np.zeros(self.pad, np.int16))  # a product reads whole words
        return numbers

    def initial(self, state: Value, constant: Value) -> np.ndarray:
        return fp.quantised(constant.array, self.places(state))


def _saturates(reader: Value) -> bool:
    return reader.kind == "map" and reader.fn in ("sigmoid", "tanh")


def finer(value: Value) -> int:
    """Return how many binary places a root of squares may have more than what is squared, within 62 bits."""
    return 16 - math.ceil(math.log2(value.inputs[0].shape[-1]) / 2)
