"""Which columns of a file are its time stamps, in whatever form, and the pandas calls that read them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

import pandas as pd

from keras_lstm_custom.timeseries.spacing import on_a_grid, usual_step
from keras_lstm_custom.timeseries.stamps import YEARS

_DATES = (
    *("%Y-%m-%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y/%m/%d", "%Y.%m.%d", "%Y%m%d"),
    *("%d.%m.%y", "%d/%m/%y", "%m/%d/%y", "%d %b %Y", "%d-%b-%Y", "%d-%b-%y", "%b %d, %Y", "%d %B %Y", "%B %d, %Y"),
    "%Y-%j",
)
_CLOCKS = (
    *("", " %H:%M", " %H:%M:%S", "T%H:%M:%S", " %I:%M %p", " %I:%M:%S %p", " %H.%M", " %H%M", "%H%M", "%H%M%S"),
    *(" %H", "%H", "_%H%M", ":%H%M", ", %H:%M", ":%H:%M:%S"),
)
_OTHERS = ("%Y", "%m/%Y", "%m.%Y", "%b %Y", "%b-%Y", "%b-%y", "%B %Y", "%YM%m", "%Ym%m", "%Y%m")
_FORMATS = (*(date + clock for date, clock in product(_DATES, _CLOCKS)), *_OTHERS)
_EPOCHS = {10: "s", 13: "ms", 16: "us", 19: "ns"}
#: Offsets from UTC that letters behind a time mean; those that mean several are left out.
_ZONES = {
    **{"UTC": "+00:00", "GMT": "+00:00", "WET": "+00:00", "WEST": "+01:00", "BST": "+01:00"},
    **{"CET": "+01:00", "CEST": "+02:00", "MEZ": "+01:00", "MESZ": "+02:00", "EET": "+02:00", "EEST": "+03:00"},
    **{"EST": "-05:00", "EDT": "-04:00", "CDT": "-05:00", "MST": "-07:00", "MDT": "-06:00"},
    **{"PST": "-08:00", "PDT": "-07:00", "AEST": "+10:00", "AEDT": "+11:00", "JST": "+09:00"},
}
_WEEKDAY = r"^(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]*\.?,? "
_RANGE = re.compile(r".*\d.* - .*\d.*")
#: Names of a column that counts parts of a day, and how many parts it may count.
_PART_OF_DAY = re.compile(
    r"(?i)(.*[ _])?(h|he|hr|hrs|hours?|std|stunde|heure|hora|ora|uur|time|periods?|intervals?)([ _].*)?"
)
_PARTS = (24, 48, 96)
#: Days since this one are how Excel keeps times; the counts of 1990 to 2100, since smaller ones count rows more often.
_EXCEL, _EXCEL_DAYS = "1899-12-30", (32_874, 73_051)


class Times(NamedTuple):
    """How time stamps are made of columns.

    Attributes:
        lines: the code.
        stamps: what it gives.
        used: the columns that it uses.
        plain: whether `read_csv` reads them as they stand.
    """

    lines: tuple[str, ...]
    stamps: pd.Series
    used: tuple[str, ...]
    plain: bool = False


class Stamps(NamedTuple):
    """How `pd.to_datetime` reads cells: what is done before, its options, what is added, and what comes of it."""

    before: str
    options: str
    after: str
    stamps: pd.Series

    def code(self, cells: str) -> str:
        """Return the code that makes stamps of the cells, which are given as code."""
        cells = f"({cells})" if " + " in cells and (self.before or self.after) else cells
        return f"table['time'] = pd.to_datetime({cells}{self.before}{self.options}){self.after.format(cells)}"


def find_times(table: pd.DataFrame, time: str | None) -> Times | None:
    """Return how to make the time stamps, of one column or of several."""
    names = [time] if time is not None and time in table.columns else [str(name) for name in table.columns]
    parts = next(_of_parts(table), None) if time is None else None
    if parts is not None:
        return parts
    for name in names:
        known = read_stamps(table[name])
        if known is not None:
            whole = Times((known.code(f"table[{name!r}]"),), known.stamps, (name,), not known.before + known.after)
            dates = known.stamps.dt.normalize()
            is_split = (dates == known.stamps).all() and dates.duplicated().any()
            found = next(_with_clock(table, name, known), whole) if is_split else whole
            return found._replace(plain=found.plain and len(found.used) == 1 and "format=" not in found.lines[0])
        counted = next(_counted(table[name], name), None)
        if counted is not None:
            return counted
    return None


def _with_clock(table: pd.DataFrame, name: str, dates: Stamps) -> Iterator[Times]:
    """Yield how a column of dates and one of the time of day, or of the hour, make stamps."""
    for clock in table.columns:
        if clock != name and table[clock].str.match(r"\d{1,2}[:.h]?\d\d").all():
            both = read_stamps(table[name] + " " + table[clock])
            if both is not None:
                yield Times((both.code(f"table[{name!r}] + ' ' + table[{clock!r}]"),), both.stamps, (name, clock))
    for part in table.columns:
        counts = pd.to_numeric(table[part], errors="coerce")
        first, number = counts.min(), counts.max() - counts.min() + 1
        if part == name or counts.isna().any() or number not in _PARTS or first not in (0, 1):
            continue
        if _PART_OF_DAY.fullmatch(str(part)):
            minutes = int(24 * 60 // number)
            count = f"table[{part!r}].astype('int')" + (" - 1" if first else "")
            lines = (
                *([f"# {part!r} 1 is taken for the first {minutes} minutes of the day"] if first else []),
                dates.code(f"table[{name!r}]"),
                f"table['time'] += pd.to_timedelta(({count}) * {minutes}, unit='min')",
            )
            yield Times(
                lines, dates.stamps + pd.to_timedelta((counts - first) * minutes, unit="min"), (name, str(part))
            )


def _counted(cells: pd.Series, name: str) -> Iterator[Times]:
    """Yield how numbers, weeks, quarters and years that count from 1 make stamps."""
    column = f"table[{name!r}]"
    unit = _EPOCHS.get(len(cells.iloc[0].partition(".")[0]))
    if unit and cells.str.fullmatch(r"\d+(\.\d*)?").all():
        code = f"table['time'] = pd.to_datetime({column}.astype('float').astype('int64'), unit={unit!r}, utc=True)"
        stamps = pd.Series(cells.astype("float").astype("int64").to_numpy().astype(f"datetime64[{unit}]"))
        yield Times((code,), stamps, (name,))
    if cells.str.fullmatch(r"\d{4}-W\d\d").all():
        code = f"table['time'] = pd.to_datetime({column} + '-1', format='%G-W%V-%u')"
        yield Times((code,), pd.to_datetime(cells + "-1", format="%G-W%V-%u"), (name,))
    for pattern, to in ((r"^(\d{4})[- ]?Q([1-4])$", r"\1Q\2"), (r"^Q([1-4])[-/ ]?(\d{4})$", r"\2Q\1")):
        if cells.str.match(pattern).all():
            text = f"{column}.str.replace({pattern!r}, {to!r}, regex=True)"
            stamps = pd.Series(pd.PeriodIndex(cells.str.replace(pattern, to, regex=True), freq="Q").to_timestamp())
            yield Times(
                (f"table['time'] = pd.PeriodIndex({text}, freq='Q').to_timestamp()",), pd.Series(stamps), (name,)
            )
    if cells.str.fullmatch(r"\d{1,2}-\d\d").all() and int(cells.iloc[0].partition("-")[0]) == 1:
        stamps = pd.to_datetime("20" + cells.str.zfill(5), format="%Y-%m", errors="coerce")
        if stamps.notna().all() and not _irregular(stamps)[0]:
            made = f"pd.to_datetime('20' + {column}.str.zfill(5), format='%Y-%m')"
            yield Times(("# the years count from 1, here taken for 2001:", f"table['time'] = {made}"), stamps, (name,))
    days = pd.to_numeric(cells, errors="coerce")
    if days.between(*_EXCEL_DAYS).all():
        stamps = pd.to_datetime(days, unit="D", origin=_EXCEL).dt.round("s")
        if not _irregular(stamps)[0]:
            made = f"pd.to_datetime({column}.astype('float'), unit='D', origin={_EXCEL!r})"
            lines = ("# taken for days as Excel counts them:", f"table['time'] = {made}.dt.round('s')")
            yield Times(lines, stamps, (name,))


def _of_parts(table: pd.DataFrame) -> Iterator[Times]:
    """Yield how columns for year, month, day and so on make stamps."""
    by_name = {str(name).lower(): str(name) for name in table.columns}
    parts = [name for part, name in by_name.items() if part in ("year", "month", "day", "hour", "minute")]
    if {"year", "month", "day"} <= by_name.keys() and _whole(table[parts]):
        stamps = pd.to_datetime(table[parts].rename(columns=str.lower).astype(int), errors="coerce")
        code = f"table['time'] = pd.to_datetime(table[{parts!r}].rename(columns=str.lower).astype(int))"
        if stamps.notna().all():
            yield Times((code,), stamps, tuple(parts))
    year = by_name.get("year")
    if year is None or not table[year].str.fullmatch(r"\d{4}").all() or "day" in by_name:
        return
    if "month" in by_name:
        month = by_name["month"]
        known = read_stamps(table[year] + "-" + table[month])
        for form in ("%Y-%m", "%Y-%b", "%Y-%B"):
            stamps = pd.to_datetime(table[year] + "-" + table[month], format=form, errors="coerce")
            if known is None and stamps.notna().all():
                known = Stamps("", f", format={form!r}", "", stamps)
        if known is not None:
            yield Times((known.code(f"table[{year!r}] + '-' + table[{month!r}]"),), known.stamps, (year, month))
    if "quarter" in by_name:
        both = table[year] + "Q" + table[by_name["quarter"]].str.removeprefix("Q")
        if both.str.fullmatch(r"\d{4}Q[1-4]").all():
            text = f"table[{year!r}] + 'Q' + table[{by_name['quarter']!r}].str.removeprefix('Q')"
            stamps = pd.Series(pd.PeriodIndex(both, freq="Q").to_timestamp())
            code = f"table['time'] = pd.PeriodIndex({text}, freq='Q').to_timestamp()"
            yield Times((code,), stamps, (year, by_name["quarter"]))


def _whole(table: pd.DataFrame) -> bool:
    return bool(table.apply(lambda column: column.str.fullmatch(r"\d+").all()).all())


def read_stamps(cells: pd.Series) -> Stamps | None:
    """Return how `pd.to_datetime` reads all the cells; None if it does not.

    Where day and month could be either, those are taken whose stamps are regular, and of these the day first.
    """
    if not 4 <= len(cells.iloc[0]) <= 60 or not any(c.isdigit() for c in cells.iloc[0]):
        return None
    before, after, zoned = "", "", False
    if cells.str.fullmatch(_RANGE).all():
        before, cells = ".str.split(' - ').str[0]", cells.str.split(" - ").str[0]
    if cells.str.match(_WEEKDAY).all():
        before, cells = (
            f"{before}.str.replace({_WEEKDAY!r}, '', regex=True)",
            cells.str.replace(_WEEKDAY, "", regex=True),
        )
    letters = cells.str.extract(r" ([A-Z]{3,4})$")[0]
    if letters.isin(list(_ZONES)).all():
        zoned, offsets = True, {f" {zone}$": _ZONES[zone] for zone in letters.unique()}
        before, cells = f"{before}.replace({offsets!r}, regex=True)", cells.replace(offsets, regex=True)
    late = cells.str.contains("[ T]24:?00")
    if late.any():
        before, cells = f"{before}.str.replace(' 24', ' 00')", cells.str.replace(" 24", " 00")
        after = " + pd.to_timedelta({}.str.contains(' 24').astype('int'), unit='D')"
    if cells.str.fullmatch(r"\d{4}\.0").all():
        before, cells = f"{before}.str.removesuffix('.0')", cells.str.removesuffix(".0")
    found = _parsed(cells, zoned)
    if found is None:
        return None
    return Stamps(before, found[0], after, found[1] + pd.to_timedelta(late.astype(int), unit="D"))


def _parsed(cells: pd.Series, zoned: bool) -> tuple[str, pd.Series] | None:
    """Return the options of `pd.to_datetime` for these cells, and the stamps, in UTC where they have an offset."""
    first = cells.iloc[0]
    if re.match(r"\d{4}-\d\d?(?!\d)", first):
        stamps = pd.to_datetime(cells, format="ISO8601", errors="coerce", utc=True)
        if stamps.notna().all():
            aware = bool(re.search(r"(Z|[+-]\d\d:?\d\d)$", first[10:]))
            return ", utc=True" if aware else "", stamps.dt.tz_localize(None)
    found: list[tuple[tuple[bool, float], str, pd.Series]] = []
    for form in (f"{form}%z" for form in _FORMATS) if zoned else _FORMATS:
        if pd.isna(pd.to_datetime(pd.Series([first]), format=form, errors="coerce").iloc[0]):
            continue
        if form.startswith("%Y") and not YEARS[0] <= int(first[:4]) <= YEARS[1]:
            continue
        if form.startswith("%Y%m%d%H") and not first.startswith(("19", "20")):  # else seconds since 1970
            continue
        stamps = pd.to_datetime(cells, format=form, errors="coerce", utc=zoned)
        if stamps.notna().all():
            stamps = stamps.dt.tz_localize(None)
            found.append((_irregular(stamps), f", format={form!r}" + (", utc=True" if zoned else ""), stamps))
    return min(found, key=lambda one: one[0])[1:] if found else None


def _irregular(stamps: pd.Series) -> tuple[bool, float]:
    """Return whether stamps lie on no grid, and the share of steps that are not the usual one."""
    once = pd.DatetimeIndex(stamps.drop_duplicates())
    if len(once) < 3:
        return True, 1.0
    steps = once[1:] - once[:-1]
    return on_a_grid(once.sort_values()) is None, float((steps != usual_step(once)).mean())
