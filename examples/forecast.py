"""Forecast a time series: a vanilla RNN and an LSTM against the seasonal-naive forecast, and the better one exported.

    python examples/forecast.py                                       # a year of hourly weather, shipped
    python examples/forecast.py --csv my.csv --target load --unit MW  # a file of your own

The file has a header, a first column of time stamps in equal steps, and columns of numbers. The last
30 % of it is held out: half decides when to stop learning, half measures the forecasts. The networks
count the target from its last known value y_T, in what they see and in what they forecast:
ŷ_{T+k} = y_T + (V h_T + d)_k, where h_T is the hidden state after the window. So they can follow a series
that leaves the range seen in training.

Everything is written to `runs/`: the measured errors, the forecasts (also those beyond the end of the
file), a picture, both models as `.keras`, and the better one as SavedModel and TFLite.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import pandas as pd
from forecast_output import describe, file_name, plot, stamp, summarise, write_tables

from keras_lstm_custom import LSTM, VanillaRNN, timeseries, writing
from keras_lstm_custom.errors import ArgumentError, RecurrentError

SHIPPED = Path(__file__).parent / "data" / "jfk_weather_2013.csv"
NETWORKS = {"vanilla RNN": VanillaRNN, "LSTM": LSTM}
NAIVE = "seasonal naive"
#: Steps of windows in one epoch; of a longer series, only every so many windows are learnt from.
STEPS_PER_EPOCH = 1_000_000
OURS = "metrics.json"


class Plan(NamedTuple):
    """What is forecast from what; counts are in time steps."""

    target: str
    features: tuple[str, ...]
    period: int
    window: int
    horizon: int
    stride: int  #: of the windows that are learnt from; all held-out windows are used


class Samples(NamedTuple):
    """The windows of each part, scaled, and the way back to the data's units."""

    train: timeseries.Windows
    validation: timeseries.Windows
    test: timeseries.Windows
    scaler: timeseries.Scaler


def run(
    csv: Path = SHIPPED,
    target: str = "temperature",
    *,
    unit: str = "",
    features: list[str] | None = None,
    time_column: str | None = None,
    separator: str = ",",
    period: int | None = None,
    window: int | None = None,
    horizon: int | None = None,
    units: int = 32,
    epochs: int = 15,
    seed: int = 1,
    out: Path = Path("runs/forecast"),
    exported: bool = True,
) -> dict[str, Any]:
    """Do the whole job and return what was measured, as in `metrics.json`.

    Args:
        csv, target, features, time_column, separator: see `timeseries.read_csv`; None: all columns of numbers.
        unit: of the target, for the picture and the table.
        period: steps in a season; None tells it from the spacing of the rows (a day of hours, a week of days, ...).
        window: steps the networks see; None takes two seasons, at least 24 steps.
        horizon: steps to forecast; None takes one season.
        units, epochs, seed: of the networks and their training.
        out: the folder to write to.
        exported: whether to export the better model.
    """
    frame = timeseries.read_csv(csv, target, columns=features, time=time_column, separator=separator)
    plan = make_plan(frame, target, period, window, horizon)
    samples = cut(frame, plan)
    make_ours(out)
    describe(csv, frame, plan, samples)

    models, training = {}, {}
    for name, network in NETWORKS.items():
        models[name], training[name] = train(network, samples, units=units, epochs=epochs, seed=seed)
        with writing.new_file(out / f"{file_name(name)}.keras") as file:
            models[name].save(file)
    best = min(training, key=lambda name: training[name]["validation_loss"])

    truth, forecasts = forecast(models, samples, plan)
    errors = {
        name: {"mae": timeseries.mae(truth, values), "rmse": timeseries.rmse(truth, values)}
        for name, values in forecasts.items()
    }
    for name, row in errors.items():
        row["rmse_below_naive"] = 1 - row["rmse"] / errors[NAIVE]["rmse"]
        row.update(training.get(name, {}))
    metrics = {
        "data": csv.name,
        "rows": len(frame),
        "plan": plan._asdict(),
        "unit": unit,
        "held_out": {"from": stamp(samples.test.times[0, 0]), "to": stamp(samples.test.times[-1, -1])},
        "errors": errors,
        "best": best,
        "scaler": samples.scaler.to_dict(),
    }
    if exported:
        metrics["exports"] = export_and_prove(models[best], samples, target, out)
    beyond = forecast_beyond(models[best], frame, samples, plan)
    write_tables(out, frame, plan, samples, truth, forecasts, beyond)
    plot(out / "forecast.png", plan, unit, samples.test.times, truth, forecasts)
    writing.write_text(out / OURS, json.dumps(metrics, indent=2, ensure_ascii=False) + "\n")
    summarise(metrics, out)
    return metrics


def make_ours(out: Path) -> None:
    """Make the folder to write to; one that holds anything but an earlier run is refused."""
    if out.exists() and not (out.is_dir() and ((out / OURS).exists() or not any(out.iterdir()))):
        raise ArgumentError(
            f"{out} is there already, and is not the result of an earlier run.",
            expected="a new or empty folder, or one that holds an earlier run",
            received="a file" if out.is_file() else f"a folder without {OURS}",
            remedy="Choose another folder with --out.",
        )
    out.mkdir(parents=True, exist_ok=True)
    (out / OURS).touch()


def make_plan(frame: pd.DataFrame, target: str, period: int | None, window: int | None, horizon: int | None) -> Plan:
    """Return the plan, with what was not asked for told from the spacing of the rows."""
    period = timeseries.period_of(frame.index) if period is None else period
    window = max(2 * period, 24) if window is None else window
    stride = math.ceil(len(frame) * window / STEPS_PER_EPOCH)
    while math.gcd(stride, period) > 1:  # a stride that divides the season would show one time of day only
        stride += 1
    return Plan(target, tuple(frame.columns), period, window, period if horizon is None else horizon, stride)


def cut(frame: pd.DataFrame, plan: Plan) -> Samples:
    """Return the scaled windows of the three parts; the scaler knows the training part only."""
    parts = timeseries.split(frame, at_least=plan.window + plan.horizon)
    scaler = timeseries.Scaler.fit(parts.train)
    sizes = {"window": plan.window, "horizon": plan.horizon, "relative": True}
    train, validation, test = (
        timeseries.windows(scaler.transform(part), plan.target, stride=stride, **sizes)
        for part, stride in zip(parts, (plan.stride, plan.stride, 1), strict=True)
    )
    return Samples(train, validation, test, scaler)


def train(network: type, samples: Samples, *, units: int, epochs: int, seed: int) -> tuple[keras.Model, dict]:
    """Return a network trained on the change since the last known value, and how the training went."""
    keras.utils.set_random_seed(seed)
    _, window, features = samples.train.x.shape
    model = keras.Sequential(
        [keras.Input((window, features)), network(units), keras.layers.Dense(samples.train.y.shape[1])],
        name=file_name(network.__name__),
    )
    model.compile(keras.optimizers.Adam(2e-3), "mse")
    print(f"\n{network.__name__}({units}), {model.count_params():,} weights")
    start = time.perf_counter()
    history = model.fit(
        samples.train.x,
        samples.train.y,
        validation_data=(samples.validation.x, samples.validation.y),
        epochs=epochs,
        batch_size=64,
        callbacks=[keras.callbacks.EarlyStopping(patience=4, restore_best_weights=True)],
    ).history
    return model, {
        "validation_loss": min(history["val_loss"]),
        "epochs": len(history["loss"]),
        "seconds": round(time.perf_counter() - start, 1),
    }


def forecast(models: dict[str, keras.Model], samples: Samples, plan: Plan) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return truth and forecasts of the test part in the data's units, each (samples, horizon)."""
    test, scaler = samples.test, samples.scaler
    scaled = {NAIVE: timeseries.seasonal_naive(test.past, horizon=plan.horizon, period=plan.period)}
    for name, model in models.items():
        scaled[name] = test.past[:, -1:] + model.predict(test.x, verbose=0)
    return scaler.inverse(test.past[:, -1:] + test.y, plan.target), {
        name: scaler.inverse(values, plan.target) for name, values in scaled.items()
    }


def forecast_beyond(model: keras.Model, frame: pd.DataFrame, samples: Samples, plan: Plan) -> np.ndarray:
    """Return the forecast of the steps after the end of the file, (horizon,), in the data's units."""
    last = timeseries.latest(samples.scaler.transform(frame), plan.target, window=plan.window, relative=True)
    return samples.scaler.inverse(last.past[0, -1] + model.predict(last.x, verbose=0)[0], plan.target)


def export_and_prove(model: keras.Model, samples: Samples, target: str, out: Path) -> dict[str, Any]:
    """Write SavedModel and TFLite, run both on held-out windows, and return how far they are from the model."""
    from keras_lstm_custom import export

    windows = samples.test.x[:: math.ceil(len(samples.test.x) / 50)]
    reports = {
        "saved_model": export.saved_model(model, out / "saved_model", x=windows),
        "model.tflite": export.tflite(model, out / "model.tflite", calibration=windows),
    }
    return {
        name: {
            "bytes": report.bytes,
            "ops": report.ops,
            "windows": len(windows),
            # Errors are measured on scaled values; the scale's std takes them to the data's units.
            "max_error": {c.runtime: c.max_error * samples.scaler.std[target] for c in report.checks if c.ran},
        }
        for name, report in reports.items()
    }


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--csv", type=Path, default=SHIPPED, help="a file of your own (default: the shipped weather)")
    parser.add_argument("--target", help="the column to forecast (needed with --csv)")
    parser.add_argument("--unit", help="its unit, for the picture")
    parser.add_argument("--features", type=lambda text: text.split(","), help="columns to see, a,b,c (default: all)")
    parser.add_argument("--time-column", help="the column of time stamps (default: the first)")
    parser.add_argument("--separator", default=",", help="what stands between the cells (default: ,)")
    for name, text in (("period", "steps in a season"), ("window", "steps to see"), ("horizon", "steps to forecast")):
        parser.add_argument(f"--{name}", type=int, help=f"{text} (default: told from the spacing of the rows)")
    parser.add_argument("--epochs", type=int, default=15, help="at most (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, help="where to write (default: a folder in runs/)")
    options = vars(parser.parse_args())
    shipped = options["csv"] == SHIPPED
    if options["target"] is None:
        if not shipped:
            parser.error("--csv needs --target, the column to forecast")
        options["target"] = "temperature"
    options["unit"] = options["unit"] or ("°C" if shipped and options["target"] == "temperature" else "")
    options["out"] = options["out"] or Path("runs") / ("forecast" if shipped else f"forecast-{options['csv'].stem}")
    try:
        run(**options)
    except RecurrentError as error:
        sys.exit(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
