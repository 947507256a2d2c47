"""Inputs and outputs of packages of integers: as floats, or as the package's own numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_lstm_custom.export.plain_c.graph.ir import Value, viewed
from keras_lstm_custom.export.plain_c.integers import fixed_point as fp
from keras_lstm_custom.export.plain_c.integers.helpers import HELPERS, NEEDS, TABLES
from keras_lstm_custom.export.plain_c.integers.maps import IntegerMaps
from keras_lstm_custom.export.plain_c.writing.emitter import Arguments, Emitter
from keras_lstm_custom.export.plain_c.writing.text import array, indented, real


class IntegerPorts(IntegerMaps):
    """Writes how numbers come in and go out."""

    header_includes = ("stdint.h",)
    test_number, test_end = "int16_t", "_q"
    helper_needs = NEEDS

    def load(self, value: Value) -> list[str]:
        (source,) = value.inputs
        base, where, to = viewed(source), self.address(source).place(), self.address(value).pointer
        given, scale = f"io->x[{base.index}], {where}, {value.size}", 2.0 ** self.places(base)
        if "factor" not in value.attributes:
            return [f"io->load({given}, {real(scale)}, {to});"]
        vectors = (np.broadcast_to(array, value.size) for array in (value.offset, value.factor * scale))
        offset, factor = (self.constant("float", vector) for vector in vectors)
        return [f"{self.helper('standardise')}(io, {given}, {offset}, {factor}, {to});"]

    def window(self, value: Value) -> list[str]:
        lines = super().window(value)
        base = viewed(value.inputs[0])
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
        tables = [array(kind, name, numbers.tolist()) for kind, name, numbers in self._tables()]
        io = HELPERS["io"].format(inputs=self.input_count, outputs=self.output_count)
        return [*tables, io, *(HELPERS[name] for name in self.wanted())]

    @property
    def constant_bytes(self) -> int:
        return super().constant_bytes + sum(numbers.nbytes for *_, numbers in self._tables())

    def _tables(self) -> list[tuple[str, str, np.ndarray]]:
        return [TABLES[name] for name in self.wanted() if name in TABLES]

    def more_declarations(self, package: Any) -> list[str]:
        return [
            "/* The same on the package's own integers. */",
            f"{package.signature('run_q', 'int16_t')};",
        ]

    def more_step_declarations(self, package: Any) -> list[str]:
        return [f"{package.signature('step_q', 'int16_t', '_t')};"]

    def header_constants(self, package: Any) -> list[str]:
        lines = ["/* real value = integer / 2 ^ places */"]
        for kind, ports in (("X", package.inputs), ("Y", package.outputs)):
            lines += [
                f"#define {package.name.upper()}_{kind}{n}_PLACES {self.port_places(port.value)}"
                for n, port in enumerate(ports)
            ]
        lines += [
            f"/* x{n}_q is (x{n} - mean) / deviation, as its Normalization has it. */"
            for n, port in enumerate(package.inputs)
            if port.value.kind == "input" and port.value.index in self.standardised
        ]
        return [*lines, "", ""]

    def port_places(self, value: Value) -> int:
        return self.places(value) if value.number in self._ranges or "sent" in value.attributes else 0

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
                head = f"{package.signature(public + end, kind)} {{"
                texts.append("\n".join([head, *indented([*body, f"{function}(m, &io);"]), "}\n"]))
        return texts

    # The test

    def scale_of(self, port: Value) -> float:
        return 2.0 ** self.port_places(port)

    def held(self, array: np.ndarray, port: Value) -> np.ndarray:
        if port.kind == "input" and port.index in self.standardised:
            load = self.standardised[port.index]
            flat = np.asarray(array, np.float64).reshape(len(array), -1, load.size)
            array = (flat - load.offset) * load.factor
        return fp.quantised(array, self.port_places(port)).reshape(len(array), -1)

    def tolerance(self, value: float) -> str:
        return str(int(value))

    KINDS = {**Emitter.KINDS, "load": load, "window": window}
