"""The whole job: train, judge, save, and write tables and a picture; what the command and the demo do."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from keras_lstm_custom.errors import ArgumentError
from keras_lstm_custom.timeseries.forecasting.forecaster import Forecaster
from keras_lstm_custom.timeseries.forecasting.judging import Judgement, judge, stamp
from keras_lstm_custom.timeseries.forecasting.plan import Frames, Plan, as_frames
from keras_lstm_custom.timeseries.forecasting.samples import PARTS, part_origins
from keras_lstm_custom.timeseries.forecasting.saving import save_forecaster
from keras_lstm_custom.writing import new_file, write_text

METRICS = "metrics.json"
Say = Callable[[str], None]


def make_ours(out: Path) -> None:
    """Make the folder to write to; one that holds anything but an earlier run is refused.

    Raises:
        ArgumentError: it holds something else.
    """
    if out.exists() and not (out.is_dir() and ((out / METRICS).exists() or not any(out.iterdir()))):
        raise ArgumentError(
            f"{out} is there already, and is not the result of an earlier run.",
            expected="a new or empty folder, or one that holds an earlier run",
            received="a file" if out.is_file() else f"a folder without {METRICS}",
            remedy="Choose another folder with --out.",
        )
    if not (out / METRICS).exists():
        write_text(out / METRICS, "")


def run(
    forecasters: dict[str, Forecaster],
    data: pd.DataFrame | Frames,
    out: Path,
    *,
    source: str = "",
    unit: str = "",
    future: pd.DataFrame | Frames | None = None,
    reading: dict[str, Any] | None = None,
    say: Say = print,
    **training: Any,
) -> tuple[dict[str, Any], Judgement]:
    """Fit forecasters, judge them, and write everything to a folder.

    Args:
        forecasters: by name; the one with the least validation loss is saved in `out`.
        data: a table, or several by id.
        out: the folder; it is made if need be.
        source: where the data is from, for the record.
        unit: of the target.
        future: the columns known in advance after the end of the data, for `next.csv`.
        reading: how the file was read, kept for `predict`.
        say: takes each line for the user.
        training: arguments of `Forecaster.fit`.

    Returns:
        What is in `metrics.json`, and the judgement.
    """
    frames = as_frames(data)
    first = next(iter(forecasters.values()))
    first.prepare(data)
    if future is not None:
        first.tables(data, future)  # raises, if it ends too early, before anything is trained
    make_ours(out)
    describe(source, frames, first, say)
    for name, forecaster in forecasters.items():
        say(f"Training {name}({forecaster.units}) ...")
        forecaster.fit(data, **training)
        forecaster.reading = dict(reading or {})
    judgement = judge(forecasters, data)
    best = forecasters[judgement.best]
    by_origin = judgement.by_origin(6).astype(object)
    metrics = {
        "data": source,
        "rows": sum(len(frame) for frame in frames.values()),
        "plan": best.plan.to_dict(),
        "unit": unit,
        "anchor": best.anchor_used,
        **judgement.to_dict(),
        "by_origin": by_origin.where(by_origin.notna(), None).to_dict(orient="list"),
    }
    save_forecaster(best, out)
    with new_file(out / "forecasts.csv") as file:
        held_out_table(judgement, best.plan).to_csv(file, index=False, float_format="%.7g")
    if best.plan.future and future is None:
        say("next.csv was not written: it needs the columns known in advance after the end of the file (--ahead).")
    else:
        write_next(best.predict(data, future), out / "next.csv")
    _picture(judgement, best.plan, out / "forecast.png", unit, say)
    write_text(out / METRICS, json.dumps(metrics, indent=2, ensure_ascii=False) + "\n")
    held = metrics["held_out"]
    say(f"\nHeld-out data, {held['from']} to {held['to']}" + (f"; MAE and RMSE in {unit}" if unit else ""))
    say(str(judgement))
    return metrics, judgement


def write_next(forecast: pd.DataFrame, path: Path) -> None:
    """Write a forecast as CSV; the stamps keep their zone."""
    with new_file(path) as file:
        forecast.to_csv(file, float_format="%.7g")


def describe(source: str, frames: dict[str, pd.DataFrame], forecaster: Forecaster, say: Say) -> None:
    """Say what was read and what is done, the choices that were made for the user included."""
    plan: Plan = forecaster.plan
    frame = next(iter(frames.values()))
    several = f" in each of {len(frames)} series" if len(frames) > 1 else ""
    ends = f"from {stamp(frame.index[0])} to {stamp(frame.index[-1])}"
    say(f"Data     {source}: {len(frame)} rows{several} {ends}, spacing {plan.frequency}")
    seen = [
        *([f"also seen: {', '.join(plan.past)}"] if plan.past else []),
        *([f"known in advance: {', '.join(plan.future)}"] if plan.future else []),
        *([f"of each series: {', '.join(plan.static)}"] if plan.static else []),
        *([f"calendar: {', '.join(plan.calendar)}"] if plan.calendar else []),
        *([f"holidays of {plan.holidays}"] if plan.holidays else []),
    ]
    say("; ".join([f"Target   {plan.target}", *seen]))
    season = f"a season has {plan.period}" if plan.period > 1 else "no season is known"
    say(f"Windows  {plan.window} steps seen, {plan.horizon} forecast, {season}")
    tables = forecaster.tables(frames)
    counts = [sum(len(part_origins(t, plan, part, forecaster.shares)) for t in tables.values()) for part in PARTS]
    every = f" (one in {plan.stride})" if plan.stride > 1 else ""
    say(f"Parts    in time order: {counts[0]} windows to learn{every}, {counts[1]} to stop by, {counts[2]} held out")


def held_out_table(judgement: Judgement, plan: Plan) -> pd.DataFrame:
    """Return the held-out forecasts of the first series, one after another without overlap."""
    rows = slice(0, judgement.of_first, plan.horizon)
    columns = {"time": judgement.stamps[rows], "truth": judgement.truth[rows]}
    for name, values in judgement.forecasts.items():
        columns[file_name(name)] = values[rows]
    for level, (lower, upper) in judgement.networks[judgement.best].intervals.items():
        columns[f"lower_{level:g}"] = lower[rows]
        columns[f"upper_{level:g}"] = upper[rows]
    return pd.DataFrame({name: values.ravel() for name, values in columns.items()})


def file_name(name: str) -> str:
    """Return a name as it stands in file names and columns."""
    return name.lower().replace(" (", "_").replace(")", "").replace(" ", "_")


def _picture(judgement: Judgement, plan: Plan, path: Path, unit: str, say: Say) -> None:
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        say("forecast.png was not drawn: pip install matplotlib for that.")
        return
    from keras_lstm_custom.timeseries.forecasting.picture import draw

    draw(judgement, plan, path, unit=unit)
