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
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from keras_lstm_custom.timeseries.sheets import MISSING_CELLS

#: How much of a file is looked at; its dialect shows in the first rows.
_BYTES, _ROWS = 2_000_000, 20_000
_ENCODINGS = ("utf-8-sig", "cp1252")
_DATES = (
    *("%Y-%m-%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y/%m/%d", "%Y.%m.%d", "%Y%m%d"),
    *("%d.%m.%y", "%d/%m/%y", "%m/%d/%y", "%d %b %Y", "%d-%b-%Y", "%d-%b-%y", "%b %d, %Y", "%d %B %Y"),
)
_CLOCKS = ("", " %H:%M", " %H:%M:%S", "T%H:%M:%S", " %I:%M %p", " %I:%M:%S %p", " %H.%M", " %H%M", "%H%M", " %H")
_OTHERS = ("%m/%Y", "%b %Y", "%b-%Y", "%b-%y", "%B %Y", "%YM%m", "%Ym%m", "%Y%m")
_FORMATS = (*(date + clock for date, clock in product(_DATES, _CLOCKS)), *_OTHERS)
_EPOCHS = {10: "s", 13: "ms", 16: "us", 19: "ns"}
_DECIMAL_COMMA = re.compile(r"[+-]?\d{1,3}(?:\.\d{3})+,\d+|[+-]?\d+,\d+")
_THOUSANDS = {".": re.compile(r"[+-]?\d{1,3}(\.\d{3})+(,\d+)?"), ",": re.compile(r"[+-]?\d{1,3}(,\d{3})+(\.\d+)?")}
_NUMERIC = re.compile(r"[+-]?[\d.,]++(?:[eE][+-]?\d++)?")


class _Times(NamedTuple):
    """How time stamps are made of columns: the code, the stamps, and the columns that it uses."""

    code: str
    stamps: pd.Series
    used: tuple[str, ...]

    @property
    def plain(self) -> bool:
        """Whether `read_csv` reads them as they stand."""
        return len(self.used) == 1 and "format=" not in self.code and "unit=" not in self.code


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
    cells = [[c.strip() for c in row] for row in csv.reader(io.StringIO("\n".join(rows[start:])), delimiter=separator)]
    cells = [row for row in cells if len(row) == width]
    if len(cells) < 4 or width < 2:
        return
    options: dict[str, Any] = {} if separator == "," else {"sep": separator}
    options |= {} if encoding == "utf-8-sig" else {"encoding": encoding}
    options |= {"skiprows": start} if start else {}
    header, body = cells[0], cells[1:]
    if all(_NUMERIC.fullmatch(c) or _stamps(pd.Series([c])) is not None for c in header if c):
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
    times = _times(table, time)
    if times is None:
        yield from _without_times(path, table, options)
        return
    others = [c for c in table.columns if c not in times.used]
    identity = _identity(table, times.stamps, others)
    mending = [*_mending(times.stamps, identity), *_filling(table[others])]
    if not options and not mending and identity is None and times.plain:
        return  # tidy as it stands: what is wrong is something else
    yield _call("table", path, options | {"dtype": dict.fromkeys(times.used, "str")})
    yield times.code
    yield from mending
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
    for separator in (";", "\t", "|", ","):
        widths = [len(row) for row in csv.reader(rows[:200], delimiter=separator) if row]
        if not widths:
            continue
        width, count = Counter(widths).most_common(1)[0]
        # A decimal comma is in every row as well, so a comma must win by more than its place in the list.
        if width > 1 and count / len(widths) > agreement:
            agreement = count / len(widths)
            best = (separator, next(k for k, w in enumerate(_widths(rows[:200], separator)) if w == width), width)
    return best


def _widths(rows: list[str], separator: str) -> list[int]:
    return [len(next(csv.reader([row], delimiter=separator), [])) for row in rows]


def _numbers(table: pd.DataFrame) -> dict[str, str]:
    """Return pandas' options for numbers that are written with commas."""
    cells = [c for column in table.columns for c in table[column].iloc[:500] if _NUMERIC.fullmatch(c) and len(c) < 40]
    if any(_DECIMAL_COMMA.fullmatch(c) for c in cells) and not any(re.search(r",\d+\.", c) for c in cells):
        grouped = any("." in c and "," in c and _THOUSANDS["."].fullmatch(c) for c in cells)
        return {"decimal": ","} | ({"thousands": "."} if grouped else {})
    return {"thousands": ","} if any("," in c and _THOUSANDS[","].fullmatch(c) for c in cells) else {}


def _times(table: pd.DataFrame, time: str | None) -> _Times | None:
    """Return how to make the time stamps, of one column or of a date and a time of day."""
    names = [time] if time is not None and time in table.columns else [str(name) for name in table.columns]
    for name in names:
        known = _stamps(table[name])
        if known is not None:
            how, stamps = known
            if (stamps.dt.normalize() == stamps).all() and stamps.duplicated().any():
                for clock in table.columns:
                    pair = table[name] + " " + table[clock]
                    both = (
                        _stamps(pair) if clock != name and table[clock].str.match(r"\d{1,2}[:.h]?\d\d").all() else None
                    )
                    if both is not None:
                        code = f"pd.to_datetime(table[{name!r}] + ' ' + table[{clock!r}]{both[0]})"
                        return _Times(f"table['time'] = {code}", both[1], (name, clock))
            return _Times(f"table['time'] = pd.to_datetime(table[{name!r}]{how})", stamps, (name,))
        unit = _EPOCHS.get(len(table[name].iloc[0]))
        if unit and table[name].str.fullmatch(r"\d+").all():
            code = f"pd.to_datetime(table[{name!r}].astype('int64'), unit={unit!r}, utc=True)"
            stamps = pd.Series(table[name].astype("int64").to_numpy().astype(f"datetime64[{unit}]"))
            return _Times(f"table['time'] = {code}", stamps, (name,))
    parts = [name for name in table.columns if str(name).lower() in ("year", "month", "day", "hour", "minute")]
    if len(parts) >= 3 and {"year", "month", "day"} <= {str(p).lower() for p in parts}:
        renamed = {name: str(name).lower() for name in parts}
        stamps = pd.to_datetime(table[parts].rename(columns=renamed).astype(int))
        return _Times(
            f"table['time'] = pd.to_datetime(table[{parts!r}].rename(columns=str.lower).astype(int))",
            stamps,
            tuple(parts),
        )
    return None


def _stamps(cells: pd.Series) -> tuple[str, pd.Series] | None:
    """Return the arguments of `pd.to_datetime` that read all the cells, and what they give; None if none does.

    Where day and month could be either, those are taken whose stamps rise, and of these the day first.
    """
    first = cells.iloc[0]
    if not 4 <= len(first) <= 40 or not any(c.isdigit() for c in first):
        return None
    if re.match(r"\d{4}-\d", first):
        stamps = pd.to_datetime(cells, format="ISO8601", errors="coerce", utc=True)
        if stamps.notna().all():
            aware = bool(re.search(r"(Z|[+-]\d\d:?\d\d)$", first[10:]))
            return ", utc=True" if aware else "", stamps.dt.tz_localize(None)
    found: list[tuple[bool, str, pd.Series]] = []
    for form in _FORMATS:
        if pd.isna(pd.to_datetime(pd.Series([first]), format=form, errors="coerce").iloc[0]):
            continue
        if form in ("%Y%m%d", "%Y%m") and not first.startswith(("18", "19", "20")):
            continue
        stamps = pd.to_datetime(cells, format=form, errors="coerce")
        if stamps.notna().all():
            steps = stamps.diff().iloc[1:]
            found.append((not (steps == steps.iloc[0]).all() if len(steps) else True, f", format={form!r}", stamps))
    found.sort(key=lambda one: one[0])
    return None if not found else found[0][1:]


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


def _mending(stamps: pd.Series, identity: str | None) -> Iterator[str]:
    """Yield what puts stamps in order: sorted, once each, in equal steps."""
    if identity is not None:
        yield f"table = table.sort_values([{identity!r}, 'time'])"
        return
    twice = stamps[stamps.duplicated()]
    ordered = stamps.drop_duplicates().sort_values()
    step = ordered.diff().mode().iloc[0] if len(ordered) > 1 else pd.Timedelta(0)
    if len(twice) and _clock_change(twice, step):
        yield f"# {twice.iloc[0]} is there twice because clocks were put back; put your zone here:"
        yield "table['time'] = table['time'].dt.tz_localize('Europe/Berlin', ambiguous='infer').dt.tz_convert('UTC')"
        return
    if len(twice):
        yield f"# {len(twice)} stamps are there more than once, first {twice.iloc[0]}; the last row of each is kept:"
        yield "table = table.drop_duplicates('time', keep='last')"
    if not stamps.is_monotonic_increasing:
        yield "table = table.sort_values('time')"
    if len(ordered) > 2 and step > pd.Timedelta(0):
        index = pd.DatetimeIndex(ordered)
        holes = len(pd.date_range(index[0], index[-1], freq=step)) - len(index)
        if 0 < holes <= len(index) and step < pd.Timedelta(days=27):
            yield f"# {holes} rows are missing: straight lines between the known ones (or read with missing='keep')"
            yield f"table = table.set_index('time').asfreq({pd.tseries.frequencies.to_offset(step).freqstr!r})"
            yield "table = table.interpolate().reset_index()"


def _filling(table: pd.DataFrame) -> Iterator[str]:
    """Yield what fills cells without a value."""
    missing = table.apply(lambda column: column.str.lower().isin(MISSING_CELLS)).sum()
    columns = [str(name) for name in missing.index[(missing > 0) & (missing < len(table))]]
    if columns:
        yield f"# {missing.sum()} values are missing: straight lines between the known ones, if that suits the data"
        yield f"table[{columns!r}] = table[{columns!r}].interpolate(limit_direction='both')"


def _clock_change(twice: pd.Series, step: pd.Timedelta) -> bool:
    """Whether stamps that are there twice are those of one hour of the night, of a Sunday in autumn (or April)."""
    hours = int(pd.Timedelta(hours=1) / step) if pd.Timedelta(0) < step <= pd.Timedelta(hours=1) else 0
    days = twice.dt.normalize().value_counts()
    nights = (twice.dt.hour <= 3) & (twice.dt.dayofweek == 6) & twice.dt.month.isin((3, 4, 9, 10, 11))
    return bool(hours and nights.all() and (days == hours).all())


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
