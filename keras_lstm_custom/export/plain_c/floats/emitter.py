"""Packages that compute in float; their weights are float, or int8 with a scale for each row."""

from __future__ import annotations

from keras_lstm_custom.export.plain_c.floats.helpers import HELPERS, NEEDS
from keras_lstm_custom.export.plain_c.graph.ir import Value, unshaped
from keras_lstm_custom.export.plain_c.graph.schedule import Group
from keras_lstm_custom.export.plain_c.integers.weights import eight_bits
from keras_lstm_custom.export.plain_c.writing.emitter import Emitter
from keras_lstm_custom.export.plain_c.writing.text import Address, loop, real

#: The functions of two and three numbers, and the few of one that are arithmetic.
ARITHMETIC = {
    "same": "{0}",
    "add": "{0} + {1}",
    "sub": "{0} - {1}",
    "mul": "{0} * {1}",
    "div": "{0} / {1}",
    "max": "{0} > {1} ? {0} : {1}",
    "min": "{0} < {1} ? {0} : {1}",
    "abs": "fabsf({0})",
    "pow": "powf({0}, {1})",
    "eq": "{0} == {1} ? 1.0f : 0.0f",
    "ne": "{0} != {1} ? 1.0f : 0.0f",
    "gt": "{0} > {1} ? 1.0f : 0.0f",
    "ge": "{0} >= {1} ? 1.0f : 0.0f",
    "where": "{0} != 0.0f ? {1} : {2}",
}


class FloatEmitter(Emitter):
    """Writes float arithmetic."""

    number = "float"
    rounding = 1e-4  # compilers contract products and sums, and libraries of mathematics differ
    includes = ("math.h",)
    helper_text, helper_needs = HELPERS, NEEDS

    def __init__(self, name: str, outputs: list[Value], inputs: int, eight_bits: bool = False):
        """Take what `Emitter` takes, and whether weights are int8."""
        super().__init__(name, outputs, inputs)
        self.eight_bits, self.exact = eight_bits, not eight_bits

    def elementwise(self, group: Group) -> list[str]:
        inside = {value.number for value in group.values}
        lines = []
        for value in group.values:
            operands = [self._operand(v, inside) for v in value.inputs]
            if value.fn in ARITHMETIC:
                text = ARITHMETIC[value.fn].format(*operands)
            else:
                text = f"{self.helper(value.fn)}({operands[0]})"
            lines.append(f"const float v{value.number} = {text};")
        for value in group.values:
            lines += [f"{to.at('k')} = v{value.number};" for to in self.destinations(value, group)]
        return loop("k", group.values[0].size, lines)

    def _operand(self, value: Value, inside: set[int]) -> str:
        base = unshaped(value)
        if base.number in inside:
            return f"v{base.number}"
        if base.kind == "const" and base.size == 1:
            return real(base.array[0])
        return self.address(value).at(*([] if value.size == 1 else ["k"]))

    def linear(self, value: Value) -> list[str]:
        to = self.address(value)
        columns = value.kernels[0].shape[1]
        positions = value.size // columns
        first = to.plus(f"p * {columns}") if positions > 1 else to
        lines = self.zeros(first, columns)
        if value.bias.any():
            lines = [self.copy(first, Address(self.constant("float", value.bias)), columns)]
        for n, (source, kernel) in enumerate(zip(value.inputs, value.kernels, strict=True)):
            x = self.address(source).plus(*([f"p * {getattr(value, 'hop', len(kernel))}"] if positions > 1 else []))
            arguments = f"{x.pointer}, {columns}, {len(kernel)}, {first.pointer}"
            if self.eight_bits:
                numbers, scales = value.quantised[n]
                weights = f"{self.constant('int8_t', numbers)}, {self.constant('float', scales)}"
                lines.append(f"{self.helper('linear8')}({weights}, {arguments});")
            else:
                lines.append(f"{self.helper('linear')}({self.constant('float', kernel.T)}, {arguments});")
        return loop("p", positions, lines) if positions > 1 else lines

    def reduce(self, value: Value) -> list[str]:
        (source,) = value.inputs
        x, y, width = self.address(source), self.address(value), source.shape[-1]
        more = f"{real(value.count)}, {real(value.epsilon)}, " if value.fn == "rms" else ""
        return [f"{self.helper(value.fn)}({x.pointer}, {value.size}, {width}, {more}{y.pointer});"]

    def gather(self, value: Value) -> list[str]:
        (token,) = value.inputs
        rows, width = value.array.shape
        one = self.address(token).at(*([] if token.size == 1 else ["k"]))
        to = self.address(value).plus(*([] if token.size == 1 else [f"k * {width}"]))
        row = f"{self.helper('row')}({one}, {rows})"
        if not self.eight_bits:
            table = self.constant("float", value.array)
            return loop("k", token.size, [f"memcpy({to.pointer}, {table} + {row} * {width}, {width} * sizeof(float));"])
        numbers, scales = eight_bits(value.array)
        table, scale = self.constant("int8_t", numbers), self.constant("float", scales)
        inner = loop("i", width, [f"{to.at('i')} = (float){table}[row * {width} + i] * {scale}[row];"])
        return loop("k", token.size, [f"const int row = {row};", *inner])

    def dots(self, value: Value) -> list[str]:
        keys, query = value.inputs
        rows, x, y = self.address(keys, "0"), self.address(query), self.address(value)
        call = f"{self.helper('linear')}({rows.pointer}, {x.pointer}, {value.size}, {query.size}, {y.pointer});"
        return [*self.zeros(y, value.size), call]

    def mix(self, value: Value) -> list[str]:
        rows, weights = self.address(value.inputs[0], "0"), self.address(value.inputs[1])
        count = value.inputs[0].steps
        y = self.address(value)
        return [f"{self.helper('mix')}({rows.pointer}, {weights.pointer}, {count}, {value.size}, {y.pointer});"]

    KINDS = {**Emitter.KINDS, "linear": linear, "reduce": reduce, "gather": gather, "dots": dots, "mix": mix}
