"""Integer arithmetic, number by number: sums, products, quotients, and functions by tables."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from keras_lstm_custom.export.plain_c.graph.ir import FUNCTIONS, Value, unshaped
from keras_lstm_custom.export.plain_c.graph.schedule import Group
from keras_lstm_custom.export.plain_c.integers import fixed_point as fp
from keras_lstm_custom.export.plain_c.integers.places import IntegerPlaces
from keras_lstm_custom.export.plain_c.reading.frame import Unsupported
from keras_lstm_custom.export.plain_c.writing.text import Address, loop

COMPARISONS = {"eq": "==", "ne": "!=", "gt": ">", "ge": ">="}
ARITHMETIC = ("add", "sub", "mul", "max", "min", "abs", "same", "where", "div", "sqrt", *COMPARISONS)
REFUSED = ("pow", "floor")
#: A table of a function has so many numbers at least, and at most (of two bytes each).
FEWEST, MOST = 128, 2048


class IntegerMaps(IntegerPlaces):
    """Writes elementwise integer arithmetic."""

    def __init__(self, *arguments: Any):
        """Take what `IntegerPlaces` takes."""
        super().__init__(*arguments)
        self._rests: dict[int, Value] = {}  #: of what is computed now: by an input's number, what is behind its int16
        self.notes = ("σ and tanh by one table of 258 numbers: errors of at most 1.3e-5 and 2.6e-5.",)

    def elementwise(self, group: Group) -> list[str]:
        self._locals: dict[int, fp.Number] = {}
        lines: list[str] = []
        for value in group.values:
            found = self._computed(value)
            if value.kind == "map" and not found.text.lstrip("-").isalnum():
                lines.append(f"const int32_t v{value.number} = {found.text};")
                found = found._replace(text=f"v{value.number}")
            self._locals[value.number] = found
        for value in group.values:
            for to, places in self._written_to(value, group):
                lines.append(f"{to.at('k')} = {self._narrow(self._locals[value.number], places)};")
        lines = loop("k", group.values[0].size, lines)
        for value in group.values:
            if "sent" in value.attributes:
                lines.append(self.send(value))
        return lines

    def send(self, value: Value) -> str:
        """Return the line that gives a value to the caller."""
        raise NotImplementedError

    def _written_to(self, value: Value, group: Group) -> list[tuple[Address, int]]:
        found = [(self.address(s), self.places(s)) for s in self.memory.shared.get(value.number, [])]
        own = (self.address(value), self.places(value)) if self._has_place(value, bool(found)) else None
        return [*found, *([own] if own else [])]

    def _has_place(self, value: Value, shared: bool) -> bool:
        if "sent" in value.attributes or value.number in self.schedule.stored:
            return True
        return not shared and value.number in self.schedule.buffered

    def _narrow(self, number: fp.Number, places: int) -> str:
        """Return a number as an int16 of these places."""
        places = min(places, number.places + fp.FARTHEST)
        if number.places < places and number.bound * 2 ** (places - number.places) > fp.LIMIT:
            most = fp.LIMIT >> (places - number.places + 1)
            number = fp.Number(f"{self.helper('clip')}({number.text}, {-most}, {most})", number.places, most)
        number = fp.shifted(number, places)
        return f"(int16_t)({number.text})" if number.bound <= 32767 else f"{self.helper('sat')}({number.text})"

    def _operand(self, value: Value, places: int | None = None) -> fp.Number:
        if value.number in self._rests:
            rest = self._rests.pop(value.number)
            return _added(self._operand(value, places), self._operand(rest))
        base = unshaped(value)
        if base.number in self._locals:
            return self._locals[base.number]
        if base.kind == "const" and base.size == 1:
            return fp.constant(base.array[0], places)
        return fp.Number(self.address(value).at(*([] if value.size == 1 else ["k"])), self.places(value), 32768)

    def _pair(self, a: Value, b: Value) -> tuple[fp.Number, fp.Number]:
        """Return two operands; a constant has the places of what it is compared with or added to."""
        if unshaped(a).kind == "const" and unshaped(a).size == 1:
            y = self._operand(b)
            return self._operand(a, y.places), y
        x = self._operand(a)
        return x, self._operand(b, x.places)

    def _compared(self, a: Value, b: Value) -> tuple[fp.Number, fp.Number]:
        """Return two operands that may be equal: a constant beyond int16 lies where a number in memory is cut off."""
        if unshaped(a).kind == "const":
            a, b = b, a
        x, y = self._pair(a, b)
        if unshaped(b).kind == "const" and b.size == 1 and x.bound <= 32768:
            y = fp.Number(str(fp.quantised(unshaped(b).array, x.places)[0]), x.places, 32768)
        return x, y

    def _computed(self, value: Value) -> fp.Number:
        fn, inputs = value.fn, self._whole_inputs(value)
        if fn in REFUSED:
            raise Unsupported(f"{fn} in integers, in {value.layer!r}")
        if fn == "same":
            x = self._operand(inputs[0])
            if "coarse" not in value.attributes:
                return x
            return fp.Number(self._narrow(x, self.places(value)), self.places(value), 32768)
        if fn == "rest":
            return self._rest(self._operand(inputs[0]), value)
        if fn == "mul":
            return self._multiplied(*inputs)
        if fn == "abs":
            x = self._operand(inputs[0])
            return x._replace(text=f"{x.text} < 0 ? -({x.text}) : {x.text}")
        if fn == "div":
            return self._divided(value, *inputs)
        if fn == "sqrt":
            x = self._operand(inputs[0])
            finest = fp.room_for(x)
            x = fp.shifted(x, finest - finest % 2)
            return fp.Number(f"{self.helper('sqrt')}({x.text})", x.places // 2, math.isqrt(x.bound) + 1)
        if fn in ("sigmoid", "tanh"):
            x = self._operand(inputs[0])
            x = fp.shifted(x, min(fp.room_for(x) - 1, x.places, 20))  # tanh takes it twice
            x = self._within(x, max(x.places, 6), -16.0, 16.0)
            return fp.Number(f"{self.helper(fn)}({x.text}, {x.places})", 15, 32767)
        if fn == "exp":
            return self._exponential(value)
        if fn not in ARITHMETIC:
            return self._by_table(value)
        condition = self._operand(inputs[0]) if fn == "where" else None
        x, y = self._compared(*inputs) if fn in ("eq", "ne") else self._pair(*inputs[-2:])
        if fn in ("add", "sub"):
            return _added(x, y, "+" if fn == "add" else "-")
        places = fp.common(x, y, added=False)
        x, y = fp.shifted(x, places), fp.shifted(y, places)
        if fn in COMPARISONS:
            return fp.Number(f"({x.text}) {COMPARISONS[fn]} ({y.text}) ? 1 : 0", 0, 1)
        test = f"{condition.text} != 0" if condition else f"({x.text}) {'>' if fn == 'max' else '<'} ({y.text})"
        return fp.Number(f"{test} ? ({x.text}) : ({y.text})", places, max(x.bound, y.bound))

    def _whole_inputs(self, value: Value) -> list[Value]:
        """Return what a value reads, and remember the rests of it."""
        of = value.attributes.get("rests", [])
        inputs = value.inputs[: len(value.inputs) - len(of)]
        self._rests = {inputs[n].number: rest for n, rest in zip(of, value.inputs[len(inputs) :], strict=True)}
        return inputs

    def _multiplied(self, a: Value, b: Value) -> fp.Number:
        rest = self._rests.pop(a.number, None)
        if rest is not None:
            return _added(self._multiplied(a, b), self._multiplied(rest, b))
        if b.number in self._rests:
            return self._multiplied(b, a)
        x, y = fp.factors(self._operand(a), self._operand(b))
        return fp.Number(f"({x.text}) * ({y.text})", x.places + y.places, x.bound * y.bound)

    def _rest(self, number: fp.Number, value: Value) -> fp.Number:
        """Return what a number is more than its int16."""
        coarse, places = self.places(value.rest_of), self.places(value)
        if number.places <= coarse:
            return fp.Number("0", places, 0)
        number = fp.shifted(number, min(number.places, coarse + fp.FARTHEST))
        rounded = f"({self._narrow(number, coarse)}) * {2 ** (number.places - coarse)}"
        rest = number._replace(text=f"(({number.text}) - {rounded})")
        return fp.Number(self._narrow(rest, places), places, 32768)

    def _exponential(self, value: Value) -> fp.Number:
        x, places = self._operand(value.inputs[0]), self.places(value)
        x = x if x.places >= 0 else self._within(x, 0, -64.0, 64.0)
        self.tell("exp by one table of 65 numbers: a relative error of at most 3e-5.")
        return fp.Number(f"{self.helper('exp')}({x.text}, {x.places}, {places})", places, 32768)

    def tell(self, note: str) -> None:
        """Let the report say something, once."""
        if note not in self.notes:
            self.notes = (*self.notes, note)

    def _divided(self, value: Value, *inputs: Value) -> fp.Number:
        a, b = (self._operand(v) for v in inputs)
        places = self.places(value)
        while a.bound << max(places + b.places - a.places, 0) >= 2**62:  # it is computed in int64
            b = fp.shifted(b, b.places - 1)
        shift = max(places + b.places - a.places, -62)
        return fp.Number(f"{self.helper('div')}({a.text}, {b.text}, {shift})", places, 32768)

    def _within(self, number: fp.Number, places: int, low: float, high: float) -> fp.Number:
        """Return a number with these places; where they have no room for it, between two ends."""
        if number.places >= places:
            return fp.shifted(number, places)
        if number.bound * 2 ** (places - number.places) > fp.LIMIT:
            ends = math.floor(low * 2.0**number.places), math.ceil(high * 2.0**number.places)
            text = f"{self.helper('clip')}({number.text}, {ends[0]}, {ends[1]})"
            number = fp.Number(text, number.places, max(map(abs, ends)) + 1)
        return fp.shifted(number, places)

    def _by_table(self, value: Value) -> fp.Number:
        """Return a function of one number by linear interpolation between its values: as many as it needs."""
        low, high, lowest = self._domains[value.number]
        if value.fn in ("log", "log1p"):  # not down to where they end
            end = -1.0 if value.fn == "log1p" else 0.0
            low = end + max((lowest - end) / 2, 1e-3)
        high = max(high, low + 1e-3)
        function = FUNCTIONS[value.fn]
        fraction = math.floor(math.log2(FEWEST / (high - low)))
        while True:
            first = math.floor(low * 2.0**fraction)
            count = math.ceil(high * 2.0**fraction) - first + 2
            places_at = (first + np.arange(count + 1)) / 2.0**fraction
            values = function(places_at)
            between = np.abs((values[1:] + values[:-1]) / 2 - function((places_at[1:] + places_at[:-1]) / 2)).max()
            if 2 * count > MOST or between <= np.abs(values).max() * 2.0**-14:
                break
            fraction += 1
        places = fp.places_for(float(np.abs(values).max()))
        self.tell(f"{value.fn} in {value.layer!r} by {count + 1} numbers of a table: error at most {between:.1e}.")
        table = self.constant("int16_t", fp.quantised(values, places))
        ends = (first * 128, (first + count) * 128 - 1)
        x = self._within(self._operand(value.inputs[0]), fraction + 7, places_at[0], places_at[-1])
        text = f"{self.helper('table')}({table}, {ends[0]}, {self.helper('clip')}({x.text}, {ends[0]}, {ends[1]}))"
        return fp.Number(text, places, 32768)


def _added(x: fp.Number, y: fp.Number, sign: str = "+") -> fp.Number:
    places = fp.common(x, y, added=True)
    x, y = fp.shifted(x, places), fp.shifted(y, places)
    return fp.Number(f"(({x.text}) {sign} ({y.text}))", places, x.bound + y.bound)
