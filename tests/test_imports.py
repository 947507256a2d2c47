"""Imports go from lower to higher levels, in no circle, through public names only.

Found by walking the syntax tree of every module, so that nothing has to be imported.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = "keras_lstm_custom"
ROOT = Path(__file__).parents[1] / PACKAGE

#: A module may import from its own folder and from lower levels. The longest name that fits counts.
LEVELS = {
    "arguments": 0,
    "errors": 0,
    "progress": 0,
    "structures": 0,
    "symbols": 0,
    "version": 0,
    "activations": 1,
    "array_files": 1,
    "installation": 1,
    "writing": 1,
    "equations": 1,
    "options": 1,
    "initializers": 2,
    "keras_hooks": 2,
    "engines.contract": 3,
    "models": 3,
    "cells": 4,
    "engines": 5,
    "layers": 6,
    "diagnostics": 7,
    "tasks": 7,
    "timeseries": 7,
    "load": 7,
    "export.model": 7,
    "export.file": 8,
    "export.running": 8,
    "export.quantization": 9,
    "export": 10,
    "": 11,
    "model_files": 12,
    "commands": 13,
    "cli": 14,
}
#: What the package needs to be imported: Keras brings its backend itself.
CORE_MAY_IMPORT = {"keras", "numpy", PACKAGE, *sys.stdlib_module_names}
PRIVATE = ("keras.src", "tensorflow.python", "keras._", "tensorflow._", "torch._", "jax._")


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(ROOT.rglob("*.py"))}


def imports(path: Path, at_import_time: bool = False) -> Iterator[str]:
    """Yield the modules that a file imports; with `at_import_time` without those in functions and for type checkers."""
    pending: list[ast.AST] = [ast.parse(path.read_text())]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: write the whole name, not a relative one"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in MODULES else str(node.module)
        functions = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        for_checkers = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        if not (at_import_time and (functions or for_checkers)):
            pending.extend(ast.iter_child_nodes(node))


def ours(names: Iterator[str]) -> set[str]:
    return {name for name in names if name in MODULES}


def level(module: str) -> tuple[str, int]:
    """Return the name in `LEVELS` that fits a module, and its level."""
    inside = module.removeprefix(PACKAGE).removeprefix(".")
    while inside and inside not in LEVELS:
        inside = inside.rpartition(".")[0]
    return inside, LEVELS[inside]


@pytest.mark.parametrize("module", MODULES)
def test_imports_come_from_lower_levels(module):
    home, height = level(module)
    assert home or module == PACKAGE, f"{module} has no level: give it one in LEVELS"
    for imported in ours(imports(MODULES[module])):
        other, other_height = level(imported)
        folder = home.partition(".")[0]
        assert other_height < height or other.partition(".")[0] == folder, f"{module} imports {imported}"


def test_there_is_no_circle():
    graph = {module: ours(imports(path, at_import_time=True)) - {module} for module, path in MODULES.items()}
    list(TopologicalSorter(graph).static_order())  # raises CycleError, with the circle


@pytest.mark.parametrize("module", MODULES)
def test_only_public_names_of_frameworks(module):
    private = [name for name in imports(MODULES[module]) if name.startswith(PRIVATE)]
    assert not private


def test_the_core_needs_no_framework_but_keras():
    """What `import keras_lstm_custom` runs; a framework is imported where it is used."""
    core, pending = set(), {PACKAGE}
    while pending:
        module = pending.pop()
        core.add(module)
        names = list(imports(MODULES[module], at_import_time=True))
        foreign = {name for name in names if name.partition(".")[0] not in CORE_MAY_IMPORT}
        assert not foreign, f"{module} imports {foreign}"
        pending |= ours(names) - core
    assert f"{PACKAGE}.layers.recurrent" in core


def test_nothing_imports_the_tests():
    assert not [module for module, path in MODULES.items() if any(n.split(".")[0] == "tests" for n in imports(path))]


def test_the_oracle_imports_numpy_only():
    for path in (Path(__file__).parent / "oracles").glob("*.py"):
        foreign = {name for name in imports(path) if not name.startswith("tests.oracles.")}
        assert {name.partition(".")[0] for name in foreign} <= {"__future__", "collections", "numpy"}, path
