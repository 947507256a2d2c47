"""What is forecast from what: the columns and their parts, the sizes, the spacing and the zone."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

import pandas as pd

from keras_lstm_custom.errors import ArgumentError, DataError
from keras_lstm_custom.timeseries.baselines import periods_of
from keras_lstm_custom.timeseries.checks import check_size, names_shown, shown
from keras_lstm_custom.timeseries.forecasting.calendar import calendar_columns, cycles_for
from keras_lstm_custom.timeseries.spacing import regular

Frames = Mapping[str, pd.DataFrame]
#: What a network does about values that are not there.
MISSING = ("refuse", "mask", "indicate")


@dataclass(frozen=True)
class Plan:
    """All that a forecaster must know about its data, as plain values for a JSON file.

    Attributes:
        target: the column to forecast.
        past: columns that are seen up to now.
        future: columns that are known for the steps to come as well.
        static: columns that say something about a series, and do not change.
        calendar: cycles of the clock and calendar that are seen, see `calendar_columns`.
        holidays: a country code, or None.
        period: steps in the shortest season, 1 if there is none; periods: all of them.
        window, horizon: steps that are seen, and forecast.
        stride: rows between the windows that are learnt from.
        frequency, zone: the spacing, and the time zone or offset (None: local time of no zone).
        series: the ids in the order of the network's table; () if there is one series without an id.
        missing: what is done about missing values.
        stepping: whether one step is forecast at a time, and put at the end of the window for the next.
    """

    target: str
    past: tuple[str, ...] = ()
    future: tuple[str, ...] = ()
    static: tuple[str, ...] = ()
    calendar: tuple[str, ...] = ()
    holidays: str | None = None
    period: int = 1
    periods: tuple[int, ...] = ()
    window: int = 24
    horizon: int = 1
    stride: int = 1
    frequency: str = ""
    zone: str | None = None
    series: tuple[str, ...] = ()
    missing: str = "refuse"
    stepping: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the table that change in time, the target first."""
        return (self.target, *self.past, *self.future)

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values; `Plan.from_dict` restores it."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Plan:
        """Return the plan that `to_dict` gave."""
        plain: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**plain)


def as_frames(data: pd.DataFrame | Frames) -> dict[str, pd.DataFrame]:
    """Return one table, or several by id, as several by id (one: with the id "")."""
    if isinstance(data, pd.DataFrame):
        data = {"": data}
    if not isinstance(data, Mapping) or not data or not all(isinstance(f, pd.DataFrame) for f in data.values()):
        raise DataError(
            "The time series must be a table, or several tables by their ids.",
            expected="a pandas.DataFrame with a DatetimeIndex, or a dictionary of them",
            received=type(data).__name__,
            remedy="Make one, such as pandas.DataFrame({'load': values}, index=times) or series.to_frame(); or read a "
            "file with timeseries.read_csv or timeseries.read_series.",
        )
    _check_names(data)
    return {str(name): frame for name, frame in data.items()}


def on_steps(data: pd.DataFrame | Frames, like: str | None = None) -> dict[str, pd.DataFrame]:
    """Return the tables by id, each over an index in equal steps whose `freq` is set; see `regular`.

    Raises:
        DataError: these are no tables, or not in equal steps.
    """
    frames = {}
    for name, frame in as_frames(data).items():
        index = regular(frame.index, of_series(name), like=like)
        frames[name] = frame if index is frame.index else frame.set_axis(index)
    return frames


def of_series(name: str) -> str:
    """Return which series it is, for a message; nothing where there is only one."""
    return f" of the series {shown(name)}" if name else ""


def _check_names(frames: Frames) -> None:
    ids = [str(name) for name in frames]
    same = [name for name in ids if ids.count(name) > 1]
    if same:
        raise DataError(
            f"Several series have the id {shown(same[0])}.",
            expected="ids that differ as text",
            received=str(list(frames))[:300],
            remedy="Rename all but one of them.",
        )
    for frame in frames.values():
        twice = frame.columns[frame.columns.duplicated()]
        if len(twice):
            raise DataError(
                f"There are {list(frame.columns).count(twice[0])} columns {shown(twice[0])}.",
                expected="a name of its own for each column",
                received=names_shown(frame.columns),
                remedy="Rename or drop them: frame.loc[:, ~frame.columns.duplicated()] keeps the first of each.",
            )


def spacing(index: Any) -> tuple[str, str | None]:
    """Return the spacing and the zone of an index in equal steps, as text."""
    return index.freq.freqstr, None if index.tz is None else str(index.tz)


def make_plan(
    frames: dict[str, pd.DataFrame],
    target: str,
    *,
    horizon: int | None = None,
    window: int | None = None,
    period: int | None = None,
    past: Sequence[str] | None = None,
    future: Sequence[str] = (),
    static: Sequence[str] = (),
    calendar: bool | Sequence[str] = True,
    holidays: str | None = None,
    missing: str = "refuse",
    stepping: bool = False,
    train: float = 0.7,
) -> Plan:
    """Return the plan for some tables (of `on_steps`), with what was not asked for told from their spacing.

    See `Forecaster` for the arguments and errors.
    """
    first = next(iter(frames.values()))
    stamps = cast(pd.DatetimeIndex, first.index)
    frequency, zone = _one_spacing(frames)
    sizes = _sizes(stamps, period=period, window=window, horizon=horizon)
    if missing not in MISSING:
        raise ArgumentError(
            "What shall be done about missing values is not known.",
            expected=f"one of {list(MISSING)}",
            received=shown(missing),
            remedy="'mask' leaves such steps out of the recurrence, 'indicate' adds columns that say what is known.",
        )
    others = [c for c in first.columns if c not in (target, *future, *static)]
    chosen = others if past is None else list(past)
    if past is None:
        chosen = _useful(frames, chosen, train)
    if stepping and chosen:
        raise ArgumentError(
            "Stepping needs every input of the next step, and a past column is not known there.",
            expected="no past columns",
            received=names_shown(chosen),
            remedy="Pass past=[], or name those columns in `future` that are known in advance.",
        )
    learnt = stamps[: max(round(len(first) * train), 2)]
    cycles = cycles_for(learnt) if calendar is True else tuple(calendar or ())
    calendar_columns(stamps[:2], cycles, holidays)  # raises for a name it does not know
    return Plan(
        target=target,
        past=tuple(chosen),
        future=tuple(future),
        static=tuple(static),
        calendar=cycles,
        holidays=holidays,
        **sizes,
        frequency=frequency,
        zone=zone,
        series=() if list(frames) == [""] else tuple(frames),
        missing=missing,
        stepping=stepping,
    )


def _one_spacing(frames: dict[str, pd.DataFrame]) -> tuple[str, str | None]:
    """Return the spacing and the zone that all tables have."""
    frequency, zone = spacing(next(iter(frames.values())).index)
    for name, frame in frames.items():
        if spacing(frame.index) != (frequency, zone):
            raise DataError(
                "The series do not have the same spacing and zone.",
                expected=f"{frequency}, zone {zone}, as the first one",
                received=f"{spacing(frame.index)} in {shown(name)}",
                remedy="Bring them to the same steps, e.g. with pandas' resample().",
            )
    return frequency, zone


def _sizes(stamps: pd.DatetimeIndex, **wish: int | None) -> dict[str, Any]:
    """Return the plan's counts of steps: those that were asked for, the others by the seasons of the spacing."""
    for name, size in wish.items():
        if size is not None:
            check_size(name, size)
    seasons = periods_of(stamps)
    if wish["horizon"] is None and wish["period"] is None and not seasons:
        raise ArgumentError(
            "How many steps to forecast cannot be told from the spacing of the rows.",
            expected="`horizon` or `period`",
            received=f"freq {spacing(stamps)[0]}",
            remedy="Pass e.g. horizon=12.",
        )
    period = int(wish["period"] or (seasons[0] if seasons else 1))
    return {
        "period": period,
        "periods": tuple(sorted({period, *seasons})) if seasons or period > 1 else (),
        "window": int(wish["window"] or max(2 * period, 24)),
        "horizon": int(wish["horizon"] or period),
    }


def _useful(frames: dict[str, pd.DataFrame], columns: list[str], train: float) -> list[str]:
    """Return the columns that vary where they are learnt from, and warn of the others, which nobody asked for."""
    learnt = [frame.iloc[: max(round(len(frame) * train), 2)] for frame in frames.values()]
    varying = [c for c in columns if any(c in frame and frame[c].nunique() > 1 for frame in learnt)]
    left = [c for c in columns if c not in varying]
    if left:
        warnings.warn(f"Left out, since they are constant in the training part: {names_shown(left)}.", stacklevel=5)
    return varying
