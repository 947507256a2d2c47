"""The commands `forecast` and `predict`: from a CSV file to a judged forecaster, and from that to the next values."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from keras_lstm_custom.errors import ArgumentError, RecurrentError
from keras_lstm_custom.writing import new_file

app = typer.Typer(add_completion=False)

Separator = Annotated[str | None, typer.Option(help=r"What stands between the cells: , or ; or \t")]
Time = Annotated[str | None, typer.Option("--time-column", help="The column of time stamps (default: the first).")]
Identity = Annotated[str | None, typer.Option("--id", help="The column that tells several series apart.")]
Zone = Annotated[str | None, typer.Option(help="Time zone of local times, such as Europe/Berlin.")]
Missing = Annotated[str | None, typer.Option(help="refuse, fill (straight lines), mask or indicate.")]
Ahead = Annotated[
    Path | None, typer.Option(help="A CSV file of the columns known in advance, for the steps after the end.")
]


@app.command("forecast")
def forecast(
    data: Annotated[Path, typer.Argument(help="A CSV file: time stamps and numbers.", show_default=False)],
    target: Annotated[str, typer.Option(help="The column to forecast.", show_default=False)],
    out: Annotated[Path, typer.Option(help="The folder to write.", show_default=False)],
    horizon: Annotated[int | None, typer.Option(help="Steps to forecast (default: one season).")] = None,
    window: Annotated[int | None, typer.Option(help="Steps that are seen (default: two seasons).")] = None,
    period: Annotated[int | None, typer.Option(help="Steps in a season (default: told from the spacing).")] = None,
    levels: Annotated[str | None, typer.Option(help="Of the intervals, in per cent: 80,95; none for none.")] = None,
    features: Annotated[str | None, typer.Option(help="Other columns to see, a,b,c (default: all).")] = None,
    known: Annotated[str | None, typer.Option(help="Columns that are known in advance, a,b.")] = None,
    static: Annotated[str | None, typer.Option(help="Columns with one value for each series, a,b.")] = None,
    calendar: Annotated[bool, typer.Option(help="See hour, weekday and place in the year.")] = True,
    holidays: Annotated[str | None, typer.Option(help="Country code of public holidays to see, such as US.")] = None,
    cell: Annotated[str, typer.Option(help="lstm or vanilla_rnn.")] = "lstm",
    units: Annotated[int, typer.Option(help="Units of the recurrent layer.")] = 32,
    epochs: Annotated[int | None, typer.Option(help="At most (default: 15, more for a short record).")] = None,
    stepping: Annotated[bool, typer.Option("--stepping", help="Forecast one step at a time.")] = False,
    refits: Annotated[int, typer.Option("--backtest", help="Fit again at so many origins, and measure each.")] = 0,
    seed: Annotated[int, typer.Option(help="Of weights and order.")] = 1,
    unit: Annotated[str, typer.Option(help="Of the target, for the picture.")] = "",
    id: Identity = None,
    time_column: Time = None,
    separator: Separator = None,
    zone: Zone = None,
    missing: Missing = None,
    ahead: Ahead = None,
) -> None:
    """Train a network on a series, compare it with simple forecasts, and save it with all that it must know."""
    with _told():
        from keras_lstm_custom.layers import LSTM, VanillaRNN
        from keras_lstm_custom.timeseries import Forecaster, backtest, spread
        from keras_lstm_custom.timeseries.forecasting import job
        from keras_lstm_custom.timeseries.forecasting.backtesting import part_of

        cells = {"lstm": ("LSTM", LSTM), "vanilla_rnn": ("vanilla RNN", VanillaRNN)}
        if cell not in cells:
            raise ArgumentError(
                "There is no such cell.", expected=f"one of {list(cells)}", received=repr(cell), remedy="Check it."
            )
        name, layer = cells[cell]
        reading = {"id": id, "time": time_column, "separator": separator or ",", "zone": zone}
        reading |= {"missing": missing or "refuse"}
        future, fixed = _names(known) or [], _names(static) or []
        columns = None if features is None else [*(_names(features) or []), *future, *fixed]
        table = read(data, target, reading, columns)
        forecaster = Forecaster(
            target,
            horizon=horizon,
            window=window,
            period=period,
            past=_names(features),
            future=future,
            static=fixed,
            calendar=calendar,
            holidays=holidays,
            missing=_network_missing(missing),
            stepping=stepping,
            levels=_levels(levels),
            cell=layer,
            units=units,
        )
        later = None if ahead is None else read(ahead, None, reading, future)
        if refits:
            part_of(forecaster, table, refits)  # raises before anything is trained
        job.run(
            {name: forecaster},
            table,
            out,
            source=data.name,
            unit=unit,
            future=later,
            reading=reading,
            say=typer.echo,
            epochs=epochs,
            seed=seed,
        )
        if refits:
            typer.echo(f"\nFitting again at {refits} origins ...")
            results = backtest(forecaster, table, origins=refits, seeds=(seed,), epochs=epochs)
            with new_file(out / "backtest.csv") as file:
                results.to_csv(file, index=False, float_format="%.7g")
            columns = [column for column in results.columns if column not in ("seed", "mae")]
            typer.echo(results[columns].to_string(index=False, float_format=lambda value: f"{value:.3g}"))
            typer.echo(spread(results))
        files = ", ".join(sorted(path.name for path in out.iterdir()))
        typer.echo(f"\nEverything is in {out}/: {files}")


@app.command("predict")
def predict(
    folder: Annotated[Path, typer.Argument(help="What `forecast` wrote.", show_default=False)],
    data: Annotated[Path, typer.Argument(help="A CSV file that ends where the forecast begins.", show_default=False)],
    out: Annotated[Path | None, typer.Option(help="The CSV file to write (default: shown only).")] = None,
    ahead: Ahead = None,
    time_column: Time = None,
    separator: Separator = None,
    zone: Zone = None,
    missing: Missing = None,
) -> None:
    """Forecast the steps after the end of a file, with intervals, by a saved forecaster."""
    with _told():
        from keras_lstm_custom.timeseries import load_forecaster
        from keras_lstm_custom.timeseries.forecasting import job

        forecaster = load_forecaster(folder)
        changes = {"time": time_column, "separator": separator, "zone": zone, "missing": missing}
        reading = {**forecaster.reading, **{name: value for name, value in changes.items() if value is not None}}
        plan = forecaster.plan
        others = [*plan.past, *plan.future, *plan.static]
        table = read(data, plan.target, reading, others)
        later = None if ahead is None else read(ahead, None, reading, list(plan.future))
        result = forecaster.predict(table, later)
        typer.echo(result.to_string(float_format=lambda value: f"{value:.6g}"))
        if out is not None:
            job.write_next(result, out)
            typer.echo(f"\nWritten to {out}")


def read(path: Path, target: str | None, reading: dict[str, Any], columns: list[str] | None) -> Any:
    """Return the table, or with an id column the tables, of a file, read as `reading` says."""
    from keras_lstm_custom.timeseries import read_csv, read_series

    options = {name: value for name, value in reading.items() if name != "id" and value is not None}
    if options.get("missing") in ("mask", "indicate"):
        options["missing"] = "keep"
    if reading.get("id"):
        return read_series(path, target, id=reading["id"], columns=columns, **options)
    return read_csv(path, target, columns=columns, **options)


def _network_missing(missing: str | None) -> str:
    return missing if missing in ("mask", "indicate") else "refuse"


def _names(text: str | None) -> list[str] | None:
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def _levels(text: str | None) -> list[float] | None:
    from keras_lstm_custom.timeseries.forecasting.conformal import check_levels

    if text is None:
        return None
    return [] if text.strip().lower() == "none" else list(check_levels(_names(text) or []))


@contextmanager
def _told() -> Iterator[None]:
    """Show warnings as lines of text, and end the command with the text of an error of ours."""
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # it warns of every third model in a process
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: typer.secho(f"Note: {message}", fg="yellow", err=True)
        try:
            yield
        except RecurrentError as error:
            typer.secho(type(error).__name__, fg="red", bold=True, err=True)
            typer.echo(str(error), err=True)
            raise typer.Exit(1) from error
        except (OSError, ImportError) as error:
            typer.echo(f"{type(error).__name__}: {error}", err=True)
            raise typer.Exit(1) from error
