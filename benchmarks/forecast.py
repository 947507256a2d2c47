"""Forecasts of this package against others, on series that published packages ship: MASE, coverage, seconds.

    python benchmarks/forecast.py [--only WORD ...] [--without darts] [--out runs/benchmark-forecast]

Each series is cut alike for all: the last 15 % are held out, the 15 % before decide when to stop and calibrate. At each
held-out row the next season is forecast, from what is known there. Compared are, at the settings a user gets without
choosing any:

- LSTM: `timeseries.Forecaster` of this package;
- the best simple forecast: by MASE on the held-out part, which favours it;
- ETS: exponential smoothing of statsmodels, as `timeseries.judge` runs it (without intervals);
- AutoETS: statsforecast, fitted once on all rows before the held-out part, at most the last 3000;
- darts LSTM: `BlockRNNModel("LSTM")` with as many units, batches and epochs as ours may take, quantile regression,
  scaled by darts, and normalised by window (`use_reversible_instance_norm`), without which it follows no trend.

What is not installed is left out, and named. Prints a table and writes `results.json`.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pandas as pd

from keras_lstm_custom import timeseries
from keras_lstm_custom.timeseries.forecasting.samples import bounds, part_samples
from keras_lstm_custom.timeseries.forecasting.training import BATCHES, EPOCHS

LEVELS = (80, 95)
SHIPPED = Path(__file__).parents[1] / "examples" / "data" / "jfk_weather_2013.csv"


class Task(NamedTuple):
    """A series, its sizes, and the rows at which it is forecast."""

    values: pd.Series
    period: int
    window: int
    horizon: int
    origins: np.ndarray
    truth: np.ndarray
    scale: float
    validation: int
    test: int


def _statsmodels(name: str, column: str, start: str, frequency: str) -> pd.Series:
    import statsmodels.api as sm

    values = getattr(sm.datasets, name).load_pandas().data[column].astype(float)
    return pd.Series(values.to_numpy(), pd.date_range(start, periods=len(values), freq=frequency))


def _elnino() -> pd.Series:
    import statsmodels.api as sm

    table = sm.datasets.elnino.load_pandas().data.set_index("YEAR")
    values = table.to_numpy(float).ravel()
    return pd.Series(values, pd.date_range(f"{int(table.index[0])}-01-01", periods=len(values), freq="MS"))


def _co2() -> pd.Series:
    import statsmodels.api as sm

    return sm.datasets.co2.load_pandas().data["co2"].resample("MS").mean().interpolate()


def _aeon(load: str, start: str, frequency: str) -> pd.Series:
    import aeon.datasets

    values = np.ravel(np.asarray(getattr(aeon.datasets, load)(), float))
    return pd.Series(values, pd.date_range(start, periods=len(values), freq=frequency))


def _seattle() -> pd.Series:
    import vega_datasets

    table = vega_datasets.data.seattle_weather()
    return pd.Series(table["temp_max"].to_numpy(float), pd.DatetimeIndex(table["date"], freq="D"))


#: The series by name, with the package that ships each.
SERIES: dict[str, Callable[[], pd.Series]] = {
    "JFK temperature, hourly (shipped)": lambda: timeseries.read_csv(SHIPPED, "temperature")["temperature"],
    "Airline passengers, monthly (aeon)": lambda: _aeon("load_airline", "1949-01-01", "MS"),
    "CO2 at Mauna Loa, monthly (statsmodels)": _co2,
    "El Nino sea temperature, monthly (statsmodels)": _elnino,
    "Sunspots, yearly (statsmodels)": lambda: _statsmodels("sunspots", "SUNACTIVITY", "1700-01-01", "YS"),
    "Real GDP of the US, quarterly (statsmodels)": lambda: _statsmodels("macrodata", "realgdp", "1959-01-01", "QS"),
    "Seattle's highest temperature, daily (vega_datasets)": _seattle,
}
#: A yearly series has no season that its spacing suggests; the sunspots' is known, and others get the horizon.
PERIODS = {"Sunspots, yearly (statsmodels)": 11}


def make_task(name: str) -> Task:
    """Return the task of a series."""
    values = SERIES[name]()
    forecaster = timeseries.Forecaster("y", period=PERIODS.get(name))
    plan = forecaster.prepare(values.to_frame("y"))
    tables = forecaster.tables(values.to_frame("y"))
    samples = part_samples(tables, plan, "test", forecaster.shares)
    validation, test = bounds(len(values), forecaster.shares)
    scale = timeseries.naive_scale(values.to_numpy()[:validation], period=plan.period)
    return Task(values, plan.period, plan.window, plan.horizon, samples.origins, samples.y, scale, validation, test)


def measured(task: Task, mean: np.ndarray, intervals: dict[int, tuple[np.ndarray, np.ndarray]], start: float) -> dict:
    """Return the row of the table."""
    row: dict[str, Any] = {"mase": timeseries.mase(task.truth, mean, scale=task.scale)}
    row["coverage"] = {str(level): timeseries.coverage(task.truth, *bounds) for level, bounds in intervals.items()}
    return row | {"seconds": round(time.perf_counter() - start, 1)}


def ours(name: str, task: Task) -> dict[str, dict]:
    """Return our network, the best simple forecast, and statsmodels' exponential smoothing."""
    frame = task.values.to_frame("y")
    start = time.perf_counter()
    forecaster = timeseries.Forecaster("y", period=PERIODS.get(name)).fit(frame)
    judged = timeseries.judge({"LSTM": forecaster}, frame)
    seconds = round(time.perf_counter() - start, 1)
    rows = {"LSTM": {key: judged.errors["LSTM"][key] for key in ("mase", "coverage")} | {"seconds": seconds}}
    rows["LSTM"]["verdict"] = judged.verdict["reason"]
    ets = judged.errors.pop("exponential smoothing", None)
    simple = {key: row["mase"] for key, row in judged.errors.items() if key != "LSTM"}
    best = min(simple, key=lambda key: simple[key])
    rows["best simple"] = {"mase": simple[best], "coverage": {}, "seconds": None, "name": best}
    return rows | ({"ETS": {"mase": ets["mase"], "coverage": {}, "seconds": None}} if ets else {})


def statsforecast(name: str, task: Task) -> dict[str, dict]:
    """Return AutoETS of statsforecast."""
    from statsforecast import StatsForecast
    from statsforecast.models import AutoETS

    start = time.perf_counter()
    first = max(0, task.test - 3000)
    kept = task.values.iloc[first:]
    table = pd.DataFrame({"unique_id": "y", "ds": kept.index, "y": kept.to_numpy()})
    # Seasons longer than 24 steps are not for ETS.
    model = AutoETS(season_length=task.period if task.period <= 24 else 1)
    found = StatsForecast([model], freq=task.values.index.freqstr).cross_validation(
        task.horizon, table, step_size=1, n_windows=len(task.truth), refit=False, level=list(LEVELS)
    )
    column = {key: found[f"AutoETS{key}"].to_numpy().reshape(task.truth.shape) for key in ("", *_bounds())}
    intervals = {level: (column[f"-lo-{level}"], column[f"-hi-{level}"]) for level in LEVELS}
    return {"AutoETS": measured(task, column[""], intervals, start)}


def _bounds() -> list[str]:
    return [f"-{side}-{level}" for side in ("lo", "hi") for level in LEVELS]


def darts(name: str, task: Task) -> dict[str, dict]:
    """Return the LSTM of darts."""
    import logging

    from darts import TimeSeries
    from darts.dataprocessing.transformers import Scaler
    from darts.models import BlockRNNModel
    from darts.utils.likelihood_models.torch import QuantileRegression

    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    start = time.perf_counter()
    quantiles = [0.025, 0.1, 0.5, 0.9, 0.975]
    whole = TimeSeries.from_series(task.values.astype("float32"))
    train, stop = whole[: task.validation], whole[task.validation - task.window : task.test]
    scaler = Scaler().fit(train)
    count = task.validation - task.window - task.horizon + 1
    batch_size = int(np.clip(2 ** int(np.log2(max(count / 16, 1))), 8, 64))
    epochs = int(np.clip(np.ceil(BATCHES / np.ceil(count / batch_size)), EPOCHS, 150))
    model = BlockRNNModel(
        task.window,
        task.horizon,
        model="LSTM",
        hidden_dim=32,
        n_epochs=epochs,
        batch_size=batch_size,
        use_reversible_instance_norm=True,
        likelihood=QuantileRegression(quantiles),
        random_state=1,
        pl_trainer_kwargs={"accelerator": "cpu", "enable_progress_bar": False, "logger": False},
    )
    model.fit(scaler.transform(train), val_series=scaler.transform(stop), verbose=False)
    found = model.historical_forecasts(
        scaler.transform(whole),
        start=task.values.index[task.test],
        forecast_horizon=task.horizon,
        stride=1,
        retrain=False,
        last_points_only=False,
        predict_likelihood_parameters=True,
        verbose=False,
    )
    low, high = scaler.inverse_transform(train[:1] * 0), scaler.inverse_transform(train[:1] * 0 + 1)
    zero, one = float(low.values()[0, 0]), float(high.values()[0, 0])
    values = zero + (one - zero) * np.stack([part.values() for part in found])  # (windows, horizon, quantiles)
    intervals = {80: (values[..., 1], values[..., 3]), 95: (values[..., 0], values[..., 4])}
    return {"darts LSTM": measured(task, values[..., 2], intervals, start)}


RIVALS = (ours, statsforecast, darts)
NAMES = ("LSTM", "best simple", "ETS", "AutoETS", "darts LSTM")


def table(results: dict[str, dict[str, dict]]) -> str:
    """Return the table as Markdown: MASE, in brackets what intervals of 80 and 95 % hold, and seconds."""
    lines = [f"| series | {' | '.join(NAMES)} |", "|---" * (len(NAMES) + 1) + "|"]
    for name, rows in results.items():
        cells = []
        for rival in NAMES:
            row = rows.get(rival)
            held = "" if not row else "/".join(f"{100 * share:.0f}" for share in row["coverage"].values())
            seconds = row and row["seconds"]
            took = "" if seconds is None else f", {seconds:.0f} s" if seconds >= 1 else ", <1 s"
            cells.append("" if row is None else f"{row['mase']:.2f}" + (f" ({held})" if held else "") + took)
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", default=[""], help="series whose name holds one of these words")
    names = [rival.__name__ for rival in RIVALS]
    parser.add_argument("--without", nargs="*", default=[], choices=names, help="what to leave out, to save time")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark-forecast"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    results: dict[str, dict[str, dict]] = {}
    warnings.simplefilter("ignore")
    for name in SERIES:
        if not any(word.lower() in name.lower() for word in options.only):
            continue
        try:
            task = make_task(name)
        except ImportError as error:
            print(f"{name} is left out: {error}")
            continue
        print(f"{name}: {len(task.values)} rows, {len(task.truth)} windows of {task.window} and {task.horizon}")
        results[name] = {}
        for rival in (rival for rival in RIVALS if rival.__name__ not in options.without):
            try:
                results[name] |= rival(name, task)
            except ImportError as error:
                print(f"  {rival.__name__} is left out: {error}")
            except Exception as error:  # of another package: the others go on
                print(f"  {rival.__name__} failed: {type(error).__name__}: {str(error)[:200]}")
        for rival, row in results[name].items():
            held = ", ".join(f"{level} %: {share:.1%}" for level, share in row["coverage"].items())
            print(f"  {rival:12} MASE {row['mase']:.3f}  {held}  {row['seconds'] or ''}")
        packages = ("keras", "tensorflow_cpu", "statsmodels", "statsforecast", "darts", "torch")
        versions = {}
        for package in packages:
            try:
                versions[package] = importlib.metadata.version(package)
            except importlib.metadata.PackageNotFoundError:
                versions[package] = "absent"
        record = {"results": results, "versions": versions}
        (options.out / "results.json").write_text(json.dumps(record, indent=2) + "\n")
    print(table(results))


if __name__ == "__main__":
    main()
