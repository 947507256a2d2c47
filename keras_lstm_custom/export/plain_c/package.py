"""The files of a package: header, source, test, and how to build them. Text alone; nothing here runs or measures."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from keras_lstm_custom.export.plain_c.emit import Emitter
from keras_lstm_custom.export.plain_c.ir import Value
from keras_lstm_custom.export.plain_c.schedule import Schedule
from keras_lstm_custom.export.plain_c.text import array, indented

#: What reads several steps at once, or knows which step it is.
NOT_STEPWISE = ("reverse", "at", "whole", "window", "dots", "mix", "table")
WARNINGS = "-Wall -Wextra -Wpedantic -Wconversion -Wshadow"


@dataclass
class Port:
    """An input or an output of the model."""

    name: str
    value: Value  #: the input itself, or what is written to the output

    @property
    def step_size(self) -> int:
        return self.value.size

    @property
    def size(self) -> int:
        return self.value.size * (self.value.steps or 1)


@dataclass
class Package:
    """What the files are made from."""

    name: str
    emitter: Emitter
    inputs: Sequence[Port]
    outputs: Sequence[Port]
    about: list[str]  #: lines on the model and its numbers
    rows: Sequence[np.ndarray] = ()  #: of the test, one array for each input, `(rows, size)`
    expected: Sequence[np.ndarray] = ()  #: what they give
    tolerance: Sequence[float] = ()  #: how far each output may be from it
    why_not_stepwise: str = field(init=False)

    def __post_init__(self) -> None:
        self.why_not_stepwise = why_not_stepwise(self.emitter.schedule)


def why_not_stepwise(schedule: Schedule) -> str:
    """Return what keeps a model from running step by step; "" if it can."""
    loops = [phase for phase in schedule.phases if phase.steps is not None]
    sequences = [value for value in schedule.values if value.kind == "input" and value.steps is not None]
    several = [value for value in schedule.values if value.kind in NOT_STEPWISE]
    several += [value for value in schedule.values if value.kind == "state" and "whole" in value.attributes]
    if not sequences:
        return "no input is a sequence"
    if several:
        return f"the layer {several[0].layer!r} reads several time steps at once, or counts them"
    if len(loops) != 1:
        return "a part of it begins where the sequence ends"
    computed = [state for state in loops[0].states if state.inputs and state.inputs[0].kind != "const"]
    return f"the layer {computed[0].layer!r} begins from a state that comes with the sequence" if computed else ""


def files(package: Package) -> dict[str, str]:
    """Return the text of each file by its name."""
    name = package.name
    return {
        f"{name}.h": header(package),
        f"{name}.c": source(package),
        f"{name}_test.c": test(package),
        "Makefile": _MAKEFILE.format(name=name, warnings=WARNINGS, math=_math(package)),
        "CMakeLists.txt": _CMAKE.format(name=name, math=_math(package).removeprefix("-l")),
    }


def _math(package: Package) -> str:
    return "-lm" if package.emitter.includes else ""


def _signature(package: Package, function: str, number: str = "float", end: str = "") -> str:
    """Return the head of a function that takes all inputs and outputs."""
    xs, ys = _names(package, end)
    arguments = [f"const {number} *{x}" for x in xs] + [f"{number} *{y}" for y in ys]
    return f"void {package.name}_{function}(struct {package.name} *m, {', '.join(arguments)})"


def _names(package: Package, end: str = "") -> tuple[list[str], list[str]]:
    return [f"x{k}{end}" for k in range(len(package.inputs))], [f"y{k}{end}" for k in range(len(package.outputs))]


def header(package: Package) -> str:
    """Return NAME.h."""
    name, emitter = package.name, package.emitter
    guard = f"{name}_H".upper()
    about = "\n".join(f" * {line}".rstrip() for line in package.about)
    ports = "\n".join(
        f" *   {kind}{k}  {_comment(port.name)}: {_shape(port)}"
        for kind, many in (("x", package.inputs), ("y", package.outputs))
        for k, port in enumerate(many)
    )
    members = [f"{emitter.number} s[{emitter.memory.state_size}];  /* states */"] if emitter.memory.state_size else []
    if emitter.memory.work_size or not members:
        members.append(f"{emitter.number} w[{max(emitter.memory.work_size, 1)}];  /* what a step needs meanwhile */")
    declared = [
        "/* A whole sequence. It begins with a reset of its own: the memory need not be cleared. */",
        f"{_signature(package, 'run')};",
        *emitter.more_declarations(package),
    ]
    if not package.why_not_stepwise:
        declared += [
            "",
            "/* Step by step: reset before the first step. A `y` without time steps is that of the steps so far. */",
            f"void {name}_reset(struct {name} *m);",
            f"{_signature(package, 'step', end='_t')};",
            *emitter.more_step_declarations(package),
        ]
    else:
        declared += ["", f"/* Not step by step: {_comment(package.why_not_stepwise)}. */"]
    return _HEADER.format(
        guard=guard,
        about=about,
        ports=ports,
        includes="".join(f"#include <{file}>\n" for file in emitter.header_includes),
        name=name,
        members="\n".join(indented(members)),
        declared="\n".join(declared),
        constants="\n".join(emitter.header_constants(package)),
    )


def _shape(port: Port) -> str:
    inner = " x ".join(map(str, port.value.shape)) or "1"
    return f"{port.value.steps} time steps of {inner}" if port.value.steps is not None else inner


def source(package: Package) -> str:
    """Return NAME.c."""
    name, emitter, schedule = package.name, package.emitter, package.emitter.schedule
    arguments = emitter.arguments(package)
    functions, calls, step_calls = [], [], []
    for number, phase in enumerate(schedule.phases):
        body = emitter.phase(number, phase)
        if not body and not phase.states:
            continue
        given = ", ".join(["m", *arguments.names, "t"])
        text = "\n".join(body)
        unused = [f"(void){n};" for n in ("m", *arguments.names, "t") if not re.search(rf"\b{n}\b", text)]
        head = f"static void phase{number}(struct {name} *m, {', '.join(arguments.declared)}, int t) {{"
        functions.append("\n".join([head, *indented([*unused, *body]), "}\n"]))
        calls += emitter.starts(phase)
        call = f"phase{number}({given});"
        at_zero = f"phase{number}({', '.join(['m', *arguments.names, '0'])});"
        calls.append(at_zero if phase.steps is None else f"for (int t = 0; t < {phase.steps}; ++t) {call}")
        step_calls.append(at_zero)
    resets = emitter.resets()
    start = f"static void start(struct {name} *m) {{"
    functions.append("\n".join([start, *indented(resets or ["(void)m;"]), "}\n"]))
    functions += emitter.entries(package, calls, [] if package.why_not_stepwise else step_calls)
    helpers = emitter.helper_texts()
    integers = any(kind != "float" for kind, *_ in emitter.constants)
    files = [*emitter.includes, *(["stdint.h"] if integers else []), "string.h"]
    includes = [f"#include <{file}>" for file in files]
    constants = [text for _, text in emitter.constants.values()]
    return "\n".join([f'#include "{name}.h"', "", *includes, "", *constants, "", *helpers, *functions])


def test(package: Package) -> str:
    """Return NAME_test.c: rows of real input, whole and step by step, each time from a memory of anything."""
    name = package.name
    xs, ys = _names(package)
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


def _comment(text: str) -> str:
    """Return a name as it can stand in a comment of C."""
    plain = re.sub(r"[^ -~]", "?", text).replace("*/", "* /").replace("/*", "/ *").replace("??", "? ?")
    return plain.rstrip("\\")


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

_HEADER = """\
/*
{about}
 *
{ports}
 */
#ifndef {guard}
#define {guard}

{includes}#ifdef __cplusplus
extern "C" {{
#endif

{constants}/* All memory that is needed; sizeof says how much. */
struct {name} {{
{members}
}};

{declared}

#ifdef __cplusplus
}}
#endif

#endif
"""

_MAKEFILE = """\
# The test: `make && ./{name}_test` ends with 0 if all is right.
CFLAGS ?= -O2
CFLAGS += -std=c99 {warnings}

{name}_test: {name}.c {name}_test.c {name}.h
\t$(CC) $(CFLAGS) {name}.c {name}_test.c {math} -o $@
"""

_CMAKE = """\
cmake_minimum_required(VERSION 3.10)
project({name} C)
add_library({name} {name}.c)
target_include_directories({name} PUBLIC ${{CMAKE_CURRENT_SOURCE_DIR}})
set_target_properties({name} PROPERTIES C_STANDARD 99)
target_link_libraries({name} PUBLIC {math})
enable_testing()
add_executable({name}_test {name}_test.c)
target_link_libraries({name}_test {name})
add_test(NAME {name}_test COMMAND {name}_test)
"""
