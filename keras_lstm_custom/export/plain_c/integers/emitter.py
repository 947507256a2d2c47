"""Packages that compute in integers: int8 weights with a scale for each row, int16 values, int32 between them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from keras_lstm_custom.export.plain_c.graph.ir import Value
from keras_lstm_custom.export.plain_c.integers import fixed_point as fp
from keras_lstm_custom.export.plain_c.integers.places import finer
from keras_lstm_custom.export.plain_c.integers.ports import IntegerPorts
from keras_lstm_custom.export.plain_c.integers.products import by_four, packed_rows
from keras_lstm_custom.export.plain_c.integers.weights import eight_bits
from keras_lstm_custom.export.plain_c.reading.frame import Unsupported
from keras_lstm_custom.export.plain_c.writing.text import Address, indented, loop

MOST = 65000  #: of a sum of absolute weights: times 32768 it fits into an int32


class _Part(NamedTuple):
    """Columns of a product."""

    x: Value
    start: int  #: the first number of x that it reads
    numbers: np.ndarray  #: int8, `(rows, columns)`
    scales: np.ndarray  #: of each row


def _parts(x: Value, numbers: np.ndarray, scales: np.ndarray) -> Iterator[_Part]:
    """Yield parts of a product of which no sum of int8 times int16 can leave int32."""
    start, columns = 0, numbers.shape[1]
    while start < columns:
        sums = np.abs(numbers[:, start:].astype(int)).cumsum(1).max(0)
        count = columns - start if sums[-1] < MOST else int(np.searchsorted(sums, MOST)) // 4 * 4
        part = numbers[:, start : start + count]
        yield _Part(x, start, part, np.where(part.any(axis=1), scales, 0.0))  # a row of zeros asks for no room
        start += count


class IntegerEmitter(IntegerPorts):
    """Writes products and reductions in integers."""

    # Vectors

    def linear(self, value: Value) -> list[str]:
        rows, places = value.kernels[0].shape[1], self.places(value)
        pairs = zip(value.inputs, value.quantised, strict=True)
        parts = [part for x, (numbers, scales) in pairs for part in _parts(x, numbers, scales)]
        finest = places + 5
        while not self._fits(value.bias, parts, finest):
            finest -= 1
        shift = max(finest - places, 0)
        bias = np.round(value.bias * 2.0**finest) + (2 ** (shift - 1) if shift else 0)
        positions = value.size // rows
        to = self.address(value).plus(*([f"p * {rows}"] if positions > 1 else [])).pointer
        lines = [f"struct k_part part[{len(parts)}];"]
        for n, part in enumerate(parts):
            hop = f"p * {getattr(value, 'hop', part.x.shape[-1])}"
            scale = np.round(part.scales * 2.0 ** (finest - self.places(part.x) + 32))
            fields = {
                "w": self.constant("uint32_t", packed_rows(part.numbers)),
                "scale": self.constant("int32_t", by_four(scale)),
                "x": self.address(part.x).plus(part.start, *([hop] if positions > 1 else [])).pointer,
                "words": -(-part.numbers.shape[1] // 4),
            }
            lines += [f"part[{n}].{field} = {text};" for field, text in fields.items()]
        biases = self.constant("int32_t", by_four(bias))
        lines.append(f"{self.helper('product')}(part, {len(parts)}, {biases}, {rows}, {shift}, {to});")
        if finest < places:
            lines.append(f"{self.helper('move')}({to}, {to}, {rows}, {fp.moving(finest, places)});")
        lines = ["{", *indented(lines), "}"]
        return loop("p", positions, lines) if positions > 1 else lines

    def _fits(self, bias: np.ndarray, parts: Sequence[_Part], places: int) -> bool:
        """Say whether no input can make a sum of these places leave int32."""
        total = np.abs(bias) * 2.0**places
        for part in parts:
            factor = part.scales * 2.0 ** (places - self.places(part.x))
            if factor.max() >= 0.49:  # the scale itself is an int32 of 32 more places
                return False
            total = total + np.abs(part.numbers.astype(int)).sum(1) * 32768.0 * factor
        return bool(total.max() < fp.LIMIT)

    def reduce(self, value: Value) -> list[str]:
        (source,) = value.inputs
        x, y, width = self.address(source).pointer, self.address(value).pointer, source.shape[-1]
        if value.fn == "max":
            return [f"{self.helper('max')}({x}, {value.size}, {width}, {y});"]
        if value.fn == "rms":
            places = self.places(source)
            up = min(max(self.places(value) - places, 0), finer(value))
            more = round(value.epsilon * 4.0 ** (places + up))
            given = f"{value.size}, {width}, {value.count}, {2 * up}, {more}, {places + up - self.places(value)}"
            return [f"{self.helper('rms')}({x}, {given}, {y});"]
        if value.fn != "add":
            raise Unsupported(f"{value.fn} in integers, in {value.layer!r}")
        shift = max(self.places(source) - self.places(value), -fp.FARTHEST)
        return [f"{self.helper('sum')}({x}, {value.size}, {width}, {shift}, {y});"]

    def gather(self, value: Value) -> list[str]:
        (token,) = value.inputs
        rows, width = value.array.shape
        if self.places(token) < 0:
            raise Unsupported("tokens above 32767, which int16 do not hold")
        if rows > 32768:
            self.tell(f"Tokens of {value.layer!r} above 32767 are taken for 32767.")
        numbers, scales = eight_bits(value.array)
        table = self.constant("int8_t", numbers)
        scale = self.constant("int32_t", np.round(scales * 2.0 ** (self.places(value) + 15)).astype(np.int64))
        to = self.address(value).plus(*([] if token.size == 1 else [f"k * {width}"]))
        one = f"{self.address(token).at(*([] if token.size == 1 else ['k']))}"
        number = f"{one} >> {self.places(token)}" if self.places(token) > 0 else one
        call = f"{self.helper('row')}({table}, {scale}, {number}, {rows}, {width}, {to.pointer});"
        return loop("k", token.size, [call])

    def dots(self, value: Value) -> list[str]:
        rows, x = value.inputs
        shift = self._shift(rows, x, value)
        given = f"{self.address(rows, '0').pointer}, {self.address(x).pointer}, {value.size}, {x.size}, {shift}"
        return [f"{self.helper('dots')}({given}, {self.address(value).pointer});"]

    def mix(self, value: Value) -> list[str]:
        rows, weights = value.inputs
        shift = self._shift(rows, weights, value)
        pointers = f"{self.address(rows, '0').pointer}, {self.address(weights).pointer}"
        given = f"{pointers}, {rows.steps}, {value.size}, {shift}"
        return [f"{self.helper('mix')}({given}, {self.address(value).pointer});"]

    def _shift(self, a: Value, b: Value, value: Value) -> int:
        """Return by how many places a sum of products is shifted to the right."""
        return max(self.places(a) + self.places(b) - self.places(value), -fp.FARTHEST)

    def moved(self, to: Address, part: Value, count: int, value: Value) -> str:
        return self._move(to, self.places(value), self.address(part), self.places(part), count)

    def _move(self, to: Address, places: int, source: Address, of_source: int, count: int) -> str:
        if places == of_source:
            return self.copy(to, source, count)
        return f"{self.helper('move')}({to.pointer}, {source.pointer}, {count}, {fp.moving(of_source, places)});"

    def carried(self, state: Value, following: Value, t: str = "t") -> str:
        to, source = self.address(state), self.address(following, t)
        return self._move(to, self.places(state), source, self.places(following), state.size)

    KINDS = {
        **IntegerPorts.KINDS,
        **{"linear": linear, "reduce": reduce, "gather": gather, "dots": dots, "mix": mix},
    }
