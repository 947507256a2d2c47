"""Forecast a time series: a vanilla RNN and an LSTM against every simple forecast, and the better one exported.

    python examples/forecast.py                                       # a year of hourly weather, shipped
    python examples/forecast.py --csv my.csv --target load --unit MW  # a file of your own

The file has a header, a first column of time stamps in equal steps, and columns of numbers. The last 30 % of it is
held out: half decides when to stop learning and calibrates the intervals, half measures the forecasts.

Everything is written to `runs/`: the verdict and the measured errors, the forecasts (also those beyond the end of the
file) with their intervals, a picture, and the better network as a forecaster, SavedModel and TFLite file.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from keras_lstm_custom import LSTM, VanillaRNN, timeseries
from keras_lstm_custom.errors import RecurrentError
from keras_lstm_custom.timeseries.forecasting import job
from keras_lstm_custom.timeseries.forecasting.samples import part_samples

SHIPPED = Path(__file__).parent / "data" / "jfk_weather_2013.csv"
NETWORKS = {"vanilla RNN": VanillaRNN, "LSTM": LSTM}


def run(
    csv: Path = SHIPPED,
    target: str = "temperature",
    *,
    unit: str = "",
    features: list[str] | None = None,
    time_column: str | None = None,
    separator: str = ",",
    zone: str | None = None,
    period: int | None = None,
    window: int | None = None,
    horizon: int | None = None,
    units: int = 32,
    epochs: int | None = None,
    seed: int = 1,
    out: Path = Path("runs/forecast"),
    exported: bool = True,
) -> dict[str, Any]:
    """Do the whole job and return what was measured, as in `metrics.json`.

    Args:
        csv, target, features, time_column, separator, zone: see `timeseries.read_csv`; None: all columns of numbers.
        unit: of the target, for the picture and the table.
        period, window, horizon, units: see `timeseries.Forecaster`.
        epochs, seed: of the training.
        out: the folder to write to.
        exported: whether to export the better model.
    """
    reading = {"time": time_column, "separator": separator, "zone": zone}
    frame = timeseries.read_csv(csv, target, columns=features, **reading)
    sizes = {"period": period, "window": window, "horizon": horizon, "units": units}
    forecasters = {name: timeseries.Forecaster(target, cell=cell, **sizes) for name, cell in NETWORKS.items()}
    training = {"epochs": epochs, "seed": seed, "verbose": 2}
    metrics, judgement = job.run(forecasters, frame, out, source=csv.name, unit=unit, reading=reading, **training)
    if exported:
        metrics["exports"] = export_and_prove(forecasters[judgement.best], frame, out)
        (out / job.METRICS).write_text(json.dumps(metrics, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        for name, proof in metrics["exports"].items():
            errors = ", ".join(f"{error:.1e} {unit} on {runtime}" for runtime, error in proof["max_error"].items())
            print(
                f"{name}: {proof['bytes'] / 1024:.0f} KiB, {proof['windows']} held-out windows, largest error {errors}"
            )
            if proof["ops"]:
                print(f"  ops: {', '.join(proof['ops'])}")
    print(f"Everything is in {out}/: {', '.join(sorted(path.name for path in out.iterdir()))}")
    return metrics


def export_and_prove(forecaster: timeseries.Forecaster, frame: Any, out: Path) -> dict[str, Any]:
    """Write SavedModel and TFLite, run both on held-out windows, and return how far they are from the model.

    The model takes and gives the data's units, so the errors are in them as well.
    """
    from keras_lstm_custom import export

    held_out = part_samples(forecaster.tables(frame), forecaster.plan, "test", forecaster.shares).x
    windows = {name: values[:: math.ceil(len(values) / 50)] for name, values in held_out.items()}
    reports = {
        "saved_model": export.saved_model(forecaster.model, out / "saved_model", x=windows),
        "model.tflite": export.tflite(forecaster.model, out / "model.tflite", calibration=windows),
    }
    return {
        name: {
            "bytes": report.bytes,
            "ops": report.ops,
            "windows": len(windows["past"]),
            "max_error": {check.runtime: check.max_error for check in report.checks if check.ran},
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
    parser.add_argument("--zone", help="time zone of local times, such as Europe/Berlin")
    for name, text in (("period", "steps in a season"), ("window", "steps to see"), ("horizon", "steps to forecast")):
        parser.add_argument(f"--{name}", type=int, help=f"{text} (default: told from the spacing of the rows)")
    parser.add_argument("--epochs", type=int, help="at most (default: 15, more for a short record)")
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
