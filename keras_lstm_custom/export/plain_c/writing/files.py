"""The files of a package: header, source, test, and how to build them. Text alone; nothing here runs or measures."""

from __future__ import annotations

import re
from pathlib import Path

from keras_lstm_custom.export.plain_c.package import Package, Port
from keras_lstm_custom.export.plain_c.writing.own_test import test
from keras_lstm_custom.export.plain_c.writing.text import indented

WARNINGS = "-Wall -Wextra -Wpedantic -Wconversion -Wshadow"


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


def write(folder: Path, texts: dict[str, str]) -> None:
    """Write each file into a folder that is there."""
    for name, text in texts.items():
        (folder / name).write_text(text)


def _math(package: Package) -> str:
    return "-lm" if package.emitter.includes else ""


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
        f"{package.signature('run')};",
        *emitter.more_declarations(package),
    ]
    if not package.why_not_stepwise:
        declared += [
            "",
            "/* Step by step: reset before the first step. A `y` without time steps is that of the steps so far. */",
            f"void {name}_reset(struct {name} *m);",
            f"{package.signature('step', end='_t')};",
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
    integers = any(kind != "float" for kind, *_ in emitter.constants) or any("int32_t" in text for text in helpers)
    files = [*emitter.includes, *(["stdint.h"] if integers else []), "string.h"]
    includes = [f"#include <{file}>" for file in files]
    constants = [text for _, text in emitter.constants.values()]
    return "\n".join([f'#include "{name}.h"', "", *includes, "", *constants, "", *helpers, *functions])


def _comment(text: str) -> str:
    """Return a name as it can stand in a comment of C."""
    plain = re.sub(r"[^ -~]", "?", text).replace("*/", "* /").replace("/*", "/ *").replace("??", "? ?")
    return plain.rstrip("\\")


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
