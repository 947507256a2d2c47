"""What puts the time stamps of a file in order, as pandas calls: sorted, once each, in equal steps."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from keras_lstm_custom.timeseries.spacing import frequency_of, on_a_grid

#: Zones to name where clocks change: the first whose clocks do so there.
_ZONES = ("Europe/Berlin", "America/New_York", "Australia/Sydney")
#: Steps that stamps may be a little beside, as pandas names them.
_GRIDS = {"min": "1min", "5min": "5min", "10min": "10min", "15min": "15min", "30min": "30min", "h": "1h", "D": "1D"}
#: Lengths of equal steps to make of others.
_LENGTHS = ("1s", "10s", "1min", "5min", "15min", "1h", "6h", "1D", "7D")


def mending(stamps: pd.Series, identity: str | None) -> Iterator[str]:
    """Yield what puts stamps in order: sorted, once each, in equal steps."""
    if identity is not None:
        yield f"table = table.sort_values([{identity!r}, 'time'])"
        return
    twice = stamps[stamps.duplicated()]
    ordered = stamps.drop_duplicates().sort_values()
    step = ordered.diff().mode().iloc[0] if len(ordered) > 1 else pd.Timedelta(0)
    if len(twice) and _clock_change(twice, step):
        yield f"# {twice.iloc[0]} is there twice because clocks were put back; put your zone here:"
        yield _to_utc(_zone(twice.iloc[0]) or _ZONES[0])
        return
    skipped = _left_out(ordered, step)
    zone = _zone(skipped.iloc[0]) if len(skipped) and not len(twice) and _clock_change(skipped, step) else None
    if zone is not None:  # else more likely a hole
        yield f"# {skipped.iloc[0]} is not there because clocks were put forward; put your zone here:"
        yield _to_utc(zone)
        return
    grid = _grid(stamps)
    if grid is not None:
        yield "# the stamps are a little beside equal steps:"
        yield f"table['time'] = table['time'].dt.round({grid!r})"
        return
    if len(twice):
        yield f"# {len(twice)} stamps are there more than once, first {twice.iloc[0]}; the last row of each is kept:"
        yield "table = table.drop_duplicates('time', keep='last')"
    if not stamps.is_monotonic_increasing:
        yield "table = table.sort_values('time')"
    index = pd.DatetimeIndex(ordered)
    if len(index) < 3 or frequency_of(index) is not None:
        return
    grid_of_all = on_a_grid(index)
    if grid_of_all is None:
        usual = (index[1:] - index[:-1]).to_series().median()
        length = next((name for name in _LENGTHS if pd.Timedelta(name) >= usual), None)
        if length is not None:
            yield f"# the stamps are in no equal steps; means over each {length}, or another length that suits:"
            yield f"table = table.set_index('time').resample({length!r}).mean(numeric_only=True)"
            yield "table = table.interpolate().reset_index()"
    elif len(grid_of_all) > len(index):
        holes = len(grid_of_all) - len(index)
        yield f"# {holes} rows are missing: straight lines between the known ones (or read with missing='keep')"
        yield f"table = table.set_index('time').asfreq({grid_of_all.freqstr!r})"
        yield "table = table.interpolate().reset_index()"


def _clock_change(twice: pd.Series, step: pd.Timedelta) -> bool:
    """Whether stamps that are there twice are those of one hour of the night, of a Sunday in autumn (or April)."""
    hours = int(pd.Timedelta(hours=1) / step) if pd.Timedelta(0) < step <= pd.Timedelta(hours=1) else 0
    days = twice.dt.normalize().value_counts()
    nights = (twice.dt.hour <= 3) & (twice.dt.dayofweek == 6) & twice.dt.month.isin((3, 4, 9, 10, 11))
    return bool(hours and nights.all() and (days == hours).all())


def _zone(stamp: pd.Timestamp) -> str | None:
    """Return a zone whose clocks change at the stamp."""

    def changes(zone: str) -> bool:
        try:
            stamp.tz_localize(zone)
        except ValueError:  # it is there twice, or never
            return True
        return False

    return next(filter(changes, _ZONES), None)


def _to_utc(zone: str) -> str:
    return f"table['time'] = table['time'].dt.tz_localize({zone!r}, ambiguous='infer').dt.tz_convert('UTC')"


def _left_out(ordered: pd.Series, step: pd.Timedelta) -> pd.Series:
    """Return the stamps that are missing between the first and the last."""
    span = ordered.iloc[-1] - ordered.iloc[0]
    if len(ordered) < 3 or not pd.Timedelta(0) < step <= pd.Timedelta(hours=1) or span / step > 2 * len(ordered):
        return ordered[:0]
    every = pd.date_range(ordered.iloc[0], ordered.iloc[-1], freq=step)
    return pd.Series(every.difference(pd.DatetimeIndex(ordered)))


def _grid(stamps: pd.Series) -> str | None:
    """Return equal steps that all stamps are within a twentieth of, but not on."""
    for name, length in _GRIDS.items():
        rounded, step = stamps.dt.round(name), pd.Timedelta(length)
        off = (stamps - rounded).abs().max()
        if pd.Timedelta(0) < off <= step / 20 and (rounded.diff().iloc[1:] == step).all():
            return name
    return None
