"""Write the stubs of the public layers and cells, whose arguments are read from Keras when they are imported.

`python tools/stubs.py` writes them, `--check` says whether they are fresh. An editor and a type checker read the stub
`lstm.pyi` in place of `lstm.py`: every argument with its type, and the whole docstring.
"""

from __future__ import annotations

import argparse
import inspect
import subprocess
import sys
from pathlib import Path

import keras

import keras_lstm_custom as klc
from keras_lstm_custom.arguments import ALIASES, ARGUMENTS, BY_KEYWORD, BY_KEYWORD_OVER_TIME
from keras_lstm_custom.options import parameters_of

ROOT = Path(__file__).parents[1]
PUBLIC = (getattr(klc, name) for name in klc.__all__)
BASES = (klc.Recurrent, klc.RecurrentCell)
#: Every public layer and cell but the bases, whose arguments are those of what is made of them.
CLASSES = [
    value
    for value in PUBLIC
    if isinstance(value, type) and issubclass(value, keras.layers.Layer) and value not in BASES
]
MADE_WITH = f"Written by tools/stubs.py, with the arguments of Keras {'.'.join(keras.__version__.split('.')[:2])}."
#: Types that an attribute keeps; the others are made into objects of Keras.
PLAIN = ("int", "float", "bool", "str", "Literal", "EngineName")


def path_of(cls: type) -> Path:
    """Return where the stub of a class lies: beside its module."""
    return ROOT / Path(*cls.__module__.split(".")).with_suffix(".pyi")


def stub(cls: type) -> str:
    """Return the stub of the module of a class, formatted."""
    module = sys.modules[cls.__module__]
    bases = [base for base in cls.__bases__ if base.__module__.startswith("keras_lstm_custom")]
    arguments = [*_arguments(cls)]
    used = [name for name in ALIASES if any(name in line for line in arguments)]
    typing = ["Any", *(["Literal"] if any("Literal" in line for line in arguments) else [])]
    lines = [
        f'"""{inspect.getdoc(module)} {MADE_WITH}"""',
        "from collections.abc import Callable, Mapping",
        f"from typing import {', '.join(typing)}, TypeAlias",
        "import keras",
        *(f"from {base.__module__} import {base.__qualname__}" for base in bases),
        *_of_layer(cls, "from {0.__module__} import {0.__qualname__}"),
        "from keras_lstm_custom.engines.contract import EngineName",
        *(f"{name}: TypeAlias = {ALIASES[name]}" for name in used),
        f"class {cls.__qualname__}({_bases(cls)}):",
        *_docstring(cls),
        *(f"    {line}" for line in _of_layer(cls, "cell: {0.__qualname__}")),
        *(f"    {line}" for line in _attributes(cls)),
        "    def __init__(",
        "        self,",
        *(f"        {line}," for line in arguments),
        "    ) -> None: ...",
    ]
    return _formatted("\n".join(lines))


def _bases(cls: type) -> str:
    names = []
    for base in cls.__bases__:
        ours = base.__module__.startswith("keras_lstm_custom")
        names.append(base.__qualname__ if ours else f"keras.layers.{base.__qualname__}")
    return ", ".join(names)


def _of_layer(cls: type, line: str) -> list[str]:
    return [line.format(cls.cell_class)] if hasattr(cls, "cell_class") else []


def _docstring(cls: type) -> list[str]:
    text = cls.__doc__ or ""
    lines = [f"    {line}".rstrip() for line in text.splitlines()]
    prefix = "r" if "\\" in text else ""
    return [f'    {prefix}"""{lines[0].lstrip()}', *lines[1:], '    """']


def _arguments(cls: type) -> list[str]:
    lines = []
    parameters = inspect.signature(cls).parameters
    of_keras = parameters_of(cls.keras_class)
    for name, parameter in parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and "*" not in lines:
            lines.append("*")
        kind = ARGUMENTS[name].type if name in of_keras else _annotation(parameter)
        default = "" if parameter.default is parameter.empty else f" = {parameter.default!r}"
        lines.append(f"{name}: {kind}{default}")
    more = BY_KEYWORD_OVER_TIME if hasattr(cls, "cell_class") else BY_KEYWORD
    lines += [] if "*" in lines else ["*"]
    return lines + [f"{name}: {ARGUMENTS[name].type} = {default!r}" for name, default in more.items()]


def _annotation(parameter: inspect.Parameter) -> str:
    written = parameter.annotation  # a string, where annotations are not evaluated
    return written if isinstance(written, str) else inspect.formatannotation(written)


def _attributes(cls: type) -> list[str]:
    """What a layer shows of its cell, and a cell of its options."""
    lines = []
    for name, parameter in inspect.signature(cls).parameters.items():
        kind = ARGUMENTS[name].type if name in ARGUMENTS else _annotation(parameter)
        if parameter.kind is not parameter.VAR_KEYWORD:
            lines.append(f"{name}: {kind if kind.startswith(PLAIN) else 'Any'}")
    return lines


def _formatted(text: str) -> str:
    options = ["--stdin-filename", "stub.pyi", "--config", str(ROOT / "pyproject.toml"), "-"]
    for command in (["check", "--select", "F401,I", "--fix", "--quiet"], ["format"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, *options], input=text, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"ruff {command[0]}: {done.stdout}{done.stderr}")
        text = done.stdout
    return text


def main() -> None:
    """Write or check all stubs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; end with 1 if a stub is stale")
    check = parser.parse_args().check
    stale = []
    for cls in CLASSES:
        path, text = path_of(cls), stub(cls)
        if not path.exists() or path.read_text() != text:
            stale.append(path.relative_to(ROOT).as_posix())
            if not check:
                path.write_text(text)
    print("\n".join(stale) or "all fresh")
    sys.exit(bool(check and stale))


if __name__ == "__main__":
    main()
