"""How a file is laid out: its encoding, what stands between its cells, and which lines are no rows."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from typing import Any, NamedTuple

import pandas as pd

from keras_lstm_custom.timeseries.dialect_numbers import NUMERIC
from keras_lstm_custom.timeseries.dialect_times import read_stamps
from keras_lstm_custom.timeseries.sheets import MISSING_CELLS

#: How much of a file is looked at; its dialect shows in the first rows.
BYTES, ROWS = 2_000_000, 20_000
_ENCODINGS = ("utf-8-sig", "cp1252")
_BLANKS = r"\s+"
#: Excel's note of the separator, a line of its own before the header.
_SAYS_SEPARATOR = re.compile(r'"?sep=(.)"?')
#: Lines below a table: sums and notes are few.
_FOOTER = 20


class Layout(NamedTuple):
    """The options by which `pd.read_csv` finds the table, and what it finds."""

    options: dict[str, Any]
    header: list[str]
    body: list[list[str]]


def layout(content: bytes) -> Layout | None:
    """Return the layout of a file; None if it holds no table of two columns and three rows."""
    encoding, text = _decoded(content)
    lines = text.splitlines()[:ROWS]
    if len(lines) < 4:
        return None
    said = _SAYS_SEPARATOR.fullmatch(lines[0])
    separator, width = (said[1], None) if said else _separator(lines)
    widths = _widths(lines[:200], separator)
    width = width or Counter(widths[1:]).most_common(1)[0][0]
    start = _start(lines, widths, width)
    is_comment = [line.startswith("#") and k != start for k, line in enumerate(lines)]
    comments = any(is_comment[start:]) and not any("#" in line for line in _others(lines, is_comment))
    cells = [row for row in _cells(_others(lines[start:], is_comment[start:]), separator) if len(row) == width]
    if len(cells) < 4 or width < 2:
        return None
    options: dict[str, Any] = {} if separator == "," else {"sep": separator}
    options |= {} if encoding == "utf-8-sig" else {"encoding": encoding}
    options |= {"comment": "#"} if comments else {}
    header, body = _named(cells[0]), cells[1:]
    if not any(map(_is_name, cells[0])):
        header, body = ["time", *(f"value{k}" for k in range(1, width))], cells
        options |= {"header": None, "names": header}
    if start and not (comments and all(is_comment[:start])):
        options["skiprows"] = start
    if len(body) > 1 and not _has_numbers(body[0]) and _has_numbers(body[1]):
        options["skiprows"] = [*range(start), start + 1]  # a line of units below the names
        body = body[1:]
    below = _footer(lines, separator, body) if len(content) < BYTES and len(lines) < ROWS else 0
    if below:
        options |= {"skipfooter": below, "engine": "python"}
        gone = _others(lines[-below:], is_comment[-below:])
        body = body[: len(body) - sum(width == found for found in _widths(gone, separator))]
    return Layout(options, header, body)


def _decoded(content: bytes) -> tuple[str, str]:
    """Return the encoding of a text and the text; a last character that is cut off is left out."""
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "utf-16", content[: len(content) // 2 * 2].decode("utf-16", errors="ignore")
    for encoding in _ENCODINGS:
        try:
            return encoding, content.decode(encoding)
        except UnicodeDecodeError as error:
            if encoding == "utf-8-sig" and len(content) == BYTES and error.start > BYTES - 4:
                return encoding, content[: error.start].decode(encoding)
    return "latin-1", content.decode("latin-1")


def _others(lines: list[str], left_out: list[bool]) -> list[str]:
    return [line for line, out in zip(lines, left_out, strict=True) if not out]


def _separator(lines: list[str]) -> tuple[str, int]:
    """Return what stands between the cells, and how many there are: those that most lines agree on."""
    best, agreement = (",", 0), 0.0
    for separator in (";", "\t", "|", ",", _BLANKS):
        if separator == _BLANKS and agreement:
            break
        widths = [width for width in _widths(lines[:200], separator) if width]
        if not widths:
            continue
        width, count = Counter(widths).most_common(1)[0]
        # A decimal comma is in every row as well, so a comma must win by more than its place in the list.
        if width > 1 and count / len(widths) > agreement:
            best, agreement = (separator, width), count / len(widths)
    return best


def _start(lines: list[str], widths: list[int], width: int) -> int:
    """Return the line of the header. A comment is none, unless it alone names the columns."""
    fitting = [k for k, found in enumerate(widths) if found == width and not _SAYS_SEPARATOR.fullmatch(lines[k])]
    plain = [k for k in fitting if not lines[k].startswith("#")] or fitting
    first = plain[0] if plain else 0
    names_itself = any(letter.isalpha() for letter in lines[first])
    return first - 1 if first - 1 in fitting and not names_itself else first


def _cells(lines: list[str], separator: str) -> list[list[str]]:
    """Return the cells of some lines; blanks may be what stands between them."""
    if separator == _BLANKS:
        return [line.split() for line in lines]
    return [[c.strip() for c in row] for row in csv.reader(io.StringIO("\n".join(lines)), delimiter=separator)]


def _widths(lines: list[str], separator: str) -> list[int]:
    return [len(next(iter(_cells([line], separator)), [])) for line in lines]


def _named(header: list[str]) -> list[str]:
    """Return the names as pandas makes them: of empty ones, and of those that are there twice."""
    names: list[str] = []
    for k, name in enumerate(header):
        name = name or f"Unnamed: {k}"
        twice = sum(name == other for other in header[:k])
        names.append(f"{name}.{twice}" if twice else name)
    return names


def _is_name(cell: str) -> bool:
    is_word = any(letter.isalpha() for letter in cell) and cell.lower() not in MISSING_CELLS
    return is_word and not NUMERIC.fullmatch(cell) and read_stamps(pd.Series([cell])) is None


def _has_numbers(row: list[str]) -> bool:
    """Whether a row holds measurements or times: a unit such as W/m2 has a digit, too, but few."""
    return any(NUMERIC.fullmatch(cell) or sum(letter.isdigit() for letter in cell) > 2 for cell in row)


def _footer(lines: list[str], separator: str, body: list[list[str]]) -> int:
    """Return how many lines at the end are no rows: words where every other row has a number, or too few cells."""
    width = len(body[0])
    always = next((k for k in range(width) if all(_digits(row[k]) for row in body[: -_FOOTER or None])), None)
    for below, line in enumerate(reversed(lines[-_FOOTER:])):
        row = next(iter(_cells([line], separator)), [])
        if len(row) == width and (always is None or _digits(row[always]) or row[always].lower() in MISSING_CELLS):
            return below
    return 0


def _digits(cell: str) -> bool:
    return any(letter.isdigit() for letter in cell)
