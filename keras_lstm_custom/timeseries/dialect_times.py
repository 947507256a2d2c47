"""Which columns of a file are its time stamps, in whatever form, and the pandas call that reads them."""

from __future__ import annotations

import re
from itertools import product
from typing import NamedTuple

import pandas as pd

_DATES = (
    *("%Y-%m-%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y/%m/%d", "%Y.%m.%d", "%Y%m%d"),
    *("%d.%m.%y", "%d/%m/%y", "%m/%d/%y", "%d %b %Y", "%d-%b-%Y", "%d-%b-%y", "%b %d, %Y", "%d %B %Y"),
)
_CLOCKS = ("", " %H:%M", " %H:%M:%S", "T%H:%M:%S", " %I:%M %p", " %I:%M:%S %p", " %H.%M", " %H%M", "%H%M", " %H")
_OTHERS = ("%m/%Y", "%b %Y", "%b-%Y", "%b-%y", "%B %Y", "%YM%m", "%Ym%m", "%Y%m")
_FORMATS = (*(date + clock for date, clock in product(_DATES, _CLOCKS)), *_OTHERS)
_EPOCHS = {10: "s", 13: "ms", 16: "us", 19: "ns"}


class Times(NamedTuple):
    """How time stamps are made of columns: the code, the stamps, and the columns that it uses."""

    code: str
    stamps: pd.Series
    used: tuple[str, ...]

    @property
    def plain(self) -> bool:
        """Whether `read_csv` reads them as they stand."""
        return len(self.used) == 1 and not any(word in self.code for word in ("format=", "unit=", "Period"))


def find_times(table: pd.DataFrame, time: str | None) -> Times | None:
    """Return how to make the time stamps, of one column or of a date and a time of day."""
    names = [time] if time is not None and time in table.columns else [str(name) for name in table.columns]
    for name in names:
        known = read_stamps(table[name])
        if known is not None:
            how, stamps = known
            if (stamps.dt.normalize() == stamps).all() and stamps.duplicated().any():
                for clock in table.columns:
                    pair = table[name] + " " + table[clock]
                    both = (
                        read_stamps(pair)
                        if clock != name and table[clock].str.match(r"\d{1,2}[:.h]?\d\d").all()
                        else None
                    )
                    if both is not None:
                        code = f"pd.to_datetime(table[{name!r}] + ' ' + table[{clock!r}]{both[0]})"
                        return Times(f"table['time'] = {code}", both[1], (name, clock))
            return Times(f"table['time'] = pd.to_datetime(table[{name!r}]{how})", stamps, (name,))
        unit = _EPOCHS.get(len(table[name].iloc[0].partition(".")[0]))
        if unit and table[name].str.fullmatch(r"\d+(\.\d*)?").all():
            code = f"pd.to_datetime(table[{name!r}].astype('float').astype('int64'), unit={unit!r}, utc=True)"
            stamps = pd.Series(table[name].astype("float").astype("int64").to_numpy().astype(f"datetime64[{unit}]"))
            return Times(f"table['time'] = {code}", stamps, (name,))
        if table[name].str.fullmatch(r"\d{4}-W\d\d").all():
            code = f"pd.to_datetime(table[{name!r}] + '-1', format='%G-W%V-%u')"
            return Times(f"table['time'] = {code}", pd.to_datetime(table[name] + "-1", format="%G-W%V-%u"), (name,))
        if table[name].str.fullmatch(r"\d{4}-?Q[1-4]").all():
            code = f"pd.PeriodIndex(table[{name!r}].str.replace('-', ''), freq='Q').to_timestamp()"
            stamps = pd.Series(pd.PeriodIndex(table[name].str.replace("-", ""), freq="Q").to_timestamp())
            return Times(f"table['time'] = {code}", stamps, (name,))
    parts = [name for name in table.columns if str(name).lower() in ("year", "month", "day", "hour", "minute")]
    if len(parts) >= 3 and {"year", "month", "day"} <= {str(p).lower() for p in parts}:
        renamed = {name: str(name).lower() for name in parts}
        stamps = pd.to_datetime(table[parts].rename(columns=renamed).astype(int))
        return Times(
            f"table['time'] = pd.to_datetime(table[{parts!r}].rename(columns=str.lower).astype(int))",
            stamps,
            tuple(parts),
        )
    return None


def read_stamps(cells: pd.Series) -> tuple[str, pd.Series] | None:
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
