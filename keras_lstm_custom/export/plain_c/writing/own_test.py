"""NAME_test.c: a program that runs a package on rows of real input, and ends with 0 only if all is right."""

from __future__ import annotations

import numpy as np

from keras_lstm_custom.export.plain_c.package import Package
from keras_lstm_custom.export.plain_c.writing.text import array, indented


def test(package: Package) -> str:
    """Return NAME_test.c: rows of real input, whole and step by step, each time from a memory of anything."""
    name = package.name
    xs, ys = package.names()
    lines = [f'#include "{name}.h"', "", "#include <string.h>", ""]
    count = len(package.rows[0])
    kind = package.emitter.test_number
    for port_name, data in ((n, a) for names, arrays in ((xs, package.rows), (ys, package.expected))
                            for n, a in zip(names, arrays, strict=True)):  # fmt: skip
        lines.append(array(kind, f"t{port_name}", np.asarray(data).reshape(-1).tolist()))
    lines += [f"static struct {name} m;"]
    lines += [f"static {kind} {y}[{port.size}];" for y, port in zip(ys, package.outputs, strict=True)]
    run = ", ".join(["&m", *(f"t{x} + r * {p.size}" for x, p in zip(xs, package.inputs, strict=True)), *ys])
    checks = [
        f"wrong += differ({y}, t{y} + r * {p.size}, {p.size}, {_tolerance(package, k)});"
        for k, (y, p) in enumerate(zip(ys, package.outputs, strict=True))
    ]
    end = package.emitter.test_end
    body = [
        "int wrong = 0;",
        "/* Forwards and backwards, so that nothing of a row before may be left over. */",
        f"for (int n = 0; n < {2 * count}; ++n) {{",
        f"  const int r = n < {count} ? n : {2 * count - 1} - n;",
        "  memset(&m, 0xA5, sizeof m);",
        f"  {name}_run{end}({run});",
        *indented(checks),
        "}",
    ]
    if not package.why_not_stepwise:
        body += _streamed(package, xs, ys, count)
    lines += [_DIFFER.format(kind=kind), "int main(void) {", *indented([*body, "return wrong == 0 ? 0 : 1;"]), "}\n"]
    return "\n".join(lines)


def _streamed(package: Package, xs: list[str], ys: list[str], count: int) -> list[str]:
    steps = next(phase.steps for phase in package.emitter.schedule.phases if phase.steps is not None)
    fed = [
        f"t{x} + r * {p.size}" + (f" + t * {p.step_size}" if p.value.steps is not None else "")
        for x, p in zip(xs, package.inputs, strict=True)
    ]
    checks = []
    for k, (y, port) in enumerate(zip(ys, package.outputs, strict=True)):
        when = f"if (t == {steps - 1}) " if port.value.steps is None else ""
        here = "" if port.value.steps is None else f" + t * {port.step_size}"
        expected = f"t{y} + r * {port.size}{here}"
        checks.append(f"{when}wrong += differ({y}, {expected}, {port.step_size}, {_tolerance(package, k)});")
    end = package.emitter.test_end
    return [
        "/* The same step by step; each row twice, the second time after the reset alone. */",
        "memset(&m, 0xA5, sizeof m);",
        f"for (int n = 0; n < {2 * count}; ++n) {{",
        "  const int r = n / 2;",
        f"  {package.name}_reset(&m);",
        f"  for (int t = 0; t < {steps}; ++t) {{",
        f"    {package.name}_step{end}({', '.join(['&m', *fed, *ys])});",
        *indented(checks, 2),
        "  }",
        "}",
    ]


def _tolerance(package: Package, output: int) -> str:
    return package.emitter.tolerance(package.tolerance[output])


_DIFFER = """\

/* How many values are further from the expected ones than that. */
static int differ(const {kind} *values, const {kind} *expected, int size, {kind} tolerance) {{
  int count = 0;
  for (int i = 0; i < size; ++i) {{
    if (!(values[i] - expected[i] <= tolerance && expected[i] - values[i] <= tolerance)) ++count;
  }}
  return count;
}}
"""
