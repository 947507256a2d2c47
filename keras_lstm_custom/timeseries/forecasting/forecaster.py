"""A forecaster: a network that knows its columns, scaling, spacing and zone, trained, calibrated, saved and used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import keras
import numpy as np
import pandas as pd

from keras_lstm_custom.errors import ArgumentError, DataError
from keras_lstm_custom.layers import LSTM
from keras_lstm_custom.timeseries.checks import names_shown, shown
from keras_lstm_custom.timeseries.forecasting import starting, training
from keras_lstm_custom.timeseries.forecasting.asking import check_calendar, check_cell, check_roles, check_training
from keras_lstm_custom.timeseries.forecasting.conformal import (
    check_levels,
    conformal_margin,
    intervals,
    levels_to_calibrate,
)
from keras_lstm_custom.timeseries.forecasting.network import build
from keras_lstm_custom.timeseries.forecasting.plan import Frames, Plan, as_frames, make_plan, on_steps
from keras_lstm_custom.timeseries.forecasting.running import Bounds, as_table, at_once, check_names, step_by_step
from keras_lstm_custom.timeseries.forecasting.samples import Samples, newest, part_samples
from keras_lstm_custom.timeseries.forecasting.table import Table, make_tables, tell_of_age
from keras_lstm_custom.timeseries.splitting import check_shares

#: Levels of the intervals where none are asked for and the record allows them.
LEVELS = (80.0, 95.0)


class Forecasts(NamedTuple):
    """Forecasts in the data's units.

    Attributes:
        mean: (samples, horizon).
        intervals: level in per cent to lower and upper, (samples, horizon) each.
    """

    mean: np.ndarray
    intervals: dict[float, tuple[np.ndarray, np.ndarray]]


class Forecaster:
    """Forecasts one column of a table, or of several tables, with a recurrent network and calibrated intervals.

    ```python
    frame = timeseries.read_csv("load.csv", "load")
    forecaster = timeseries.Forecaster("load", horizon=24).fit(frame)
    print(timeseries.judge({"LSTM": forecaster}, frame))  # against the best simple forecast
    print(forecaster.predict(frame))                      # the next 24 hours, with intervals
    timeseries.save_forecaster(forecaster, "runs/load")    # load_forecaster reads it
    ```

    The record is cut in time order: what is learnt from, what decides when to stop and calibrates the intervals, and
    what is held out for `judge`. The network starts as the best simple forecast and learns what to add.

    Args:
        target: the column to forecast.
        horizon: steps to forecast; None: one season, told from the spacing of the rows.
        window: steps that are seen; None: two seasons, at least 24.
        period: steps in the shortest season; None: told from the spacing.
        past: columns that are seen up to now; None: all others of the table.
        future: columns that are known for the steps to come.
        static: columns with one value for each series.
        calendar: whether hour, weekday and place in the year are seen, as far as the record shows them at least four
            times; or which of "hour", "weekday", "month".
        holidays: a country code of the package `holidays`, such as "US", or "US-NY".
        missing: "refuse"; "mask": steps with a missing value are left out of the recurrence; "indicate": columns say
            what is known, and the last known value stands in.
        stepping: forecast one step, put it at the window's end, and go on; else all steps at once.
        levels: of the intervals, in per cent; None: 80 and 95, as far as there are windows to calibrate them.
        cell: the class of the recurrent layer: `LSTM`, `VanillaRNN`, or one of Keras.
        units: of it.
        options: more arguments of it.
        anchor: the simple forecast to start from, such as "last value"; None: the best on what is learnt from.
        linear: whether it starts with a linear correction of that, see `linear_start`.
        validation, test: shares of the record.

    Raises:
        ArgumentError: an argument is not usable; some are checked by `fit`, which sees the data.
    """

    def __init__(
        self,
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
        levels: Sequence[float] | None = None,
        cell: type[keras.layers.Layer] = LSTM,
        units: int = 32,
        options: Mapping[str, Any] | None = None,
        anchor: str | None = None,
        linear: bool = True,
        validation: float = 0.15,
        test: float = 0.15,
    ):
        #: What it was made with, by name.
        self.arguments = {k: v for k, v in locals().items() if k not in ("self", "__class__")}
        check_shares(validation, test)
        check_roles(target, past=past, future=future, static=static)
        check_calendar(calendar, holidays)
        check_cell(cell, options)
        self.asked_levels = None if levels is None else check_levels(levels)
        self.levels = LEVELS if self.asked_levels is None else self.asked_levels
        self.shares = (float(validation), float(test))
        self.cell, self.units, self.options, self.anchor = cell, units, dict(options or {}), anchor
        self.linear = linear
        self.penalty: float | None = None
        self._wish: dict[str, Any] = {
            **{"target": target, "horizon": horizon, "window": window, "period": period, "past": past},
            **{"future": future, "static": static, "calendar": calendar, "holidays": holidays},
            **{"missing": missing, "stepping": stepping},
        }
        self.history: dict[str, Any] = {}
        self.reading: dict[str, Any] = {}

    def fresh(self, **changes: Any) -> Forecaster:
        """Return a forecaster made with the same arguments, or some others; it is not fitted."""
        return Forecaster(**{**self.arguments, **changes})

    # Learning

    def fit(
        self,
        data: pd.DataFrame | Frames,
        *,
        epochs: int | None = None,
        batch_size: int | None = None,
        learning_rate: float = 1e-3,
        seed: int | None = 1,
        verbose: Any = 0,
    ) -> Forecaster:
        """Train on the first part of the record, calibrate on the second, and return the forecaster.

        Args:
            data: a table over a regular DatetimeIndex, or several by id: one network for all, scaled by series.
            epochs: at most; None: 15, more for a short record.
            batch_size: None: 64, fewer for a short record.
            learning_rate: of Adam.
            seed: of weights and order; None leaves Keras' random state alone.
            verbose: as in `model.fit`.

        Raises:
            ArgumentError: `epochs` or `batch_size` is no positive integer, or `learning_rate` is not above 0.
            DataError: the data does not fit the plan, or is too short; or there are too few windows to calibrate a
                level that was asked for.
        """
        check_training(learning_rate=learning_rate, epochs=epochs, batch_size=batch_size)
        if seed is not None:
            keras.utils.set_random_seed(seed)
        self.prepare(data)
        plan, tables = self.plan, self.tables(data)
        known = np.isfinite(part_samples(tables, plan, "validation", self.shares).y).sum(axis=0)
        self.levels = levels_to_calibrate(self.asked_levels, int(known.min()), default=LEVELS)
        check_names(plan, self.levels)
        learnt, stop = (
            part_samples(tables, self._network_plan(), part, self.shares) for part in ("train", "validation")
        )
        scales = training.fit_scales(tables, plan, self.shares)
        std = scales.std[:, 0]
        self.anchor_used, simple = starting.best_simple(learnt, plan, std, self.anchor)
        simple, self.penalty = starting.linear_start(learnt, stop, simple, std) if self.linear else (simple, None)
        changes = [starting.deviations(samples, simple, std) for samples in (learnt, stop)]
        quantiles = () if plan.stepping else self.quantiles
        network = build(
            self._network_plan(),
            scales,
            simple,
            cell=self.cell,
            units=self.units,
            quantiles=quantiles,
            start=training.start_of(changes[0], quantiles),
            options=self.options,
        )
        self.history = training.train(
            network,
            (learnt, changes[0]),
            (stop, changes[1]),
            quantiles=quantiles,
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            verbose=verbose,
        )
        self.model = network.model
        self.margins = self.calibrate(part_samples(tables, plan, "validation", self.shares))
        return self

    def prepare(self, data: pd.DataFrame | Frames) -> Plan:
        """Return the plan for some data, which `fit` follows; nothing is learnt."""
        frames = on_steps(data)
        plan = make_plan(frames, **self._wish, train=1 - sum(self.shares))
        rows = sum(len(frame) for frame in frames.values())
        stride = training.stride_for(rows, plan.window, plan.period)
        self.plan = replace(plan, stride=stride)
        return self.plan

    @property
    def quantiles(self) -> tuple[float, ...]:
        """The quantiles that the network forecasts: the median and the bounds of each level."""
        bounds = [(100 - level) / 200 for level in self.levels]
        return tuple(sorted({0.5, *bounds, *(1 - b for b in bounds)})) if bounds else ()

    def calibrate(self, samples: Samples) -> dict[float, np.ndarray]:
        """Return by how much each interval must be widened, (horizon,) by level; see `conformal_margin`."""
        says = self._says(samples)[1]
        return {level: conformal_margin(samples.y, *says[level], level=level) for level in self.levels}

    def _network_plan(self) -> Plan:
        """Return the plan of the network: with stepping it forecasts one step."""
        return replace(self.plan, horizon=1) if self.plan.stepping else self.plan

    # Forecasting

    def check_fitted(self) -> None:
        """Raise ArgumentError unless the forecaster was fitted."""
        if not hasattr(self, "model"):
            raise ArgumentError(
                f"The forecaster of {shown(self._wish['target'])} has learnt nothing yet.",
                expected="a forecaster that was fitted, or loaded",
                received="one that was not",
                remedy="Call fit(data) first.",
            )

    def tables(self, data: pd.DataFrame | Frames, future: pd.DataFrame | Frames | None = None) -> dict[str, Table]:
        """Return the arrays of the series, checked against the plan.

        Args:
            data: as for `fit`.
            future: the columns known in advance, for the steps after the last row.

        Raises:
            DataError: as `predict`.
        """
        return make_tables(data, self.plan, future)

    def forecast(self, samples: Samples) -> Forecasts:
        """Return the forecasts of samples, with calibrated intervals.

        Raises:
            ArgumentError: the forecaster is not fitted.
        """
        self.check_fitted()
        mean, says = self._says(samples)
        return Forecasts(mean, intervals(says, self.margins))

    def predict(self, data: pd.DataFrame | Frames, future: pd.DataFrame | Frames | None = None) -> pd.DataFrame:
        """Return the forecast of the steps after the last row.

        Args:
            data: as for `fit`, at least `window` rows.
            future: the columns known in advance, for these steps.

        Returns:
            A column with the target's name, and `lower_80`, `upper_80` and so on, over the stamps of the steps to come
            in the zone of the data; of several series with the id in a column `series`.

        Raises:
            DataError: the data is not like that of the training, or `future` ends before the horizon.
        """
        self.check_fitted()
        frames = as_frames(data)
        if self.plan.future and future is None:
            raise DataError(
                "The forecast needs columns that are known in advance.",
                expected=f"`future`, a table of {names_shown(self.plan.future)} for the next {self.plan.horizon} steps",
                received="None",
                remedy="Pass future=... (--ahead FILE at the command line); its first row is the step after the "
                "last one of the data.",
            )
        tables = self.tables(frames, future)
        for name, table in tables.items():
            tell_of_age(table, self.plan, name)
        result = as_table(*self.forecast(newest(tables, self.plan)), tables, self.plan)
        result.index.name = next(iter(frames.values())).index.name or "time"
        return result

    def _says(self, samples: Samples) -> tuple[np.ndarray, Bounds]:
        """Return the mean forecast, and lower and upper by level as the network says them."""
        if not self.plan.stepping:
            return at_once(self.model, samples, self.levels, self.quantiles)
        mean = step_by_step(self.model, samples, self.plan)
        return mean, dict.fromkeys(self.levels, (mean, mean))
