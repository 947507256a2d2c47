"""What `forecast.py` shows and writes: the summary, the tables and the picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from keras_lstm_custom import timeseries, writing


def describe(csv: Path, frame: pd.DataFrame, plan: Any, samples: Any) -> None:
    """Say what was read and what will be done, the choices that were made for the user included."""
    others = [c for c in plan.features if c != plan.target]
    counts = [len(windows.x) for windows in samples[:3]]
    first, last = stamp(frame.index[0]), stamp(frame.index[-1])
    print(f"Data     {csv.name}: {len(frame)} rows from {first} to {last}, spacing {frame.index.freqstr}")
    print(f"Target   {plan.target}" + (f"; also seen: {', '.join(others)}" if others else ""))
    print(f"Windows  {plan.window} steps seen, {plan.horizon} forecast, a season has {plan.period}")
    every = f" (one in {plan.stride})" if plan.stride > 1 else ""
    print(f"Parts    in time order: {counts[0]} windows to learn{every}, {counts[1]} to stop by, {counts[2]} held out")


def summarise(metrics: dict[str, Any], out: Path) -> None:
    """Print the table of errors and where everything is."""
    unit = f" [{metrics['unit']}]" if metrics["unit"] else ""
    held_out = metrics["held_out"]
    print(f"\nHeld-out data, {held_out['from']} to {held_out['to']}")
    print(f"{'':16}{'MAE' + unit:>14}{'RMSE' + unit:>14}{'RMSE below naive':>19}{'epochs':>8}{'seconds':>9}")
    for name, row in metrics["errors"].items():
        fitted = f"{row['epochs']:>8}{row['seconds']:>9.1f}" if "epochs" in row else ""
        print(f"{name:16}{row['mae']:>14.4g}{row['rmse']:>14.4g}{row['rmse_below_naive']:>18.0%} {fitted}")
    best = metrics["best"]
    print(f"\nBest by validation loss: {best}.")
    if metrics["errors"][best]["rmse_below_naive"] <= 0:
        print("It is no better than the seasonal-naive forecast here: use that one, or give the networks more data.")
    for name, proof in metrics.get("exports", {}).items():
        errors = ", ".join(f"{error:.1e}{unit} on {runtime}" for runtime, error in proof["max_error"].items())
        print(f"{name}: {proof['bytes'] / 1024:.0f} KiB, {proof['windows']} held-out windows, largest error {errors}")
        if proof["ops"]:
            print(f"  ops: {', '.join(proof['ops'])}")
    print(f"Everything is in {out}/: {', '.join(sorted(path.name for path in out.iterdir()))}")


def write_tables(
    out: Path,
    frame: pd.DataFrame,
    plan: Any,
    samples: Any,
    truth: np.ndarray,
    forecasts: dict[str, np.ndarray],
    beyond: np.ndarray,
) -> None:
    """Write the held-out forecasts, one after another without overlap, and the forecast beyond the end of the file."""
    rows = slice(None, None, plan.horizon)
    held_out = {"time": samples.test.times[rows], "truth": truth[rows]}
    held_out |= {file_name(name): values[rows] for name, values in forecasts.items()}
    table = pd.DataFrame({name: values.ravel() for name, values in held_out.items()})
    writing.write_text(out / "forecasts.csv", table.to_csv(index=False, float_format="%.6g"))

    index = timeseries.next_times(frame.index, plan.horizon)
    table = pd.DataFrame({plan.target: beyond}, index=index)
    writing.write_text(out / "next.csv", table.to_csv(index_label=frame.index.name, float_format="%.6g"))


def plot(
    path: Path, plan: Any, unit: str, times: np.ndarray, truth: np.ndarray, forecasts: dict[str, np.ndarray]
) -> None:
    """Draw some held-out forecasts against the truth, and the error by how far ahead the forecast is."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.dates import ConciseDateFormatter

    label = f"{plan.target} [{unit}]" if unit else plan.target
    # Okabe and Ito's colours, told apart by the colour-blind too, and a line style each.
    styles = dict(zip(forecasts, (("#777777", ":"), ("#D55E00", "--"), ("#0072B2", "-")), strict=True))
    figure, (top, bottom) = plt.subplots(2, figsize=(10, 7.5), layout="constrained", height_ratios=(3, 2))
    middle = max(0, len(truth) // 2 - 3 * plan.horizon)
    shown = slice(middle, middle + 7 * plan.horizon, plan.horizon)
    marker = "o" if plan.horizon == 1 else None  # one step is no line
    top.plot(times[shown].ravel(), truth[shown].ravel(), color="black", linewidth=2.2, label="truth")
    for name, values in forecasts.items():
        for k, (when, value) in enumerate(zip(times[shown], values[shown], strict=True)):
            color, line = styles[name]
            top.plot(when, value, color=color, linestyle=line, marker=marker, label=None if k else name)
    for when in times[shown][:, 0]:
        top.axvline(when, color="0.85", linewidth=0.8, zorder=0)
    top.set(ylabel=label, xlabel="time")
    top.set_title(f"Forecasts of held-out data: the next {plan.horizon} steps, made at each grey line", pad=28)
    top.xaxis.set_major_formatter(ConciseDateFormatter(top.xaxis.get_major_locator()))
    top.legend(ncols=4, frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    ahead = np.arange(1, plan.horizon + 1)
    for name, values in forecasts.items():
        rmse = np.sqrt(np.mean((truth - values) ** 2, axis=0))
        color, line = styles[name]
        bottom.plot(ahead, rmse, color=color, linestyle=line, marker="o", markersize=3, label=name)
    bottom.set(xlabel="steps ahead", ylabel=f"RMSE [{unit}]" if unit else "RMSE", ylim=(0, None))
    bottom.set_title(f"Error over all {len(truth)} held-out windows")
    with writing.new_file(path) as file:
        figure.savefig(file, dpi=120)
    plt.close(figure)


def stamp(time: Any) -> str:
    """Return a time as text."""
    return f"{pd.Timestamp(time):%Y-%m-%d %H:%M}"


def file_name(name: str) -> str:
    """Return a name as it stands in file names and columns."""
    return name.lower().replace(" ", "_")
