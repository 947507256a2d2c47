"""What a file that is not read as it stands probably is, as the pandas call that would tidy it.

`read_csv` guesses nothing. This module guesses, for the text of an error only: the user runs the call, looks at what
it gives, and decides.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pandas as pd

from keras_lstm_custom.timeseries.dialect_layout import BYTES, layout
from keras_lstm_custom.timeseries.dialect_numbers import find_numbers
from keras_lstm_custom.timeseries.dialect_steps import mending
from keras_lstm_custom.timeseries.dialect_times import find_times
from keras_lstm_custom.timeseries.sheets import foreign


def tidying_call(path: Path, time: str | None = None) -> str | None:
    """Return Python code, indented, that writes a tidy copy of the file; None if there is nothing to advise.

    Args:
        path: the file.
        time: the column of time stamps, if it is known.
    """
    try:
        with path.open("rb") as file:
            content = file.read(BYTES)
        lines = list(_of_other_kind(path, content) or _code(path, content, time))
    except Exception:  # a guess about any file at all; what is wrong with it the caller says
        return None
    if not any(line for line in lines):
        return None
    return "\n".join(f"    {line}" for line in ["import pandas as pd", *lines])


def _of_other_kind(path: Path, content: bytes) -> list[str]:
    """Return the code for a file that is no text."""
    kind = foreign(content)
    return [] if kind is None else [_call(kind.reader, path, {}), f"table.to_csv({_tidy(path)!r}, index=False)"]


def _code(path: Path, content: bytes, time: str | None) -> Iterator[str]:
    """Yield the lines of the code, or nothing where the file shows nothing that could be tidied."""
    found = layout(content)
    if found is None:
        return
    table = pd.DataFrame(found.body, columns=found.header, dtype=object)
    times = find_times(table, time)
    if times is None:
        yield from _without_times(path, table, found.options)
        return
    others = [c for c in table.columns if c not in times.used and not (c.startswith("Unnamed") or _is_empty(table[c]))]
    identity = _identity(table, times.stamps, others)
    numbers = find_numbers(table[[c for c in others if c not in identity]])
    measured = [c for c in others if c not in (*identity, *numbers.words)]
    if not measured:
        return
    options = found.options | numbers.options
    mended = [*numbers.lines, *mending(times.stamps, _series(identity)), *numbers.filling]
    named = all(c in (*others, *times.used) for c in table.columns) and table.columns[0] == times.used[0]
    if not options and not mended and not identity and times.plain and named and not numbers.words:
        return  # tidy as it stands: what is wrong is something else
    text = dict.fromkeys([*times.used, *numbers.text, *(identity if len(identity) > 1 else ())], "str")
    yield _call("read_csv", path, options | {"dtype": text})
    yield from times.lines
    if len(identity) > 1:
        yield f"table[{_series(identity)!r}] = " + " + ' ' + ".join(f"table[{name!r}]" for name in identity)
    yield from mended
    if numbers.words:
        told = f"{', '.join(numbers.words[:5])}{' ...' if len(numbers.words) > 5 else ''}"
        yield f"# left out, since they hold text: {told}"
    order = ", ".join(repr(c) for c in [*([_series(identity)] if identity else []), *measured])
    yield f"table.set_index('time')[[{order}]].to_csv({_tidy(path)!r})"
    if identity:
        yield f"# several series: read_series({_tidy(path)!r}, id={_series(identity)!r})"


def _call(reader: str, path: Path, options: dict[str, Any]) -> str:
    return f"table = pd.{reader}({', '.join([repr(path.as_posix()), *(f'{k}={v!r}' for k, v in options.items())])})"


def _tidy(path: Path) -> str:
    return path.with_name(f"{path.name.partition('.')[0] or 'table'}-tidy.csv").as_posix()


def _identity(table: pd.DataFrame, stamps: pd.Series, others: list[str]) -> tuple[str, ...]:
    """Return the columns, one or two, that tell several series apart: with them alone each stamp is there once."""
    if not stamps.duplicated().any():
        return ()
    few = [name for name in others if 1 < table[name].nunique() <= len(table) / 3]
    for names in (*((name,) for name in few), *combinations(few, 2)):
        series = table[list(names)].agg(" ".join, axis=1)
        if series.value_counts().min() > 2 and not pd.DataFrame({"i": series, "t": stamps}).duplicated().any():
            return names
    return ()


def _series(identity: tuple[str, ...]) -> str | None:
    """Return the name of the column that tells the series apart."""
    return None if not identity else identity[0] if len(identity) == 1 else "series"


def _is_empty(cells: pd.Series) -> bool:
    return bool((cells == "").all())


def _without_times(path: Path, table: pd.DataFrame, options: dict[str, Any]) -> Iterator[str]:
    """Yield how to add time stamps to a file that has none but counts its rows."""
    counts = pd.to_numeric(table.iloc[:, 0], errors="coerce")
    if counts.isna().any() or not (counts.diff().iloc[1:] == 1).all():
        return
    yield _call("read_csv", path, options)
    yield f"# {str(table.columns[0])!r} counts rows; put the first time and the spacing here:"
    yield "table['time'] = pd.date_range('2020-01-01', periods=len(table), freq='h')"
    yield f"table.set_index('time')[{[str(c) for c in table.columns[1:]]!r}].to_csv({_tidy(path)!r})"
