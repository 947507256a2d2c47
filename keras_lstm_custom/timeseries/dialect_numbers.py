"""How the numbers of a file are written, as options of `pd.read_csv` and calls that make them plain."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import pandas as pd

from keras_lstm_custom.timeseries.sheets import MISSING_CELLS

NUMERIC = re.compile(r"[+-]?(?=[.,]*\d)[\d.,]++(?:[eE][+-]?\d++)?")
_DECIMAL_COMMA = re.compile(r"[+-]?(?:\d{1,3}(?:\.\d{3})+,\d+|\d+,\d+)(?:[eE][+-]?\d++)?")
_THOUSANDS = {".": re.compile(r"[+-]?\d{1,3}(\.\d{3})+(,\d+)?"), ",": re.compile(r"[+-]?\d{1,3}(,\d{3})+(\.\d+)?")}
_WITH_UNIT = re.compile(r"[+-]?\d[\d.,]*+(\s*[^\d\s.,:/-][^\d]{0,9})")
_AFTER_UNIT = re.compile(r"[+-]?([^\d\s.,:/+-]{1,4}\s*)[+-]?\d[\d.,]*+")
#: What groups digits by three beside the comma and the point: apostrophes, and blanks of several widths.
_GROUPS = "'’ \u00a0\u2009\u202f"
#: How negative numbers are written otherwise.
_NEGATIVE = ("\u2212", r"^\((.*)\)$", r"^(.*\d)-$")
#: What pandas itself reads as missing, in small letters.
_EMPTY = {"", "na", "n/a", "#n/a", "#na", "<na>", "nan", "null", "none"}
_LONGEST = 60  #: no number is longer
_CODES = 3  #: so many different words in a column of numbers stand for no value, more are text


class _Call(NamedTuple):
    """A method of `Series.str`, as code and to be done."""

    method: str
    arguments: tuple[str, ...]
    regex: bool = False

    def __str__(self) -> str:
        arguments = ", ".join(map(repr, self.arguments))
        return f".str.{self.method}({arguments}{', regex=True' if self.regex else ''})"

    def __call__(self, cells: pd.Series) -> pd.Series:
        return getattr(cells.str, self.method)(*self.arguments, **({"regex": True} if self.regex else {}))


class Numbers(NamedTuple):
    """What makes the numbers of a table plain.

    Attributes:
        options: of `pd.read_csv`.
        text: columns to read as text, which `lines` make numbers of.
        lines: of code.
        filling: code for cells without a value, to be run when the rows are in order.
        words: columns that hold text.
    """

    options: dict[str, Any]
    text: list[str]
    lines: list[str]
    filling: list[str]
    words: list[str]


def find_numbers(table: pd.DataFrame) -> Numbers:
    """Return how to read the columns of a table of text as numbers."""
    chains, plain = {}, {}
    for name in table.columns:
        chains[name], plain[name] = _made_plain(table[name])
    words = [str(name) for name, cells in plain.items() if _is_text(cells)]
    options: dict[str, Any] = _commas({name: cells for name, cells in plain.items() if name not in words})
    codes: dict[str, int] = {}
    for name, cells in plain.items():
        if name not in words:
            for code, count in cells[~cells.map(lambda cell: bool(NUMERIC.fullmatch(cell)))].value_counts().items():
                codes[str(code)] = codes.get(str(code), 0) + int(count)
    codes = {code: count for code, count in codes.items() if len(code) < _LONGEST}
    lines = []
    if 0 < len(codes) <= _CODES:
        options["na_values"] = sorted(codes)
        known = [code for code in codes if code.lower() in MISSING_CELLS]
        if len(known) < len(codes):
            told = ", ".join(f"{code!r} ({count} times)" for code, count in codes.items())
            lines.append(f"# taken for values that are missing: {told}")
    text = [name for name, chain in chains.items() if chain and name not in words]
    decimals = ".str.replace('.', '')" * ("thousands" in options) + ".str.replace(',', '.')"
    commas = decimals if "decimal" in options else ".str.replace(',', '')" if "thousands" in options else ""
    lines += [f"table[{name!r}] = table[{name!r}]{chains[name]}{commas}.astype('float')" for name in text]
    return Numbers(options, text, lines, list(_filling(table.drop(columns=words), codes)), words)


def _made_plain(column: pd.Series) -> tuple[str, pd.Series]:
    """Return the calls that bring the numbers of a column down to digits, points and commas, and what is left then.

    What is empty is left out.
    """
    cells = column[(column.str.len() < _LONGEST) & ~column.str.lower().isin(_EMPTY)]
    calls: list[_Call] = []

    def done(call: _Call) -> pd.Series:
        calls.append(call)
        return call(cells)

    for pattern in _NEGATIVE:
        call = _Call("replace", (pattern, r"-\1" if "(" in pattern else "-"), regex="(" in pattern)
        if (call(cells) != cells).any() and _mostly_numbers(call(cells)):
            cells = done(call)
    for sign in _GROUPS:
        if cells.str.contains(rf"\d{sign}\d\d\d(?!\d)").any():
            cells = done(_Call("replace", (sign, "")))
    for unit, method in ((_AFTER_UNIT, "replace"), (_WITH_UNIT, "removesuffix")):
        units = {match[1] if (match := unit.fullmatch(cell)) else "" for cell in cells}
        if len(units) == 1 and "" not in units:
            cells = done(_Call(method, (units.pop(), *([""] if method == "replace" else []))))
    return "".join(map(str, calls)), cells


def _mostly_numbers(cells: pd.Series) -> bool:
    held = cells.iloc[:500]
    return bool(len(held)) and sum(map(_is_number, held)) >= len(held) / 2


def _is_number(cell: str) -> bool:
    return bool(NUMERIC.fullmatch(cell) or _WITH_UNIT.fullmatch(cell) or _AFTER_UNIT.fullmatch(cell))


def _is_text(cells: pd.Series) -> bool:
    """Whether most of the cells that hold something hold no number."""
    held = cells[~cells.str.lower().isin(MISSING_CELLS)]
    return len(held) > 0 and not _mostly_numbers(held)


def _commas(columns: dict[Any, pd.Series]) -> dict[str, str]:
    """Return pandas' options for numbers that are written with commas."""
    cells = [cell for column in columns.values() for cell in column.iloc[:500] if NUMERIC.fullmatch(cell)]
    if any(_DECIMAL_COMMA.fullmatch(c) for c in cells) and not any(re.search(r",\d+\.", c) for c in cells):
        grouped = any("." in c and "," in c and _THOUSANDS["."].fullmatch(c) for c in cells)
        return {"decimal": ","} | ({"thousands": "."} if grouped else {})
    return {"thousands": ","} if any("," in c and _THOUSANDS[","].fullmatch(c) for c in cells) else {}


def _filling(table: pd.DataFrame, codes: dict[str, int]) -> Iterator[str]:
    """Yield what fills cells without a value."""
    missing = table.apply(lambda column: column.str.lower().isin(MISSING_CELLS) | column.isin(list(codes))).sum()
    columns = [str(name) for name in missing.index[(missing > 0) & (missing < len(table))]]
    if columns:
        yield f"# {missing.sum()} values are missing: straight lines between the known ones, if that suits the data"
        yield f"table[{columns!r}] = table[{columns!r}].interpolate(limit_direction='both')"
