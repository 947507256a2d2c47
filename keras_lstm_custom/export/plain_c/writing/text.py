"""Pieces of C text: numbers, arrays, and places in memory."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

INDENT = "  "


class Address(NamedTuple):
    """A place in an array of C: its name, and what is added up to the index."""

    array: str
    terms: tuple[str | int, ...] = ()

    def plus(self, *terms: str | int) -> Address:
        return Address(self.array, (*self.terms, *terms))

    def place(self, *more: str | int) -> str:
        """Return the index as C text."""
        terms = [*self.terms, *more]
        number = sum(term for term in terms if isinstance(term, int))
        texts = [term for term in terms if isinstance(term, str)]
        return " + ".join([*texts, *([str(number)] if number or not texts else [])])

    def at(self, *more: str | int) -> str:
        """Return one number as C text."""
        return f"{self.array}[{self.place(*more)}]"

    @property
    def pointer(self) -> str:
        index = self.place()
        return self.array if index == "0" else f"{self.array} + {index}"


def real(value: float) -> str:
    """Return a float32 constant of C."""
    text = f"{np.float32(np.clip(value, -3.4e38, 3.4e38)):.9g}"
    return f"{text}f" if any(c in text for c in ".en") else f"{text}.0f"


def array(kind: str, name: str, values: Iterable, more: str = "") -> str:
    """Return the definition of a constant array."""
    items = [real(v) if kind == "float" else f"{int(v)}u" if kind == "uint32_t" else str(int(v)) for v in values]
    text = textwrap.fill(", ".join(items), 118, initial_indent=INDENT, subsequent_indent=INDENT)
    return f"static const {kind} {name}[{len(items)}]{more} = {{\n{text}\n}};\n"


def indented(lines: Iterable[str], depth: int = 1) -> list[str]:
    """Return lines further to the right."""
    return [INDENT * depth + line if line else line for line in lines]


def loop(counter: str, count: int, lines: list[str]) -> list[str]:
    """Return a loop over lines; once, they stand in a block alone."""
    if count == 1:
        return ["{", *indented([f"const int {counter} = 0;", f"(void){counter};", *lines]), "}"]
    return [f"for (int {counter} = 0; {counter} < {count}; ++{counter}) {{", *indented(lines), "}"]
