"""Windows of one or several series as the inputs of a network, and what must be forecast."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from keras_lstm_custom.errors import DataError
from keras_lstm_custom.timeseries.checks import shown
from keras_lstm_custom.timeseries.forecasting.plan import Plan
from keras_lstm_custom.timeseries.forecasting.table import Table

PARTS = ("train", "validation", "test")


class Samples(NamedTuple):
    """What a network sees and must forecast, in the data's units.

    Attributes:
        x: by the name of the network's input; "past" is (samples, window, channels): the columns of the plan,
            and with missing values whether each is known; "future" (samples, horizon, channels): the
            columns known in advance, and the calendar; "static"
            (samples, columns); "series" (samples, 1), the place of the id.
        y: (samples, horizon), float64; NaN where the truth is missing.
        series: (samples,), the place of the id.
        origins: (samples,), the row of the last known step in its series.
    """

    x: dict[str, np.ndarray]
    y: np.ndarray
    series: np.ndarray
    origins: np.ndarray

    def __len__(self) -> int:
        return len(self.y)


def bounds(rows: int, shares: Sequence[float]) -> tuple[int, int]:
    """Return the first row of the validation part, and that of the test part, for these two shares."""
    test = rows - round(rows * shares[1])
    return test - round(rows * shares[0]), test


def part_origins(table: Table, plan: Plan, part: str, shares: Sequence[float]) -> np.ndarray:
    """Return the rows of the last known step of the windows whose forecasts lie in a part.

    What they look back on may lie in the part before: that is known at the time.
    """
    validation, test = bounds(len(table.values), shares)
    first, end = {"train": (0, validation), "validation": (validation, test), "test": (test, len(table.values))}[part]
    stride = plan.stride if part == "train" else 1
    return np.arange(max(first - 1, plan.window - 1), end - plan.horizon, stride)


def make_samples(tables: Mapping[str, Table], plan: Plan, origins: Mapping[str, np.ndarray]) -> Samples:
    """Return the samples of all series at their origins, one series after another."""
    places = {name: k for k, name in enumerate(plan.series)} or {"": 0}
    parts = [_cut(tables[name], plan, rows, places[name]) for name, rows in origins.items() if len(rows)]
    if not parts:
        raise DataError(
            "The series are too short for one sample.",
            expected=f"at least {plan.window + plan.horizon} rows (the window and what follows it)",
            received=f"at most {max(len(table.values) for table in tables.values())} rows",
            remedy="Use a longer record, or a shorter window or horizon.",
        )
    x = {name: np.concatenate([part.x[name] for part in parts]) for name in parts[0].x}
    return Samples(x, *(np.concatenate([part[k] for part in parts]) for k in (1, 2, 3)))


def part_samples(tables: Mapping[str, Table], plan: Plan, part: str, shares: Sequence[float]) -> Samples:
    """Return the samples of one part of all series.

    Raises:
        DataError: a series is not long enough to have a window of this part, or the target has no value in it.
    """
    origins = {name: part_origins(table, plan, part, shares) for name, table in tables.items()}
    short = [name for name, rows in origins.items() if not len(rows)]
    if short:
        several = f" {shown(short[0])} ({len(short)} of {len(tables)} are)" if len(tables) > 1 else ""
        raise _too_short(len(tables[short[0]].values), plan, part, shares, several)
    samples = make_samples(tables, plan, origins)
    if not np.isfinite(samples.y).any():
        raise DataError(
            f"The target {shown(plan.target)} has no value in the {part} part.",
            expected="values to " + {"train": "learn from", "validation": "stop by", "test": "measure with"}[part],
            received=f"{samples.y.size} missing values in {len(samples)} windows",
            remedy="Use a longer record, or one with fewer holes there, or other shares.",
        )
    return samples


def _too_short(rows: int, plan: Plan, part: str, shares: Sequence[float], several: str) -> DataError:
    """Return the error of a series that has no window in a part: the part is too short, or all up to its end."""
    share = (1 - sum(shares), *shares)[PARTS.index(part)]
    end = (*bounds(rows, shares), rows)[PARTS.index(part)]
    own = round(rows * share)
    if part != "train" and own >= plan.horizon:
        sizes = f"a window of {plan.window} steps and {plan.horizon} after it"
        expected, received = f"at least {plan.window + plan.horizon} rows up to its end, for {sizes}", f"{end} rows"
        shorter = f"a shorter window, such as window={max((end - plan.horizon) // 2, 1)}"
    else:
        needed = plan.horizon + (plan.window if part == "train" else 0)
        expected = f"at least {needed} rows in it, so about {round(needed / share) + 1} in all"
        received = f"{rows} rows, of which {own} are for this part"
        shorter = "a shorter window or horizon" + (f", such as horizon={max(own // 3, 1)}" if part != "train" else "")
    return DataError(
        f"The series{several} is too short for a {part} part of its own.",
        expected=expected,
        received=received,
        remedy=f"Use a longer record, {shorter}, or larger shares" + ("; or leave it out." if several else "."),
    )


def newest(tables: Mapping[str, Table], plan: Plan) -> Samples:
    """Return one sample for each series, at its last row; y is NaN."""
    return make_samples(tables, plan, {name: np.array([len(table.values) - 1]) for name, table in tables.items()})


def _cut(table: Table, plan: Plan, origins: np.ndarray, place: int) -> Samples:
    if origins[0] < plan.window - 1:
        raise DataError(
            "The series is too short for one window.",
            expected=f"at least {plan.window} rows up to the origin",
            received=f"{origins[0] + 1} rows",
            remedy="Use a longer record, or train with a shorter window.",
        )
    seen = origins[:, None] + np.arange(1 - plan.window, 1)
    ahead = origins[:, None] + np.arange(1, plan.horizon + 1)
    # Not the calendar: a state that sees it learns by heart what came when.
    channels = [table.values[seen]]
    if plan.missing != "refuse":
        channels.append(table.known[seen])
    x = {"past": np.concatenate(channels, axis=-1).astype("float32")}
    columns = 1 + len(plan.past) + np.arange(len(plan.future))
    if plan.future or plan.calendar or plan.holidays:
        known = _future(table, plan, columns)
        x["future"] = np.concatenate([known[ahead], table.calendar[ahead]], axis=-1).astype("float32")
    if plan.static:
        x["static"] = np.repeat(table.static[None], len(origins), axis=0).astype("float32")
    if len(plan.series) > 1:
        x["series"] = np.full((len(origins), 1), place, dtype="int32")
    rows = len(table.values)
    y = np.concatenate([table.truth, np.full(plan.horizon, np.nan)])[np.minimum(ahead, rows + plan.horizon - 1)]
    return Samples(x, y, np.full(len(origins), place), origins)


def _future(table: Table, plan: Plan, columns: np.ndarray) -> np.ndarray:
    """Return the future columns of all rows and of the steps to come, NaN where those are not known."""
    unknown = np.full((plan.horizon, len(columns)), np.nan)
    return np.concatenate([table.values[:, columns], unknown if table.ahead is None else table.ahead])
