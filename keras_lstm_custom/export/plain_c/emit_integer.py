"""Packages that compute in integers: int8 weights with a scale for each row, int16 values, int32 between them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from keras_lstm_custom.export.plain_c import fixed_point as fp
from keras_lstm_custom.export.plain_c import host
from keras_lstm_custom.export.plain_c.emit import Arguments, Emitter
from keras_lstm_custom.export.plain_c.emit_float import eight_bits
from keras_lstm_custom.export.plain_c.integer_data import by_four, packed_rows
from keras_lstm_custom.export.plain_c.integer_helpers import HELPERS, NEEDS, SIGMOID
from keras_lstm_custom.export.plain_c.integer_maps import IntegerMaps
from keras_lstm_custom.export.plain_c.ir import Value
from keras_lstm_custom.export.plain_c.operations import Unsupported
from keras_lstm_custom.export.plain_c.text import Address, array, indented, loop, real


class IntegerEmitter(IntegerMaps):
    """Writes products, reductions, inputs and outputs in integers."""

    header_includes = ("stdint.h",)
    test_number, test_end = "int16_t", "_q"

    # Vectors

    def linear(self, value: Value) -> list[str]:
        rows = value.kernels[0].shape[1]
        places = self.places(value)
        pairs = zip(value.inputs, value.kernels, strict=True)
        parts = [piece for x, kernel in pairs for piece in self._pieces(x, kernel)]
        sums = [np.abs(numbers.astype(int)).sum(1) * 32768.0 for _, _, numbers, _ in parts]
        finest = places + 5
        while not self._fits(value.bias, parts, sums, finest):
            finest -= 1
        bias = np.round(value.bias * 2.0**finest)
        shift = finest - places
        if shift > 0:
            bias = bias + 2 ** (shift - 1)
        to, positions = self.address(value), value.size // rows
        at = [f"p * {rows}"] if positions > 1 else []
        lines = []
        fields = []
        for x, start, numbers, scales in parts:
            source = self.address(x).plus(
                start, *([f"p * {getattr(value, 'hop', x.shape[-1])}"] if positions > 1 else [])
            )
            scale = np.round(scales * 2.0 ** (finest - self.places(x) + 32))
            weights = self.constant("uint32_t", packed_rows(numbers))
            scale_of_rows = self.constant("int32_t", by_four(scale))
            fields.append([weights, scale_of_rows, source.pointer, -(-numbers.shape[1] // 4)])
        lines.append("{")
        inner = [f"struct k_part part[{len(fields)}];"]
        for n, each in enumerate(fields):
            inner += [f"part[{n}].{field} = {v};" for field, v in zip(("w", "scale", "x", "words"), each, strict=True)]
        biases = self.constant("int32_t", by_four(bias))
        inner.append(
            f"{self.helper('product')}(part, {len(fields)}, {biases}, {rows}, {max(shift, 0)}, {to.plus(*at).pointer});"
        )
        if shift < 0:
            inner.append(f"{self.helper('move')}({to.plus(*at).pointer}, {to.plus(*at).pointer}, {rows}, {shift});")
        lines += [*indented(inner), "}"]
        return loop("p", positions, lines) if positions > 1 else lines

    def _pieces(self, x: Value, kernel: np.ndarray) -> list[tuple[Value, int, np.ndarray, np.ndarray]]:
        """Return parts of a product of which no sum can leave int32: what they read, from where, rows and scales."""
        pieces = []
        numbers, scales = eight_bits(kernel.T)
        start = 0
        while start < len(kernel):
            sums = np.abs(numbers[:, start:].astype(int)).cumsum(1).max(0)
            count = len(kernel) - start if sums[-1] < 65000 else int(np.searchsorted(sums, 65000)) // 4 * 4
            pieces.append((x, start, numbers[:, start : start + count], scales))
            start += count
        return pieces

    def _fits(self, bias: np.ndarray, parts: list, sums: list[np.ndarray], finest: int) -> bool:
        total = np.abs(bias) * 2.0**finest
        for (x, _, _, scales), most in zip(parts, sums, strict=True):
            factor = scales * 2.0 ** (finest - self.places(x))
            if factor.max() >= 0.49:
                return False
            total = total + most * factor
        return bool(total.max() < fp.LIMIT)

    def reduce(self, value: Value) -> list[str]:
        (source,) = value.inputs
        x, y, width = self.address(source).pointer, self.address(value).pointer, source.shape[-1]
        if value.fn == "max":
            return [f"{self.helper('max')}({x}, {value.size}, {width}, {y});"]
        if value.fn != "add":
            raise Unsupported(f"{value.fn} in integers")
        return [f"{self.helper('sum')}({x}, {value.size}, {width}, {self.places(source) - self.places(value)}, {y});"]

    def gather(self, value: Value) -> list[str]:
        (token,) = value.inputs
        rows, width = value.array.shape
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
        shift = self.places(rows) + self.places(x) - self.places(value)
        given = f"{self.address(rows, '0').pointer}, {self.address(x).pointer}, {value.size}, {x.size}, {shift}"
        return [f"{self.helper('dots')}({given}, {self.address(value).pointer});"]

    def mix(self, value: Value) -> list[str]:
        rows, weights = value.inputs
        shift = self.places(rows) + self.places(weights) - self.places(value)
        pointers = f"{self.address(rows, '0').pointer}, {self.address(weights).pointer}"
        given = f"{pointers}, {rows.steps}, {value.size}, {shift}"
        return [f"{self.helper('mix')}({given}, {self.address(value).pointer});"]

    def moved(self, to: Address, part: Value, count: int, value: Value) -> str:
        return self._move(to, self.places(value), self.address(part), self.places(part), count)

    def _move(self, to: Address, places: int, source: Address, of_source: int, count: int) -> str:
        if places == of_source:
            return self.copy(to, source, count)
        return f"{self.helper('move')}({to.pointer}, {source.pointer}, {count}, {of_source - places});"

    def carried(self, state: Value, following: Value, t: str = "t") -> str:
        to, source = self.address(state), self.address(following, t)
        return self._move(to, self.places(state), source, self.places(following), state.size)

    # Inputs and outputs

    def load(self, value: Value) -> list[str]:
        (source,) = value.inputs
        base, where = self.schedule.base(source), self.address(source)
        scale = real(2.0 ** self.places(base))
        to = self.address(value).pointer
        return [f"io->load(io->x[{base.index}], {where.place()}, {value.size}, {scale}, {to});"]

    def window(self, value: Value) -> list[str]:
        lines = super().window(value)
        base = self.schedule.base(value.inputs[0])
        if base.kind != "input":
            return lines
        size, to = value.inputs[0].size, self.address(value)
        there = self.copy(to.plus(f"i * {size}" if size > 1 else "i"), self.address(value.inputs[0], "s"), size)
        where = self.address(value.inputs[0], "s").place()
        target = to.plus(f"i * {size}" if size > 1 else "i").pointer
        call = f"io->load(io->x[{base.index}], {where}, {size}, {real(2.0 ** self.places(base))}, {target});"
        return [line.replace(there, call) for line in lines]

    def send(self, value: Value) -> str:
        start = f"t * {value.size}" if value.steps is not None else "0"
        scale = real(2.0 ** self.places(value))
        return f"io->store(io->y[{value.sent}], {start}, {value.size}, {scale}, {self.address(value).pointer});"

    def arguments(self, package: Any) -> Arguments:
        return Arguments(["io"], ["const struct k_io *io"])

    def helper_texts(self) -> list[str]:
        wanted: dict[str, None] = {}
        for name in self.helpers:
            self._with_needs(name, wanted)
        texts = [HELPERS["io"].format(inputs=self.input_count, outputs=self.output_count)]
        if "sigmoid" in wanted:
            texts.insert(0, array("int16_t", "k_sigmoids", SIGMOID.tolist()))
        return [*texts, *(HELPERS[name] for name in wanted)]

    def _with_needs(self, name: str, wanted: dict[str, None]) -> None:
        for other in NEEDS.get(name, ()):
            self._with_needs(other, wanted)
        wanted.setdefault(name)

    def more_declarations(self, package: Any) -> list[str]:
        return [
            "/* The same on the package's own integers. */",
            f"void {package.name}_run_q(struct {package.name} *m, {self._ports(package, 'int16_t')});",
        ]

    def more_step_declarations(self, package: Any) -> list[str]:
        return [f"void {package.name}_step_q(struct {package.name} *m, {self._ports(package, 'int16_t')});"]

    def header_constants(self, package: Any) -> list[str]:
        lines = ["/* real value = integer / 2 ^ places */"]
        for kind, ports in (("X", package.inputs), ("Y", package.outputs)):
            lines += [
                f"#define {package.name.upper()}_{kind}{n}_PLACES {self.port_places(port.value)}"
                for n, port in enumerate(ports)
            ]
        return [*lines, "", ""]

    def port_places(self, value: Value) -> int:
        return self.places(value) if value.number in self._ranges or "sent" in value.attributes else 0

    def _ports(self, package: Any, kind: str) -> str:
        xs = [f"const {kind} *x{k}" for k in range(len(package.inputs))]
        return ", ".join([*xs, *(f"{kind} *y{k}" for k in range(len(package.outputs)))])

    def entries(self, package: Any, calls: list[str], step_calls: list[str]) -> list[str]:
        name, texts = package.name, []
        if step_calls:
            texts.append(f"void {name}_reset(struct {name} *m) {{ start(m); }}\n")
        inner = {"whole": ["start(m);", *calls], **({"single": step_calls} if step_calls else {})}
        for function, lines in inner.items():
            head = f"static void {function}(struct {name} *m, const struct k_io *io) {{"
            texts.append("\n".join([head, *indented(lines), "}\n"]))
        for function, public in (("whole", "run"), ("single", "step")):
            for end, kind in (("", "float"), ("_q", "int16_t")) if function in inner else ():
                short = "q" if end else "f"
                ports = [f"io.x[{k}] = x{k};" for k in range(len(package.inputs))]
                ports += [f"io.y[{k}] = y{k};" for k in range(len(package.outputs))]
                body = ["struct k_io io;", *ports, f"io.load = k_load_{short};", f"io.store = k_store_{short};"]
                head = f"void {name}_{public}{end}(struct {name} *m, {self._ports(package, kind)}) {{"
                texts.append("\n".join([head, *indented([*body, f"{function}(m, &io);"]), "}\n"]))
        return texts

    # The test

    def scale_of(self, port: Value) -> float:
        return 2.0 ** self.port_places(port)

    def held(self, array: np.ndarray, port: Value) -> np.ndarray:
        return fp.quantised(array, self.port_places(port)).reshape(len(array), -1)

    def tolerance(self, value: float) -> str:
        return str(int(value))

    def settle(self, package: Any, folder: Path) -> None:
        """Let the test expect the very integers that this computer gives."""
        got = host.run(package, folder, package.rows, "int16_t", "_q")
        package.expected, package.tolerance = got, [0.0] * len(got)

    KINDS = {
        **Emitter.KINDS,
        **{"linear": linear, "reduce": reduce, "gather": gather, "dots": dots, "mix": mix, "load": load},
        "window": window,
    }
