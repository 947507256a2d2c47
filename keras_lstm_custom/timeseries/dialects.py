"""What a file that is not read as it stands probably is, as the pandas call that would tidy it.

`read_csv` guesses nothing. This module guesses, for the text of an error only: the user runs the call, looks at what
it gives, and decides.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from keras_lstm_custom.timeseries.dialect_steps import mending
from keras_lstm_custom.timeseries.dialect_times import find_times, read_stamps
from keras_lstm_custom.timeseries.sheets import MISSING_CELLS

#: How much of a file is looked at; its dialect shows in the first rows.
_BYTES, _ROWS = 2_000_000, 20_000
_ENCODINGS = ("utf-8-sig", "cp1252")
_BLANKS = r"\s+"
_WITH_UNIT = re.compile(r"[+-]?\d[\d.,]*+(\s*[^\d\s.,:/-][^\d]{0,9})")
_DECIMAL_COMMA = re.compile(r"[+-]?\d{1,3}(?:\.\d{3})+,\d+|[+-]?\d+,\d+")
_THOUSANDS = {".": re.compile(r"[+-]?\d{1,3}(\.\d{3})+(,\d+)?"), ",": re.compile(r"[+-]?\d{1,3}(,\d{3})+(\.\d+)?")}
_NUMERIC = re.compile(r"[+-]?[\d.,]++(?:[eE][+-]?\d++)?")


def tidying_call(path: Path, time: str | None = None) -> str | None:
    """Return Python code, indented, that writes a tidy copy of the file; None if there is nothing to advise.

    Args:
        path: the file.
        time: the column of time stamps, if it is known.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_BYTES)
        lines = list(_code(path, content, time))
    except (OSError, ValueError, csv.Error, pd.errors.ParserError):
        return None
    if not any(line for line in lines):
        return None
    return "\n".join(f"    {line}" for line in ["import pandas as pd", *lines])


def _code(path: Path, content: bytes, time: str | None) -> Iterator[str]:
    """Yield the lines of the code, or nothing where the file shows nothing that could be tidied."""
    encoding, text = _decoded(content)
    rows = text.splitlines()[:_ROWS]
    separator, start, width = _layout(rows)
    cells = _cells(rows[start:], separator)
    cells = [row for row in cells if len(row) == width]
    if len(cells) < 4 or width < 2:
        return
    options: dict[str, Any] = {} if separator == "," else {"sep": separator}
    options |= {} if encoding == "utf-8-sig" else {"encoding": encoding}
    options |= {"skiprows": start} if start else {}
    header, body = cells[0], cells[1:]
    if all(_NUMERIC.fullmatch(c) or read_stamps(pd.Series([c])) is not None for c in header if c):
        header, body = ["time", *(f"value{k}" for k in range(1, width))], cells
        options |= {"header": None, "names": header}
    elif len(set(header)) < len(header) or "" in header:
        header = [name or f"Unnamed: {k}" for k, name in enumerate(header)]
    if body and not any(_NUMERIC.fullmatch(c) for c in body[0]) and any(_NUMERIC.fullmatch(c) for c in body[1]):
        options["skiprows"] = [*range(start), start + 1]  # a line of units below the names
        body = body[1:]
    table = pd.DataFrame(body, columns=header, dtype=object)
    if len(set(table.columns)) < len(table.columns):
        return
    options |= _numbers(table)
    if table.isin(["-", "?"]).any(axis=None):
        options["na_values"] = ["-", "?"]
    times = find_times(table, time)
    if times is None:
        yield from _without_times(path, table, options)
        return
    others = [c for c in table.columns if c not in times.used and not (c.startswith("Unnamed") or _is_empty(table[c]))]
    identity = _identity(table, times.stamps, others)
    words = [c for c in others if c != identity and _is_text(table[c])]
    others = [c for c in others if c not in words]
    if not others:
        return
    mended = [*mending(times.stamps, identity), *_without_units(table[others]), *_filling(table[others])]
    named = all(c in (*others, *words, *times.used) for c in table.columns) and table.columns[0] == times.used[0]
    if not options and not mended and identity is None and times.plain and named and not words:
        return  # tidy as it stands: what is wrong is something else
    yield _call("table", path, options | {"dtype": dict.fromkeys(times.used, "str")})
    yield times.code
    yield from mended
    if words:
        yield f"# left out, since they hold text: {', '.join(words[:5])}{' ...' if len(words) > 5 else ''}"
    order = ", ".join(repr(c) for c in [*([identity] if identity else []), *(c for c in others if c != identity)])
    name = path.with_name(f"{path.stem}-tidy.csv").as_posix()
    yield f"table.set_index('time')[[{order}]].to_csv({name!r})"
    if identity:
        yield f"# several series: read_series({name!r}, id={identity!r})"


def _call(name: str, path: Path, options: dict[str, Any]) -> str:
    return f"{name} = pd.read_csv({', '.join([repr(path.as_posix()), *(f'{k}={v!r}' for k, v in options.items())])})"


def _decoded(content: bytes) -> tuple[str, str]:
    """Return the encoding of a text and the text; a last character that is cut off is left out."""
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "utf-16", content[: len(content) // 2 * 2].decode("utf-16", errors="ignore")
    for encoding in _ENCODINGS:
        try:
            return encoding, content.decode(encoding)
        except UnicodeDecodeError as error:
            if encoding == "utf-8-sig" and len(content) == _BYTES and error.start > _BYTES - 4:
                return encoding, content[: error.start].decode(encoding)
    return "latin-1", content.decode("latin-1")


def _layout(rows: list[str]) -> tuple[str, int, int]:
    """Return the separator, the line of the header, and the number of cells: those that most lines agree on."""
    best = (",", 0, 0)
    agreement = 0.0
    for separator in (";", "\t", "|", ",", _BLANKS):
        if separator == _BLANKS and agreement:
            break
        widths = [len(row) for row in _cells(rows[:200], separator) if row]
        if not widths:
            continue
        width, count = Counter(widths).most_common(1)[0]
        # A decimal comma is in every row as well, so a comma must win by more than its place in the list.
        if width > 1 and count / len(widths) > agreement:
            agreement = count / len(widths)
            best = (separator, next(k for k, w in enumerate(_widths(rows[:200], separator)) if w == width), width)
    return best


def _cells(rows: list[str], separator: str) -> list[list[str]]:
    """Return the cells of some lines; blanks may be what stands between them."""
    if separator == _BLANKS:
        return [row.split() for row in rows]
    return [[c.strip() for c in row] for row in csv.reader(io.StringIO("\n".join(rows)), delimiter=separator)]


def _widths(rows: list[str], separator: str) -> list[int]:
    return [len(next(iter(_cells([row], separator)), [])) for row in rows]


def _numbers(table: pd.DataFrame) -> dict[str, str]:
    """Return pandas' options for numbers that are written with commas."""
    cells = [c for column in table.columns for c in table[column].iloc[:500] if _NUMERIC.fullmatch(c) and len(c) < 40]
    if any(_DECIMAL_COMMA.fullmatch(c) for c in cells) and not any(re.search(r",\d+\.", c) for c in cells):
        grouped = any("." in c and "," in c and _THOUSANDS["."].fullmatch(c) for c in cells)
        return {"decimal": ","} | ({"thousands": "."} if grouped else {})
    return {"thousands": ","} if any("," in c and _THOUSANDS[","].fullmatch(c) for c in cells) else {}


def _identity(table: pd.DataFrame, stamps: pd.Series, others: list[str]) -> str | None:
    """Return the column that tells several series apart: with it, and only with it, each stamp is there once."""
    if not stamps.duplicated().any():
        return None
    for name in others:
        counts = table[name].value_counts()
        if (
            len(counts) > 1
            and counts.min() > 2
            and not pd.DataFrame({"i": table[name], "t": stamps}).duplicated().any()
        ):
            return str(name)
    return None


def _is_empty(cells: pd.Series) -> bool:
    return bool((cells == "").all())


def _without_units(table: pd.DataFrame) -> Iterator[str]:
    """Yield what takes a unit off the numbers, where all of a column have the same."""
    for name in table.columns:
        found = {match[1] if (match := _WITH_UNIT.fullmatch(cell)) else "" for cell in table[name] if len(cell) < 60}
        if len(found) == 1 and "" not in found:
            (unit,) = found
            yield f"table[{name!r}] = table[{name!r}].str.removesuffix({unit!r}).astype('float')"


def _filling(table: pd.DataFrame) -> Iterator[str]:
    """Yield what fills cells without a value."""
    missing = table.apply(lambda column: column.str.lower().isin(MISSING_CELLS)).sum()
    columns = [str(name) for name in missing.index[(missing > 0) & (missing < len(table))]]
    if columns:
        yield f"# {missing.sum()} values are missing: straight lines between the known ones, if that suits the data"
        yield f"table[{columns!r}] = table[{columns!r}].interpolate(limit_direction='both')"


def _is_text(cells: pd.Series) -> bool:
    """Whether most of the cells that hold something hold no number, also not one with a unit."""
    held = cells[~cells.str.lower().isin([*MISSING_CELLS, "-", "?"])].iloc[:500]
    numbers = sum(len(c) < 60 and bool(_NUMERIC.fullmatch(c) or _WITH_UNIT.fullmatch(c)) for c in held)
    return len(held) > 0 and numbers < len(held) / 2


def _without_times(path: Path, table: pd.DataFrame, options: dict[str, Any]) -> Iterator[str]:
    """Yield how to add time stamps to a file that has none but counts its rows."""
    counts = pd.to_numeric(table.iloc[:, 0], errors="coerce")
    if counts.isna().any() or not (counts.diff().iloc[1:] == 1).all():
        return
    name = path.with_name(f"{path.stem}-tidy.csv").as_posix()
    yield _call("table", path, options)
    yield f"# {str(table.columns[0])!r} counts rows; put the first time and the spacing here:"
    yield "table['time'] = pd.date_range('2020-01-01', periods=len(table), freq='h')"
    yield f"table.set_index('time')[{[str(c) for c in table.columns[1:]]!r}].to_csv({name!r})"
