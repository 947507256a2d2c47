"""The command `keras-lstm-custom`: a saved model to a file for phone, microcontroller or server, from a shell."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from keras_lstm_custom.errors import DataError, RecurrentError
from keras_lstm_custom.timeseries import commands as forecasting

app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="LSTM models to files for the edge, and forecasts of time series."
)
app.add_typer(forecasting.app)  # forecast, predict
console = Console()

Model = Annotated[Path, typer.Argument(help="A model saved by Keras: model.keras.", show_default=False)]
Quantize = Annotated[str, typer.Option(help="float32, float16, dynamic, int8 or int16x8.")]
Calibration = Annotated[
    Path | None,
    typer.Option(help="Real input: an .npy array (rows, ...), or an .npz with one array for each input, by its name."),
]
Timesteps = Annotated[int | None, typer.Option(help="Length of the sequences, where the model leaves it open.")]
IO = Annotated[str | None, typer.Option("--io-dtype", help="float32: inputs and outputs in float.")]
Bound = Annotated[float | None, typer.Option(help="Largest accepted error, as a share of the output's deviation.")]
State = Annotated[str, typer.Option(help="kept: h and c inside the file. explicit: as inputs and outputs.")]
Steps = Annotated[int, typer.Option(help="Time steps per invocation.")]
Json = Annotated[Path | None, typer.Option("--json", help="Write the report to this file as well.")]


#: How a row of the report looks, by its result.
STYLES = {"ok": None, "not for it": "dim"}


@app.command("export")
def export_file(
    model: Model,
    out: Annotated[Path, typer.Argument(help="The TFLite file to write.", show_default=False)],
    quantize: Quantize = "float32",
    calibration: Calibration = None,
    timesteps: Timesteps = None,
    runtime: Annotated[str, typer.Option(help="Where it must run: litert, micro or both.")] = "litert",
    fused: Annotated[bool, typer.Option(help="Fused LSTM ops; --no-fused unrolls them.")] = True,
    stateful: Annotated[bool, typer.Option(help="Keep the state between invocations.")] = False,
    io_dtype: IO = None,
    bound: Bound = None,
    json: Json = None,
) -> None:
    """Write a TFLite file that has been run and compared with the model."""
    from keras_lstm_custom import export

    with _work(f"Exporting {model} and running the file on every runtime", json) as show:
        options: dict[str, Any] = {"timesteps": timesteps, "runtime": runtime, "fused": fused, "stateful": stateful}
        options |= {"io_dtype": io_dtype, "bound": bound}
        show(export.tflite(_model(model), out, _quantize(quantize), _samples(calibration), **options))


@app.command("micro")
def micro(
    model: Model,
    out: Annotated[Path, typer.Argument(help="The folder to write.", show_default=False)],
    quantize: Quantize = "int8",
    calibration: Calibration = None,
    timesteps: Timesteps = None,
    state: Annotated[str | None, typer.Option(help="To stream: kept or explicit; else whole sequences.")] = None,
    steps: Steps = 1,
    name: Annotated[str | None, typer.Option(help="Namespace of the C++ files.")] = None,
    io_dtype: IO = None,
    bound: Bound = None,
    json: Json = None,
) -> None:
    """Write a folder of C++ files for a microcontroller, with a test vector and its program."""
    from keras_lstm_custom import export

    with _work(f"Exporting {model}, running the file, and looking for the smallest arena", json) as show:
        options: dict[str, Any] = {"timesteps": timesteps, "name": name, "io_dtype": io_dtype, "bound": bound}
        options |= {"state": state, "steps": steps}
        show(export.micro(_model(model), out, _quantize(quantize), _samples(calibration), **options))


@app.command("streaming")
def streaming(
    model: Model,
    out: Annotated[Path, typer.Argument(help="The TFLite file to write.", show_default=False)],
    state: State = "kept",
    steps: Steps = 1,
    quantize: Quantize = "float32",
    calibration: Calibration = None,
    runtime: Annotated[str, typer.Option(help="Where it must run: litert, micro or both.")] = "both",
    bound: Bound = None,
    json: Json = None,
) -> None:
    """Write a TFLite file that takes its sequence step by step, and carries its state on."""
    from keras_lstm_custom import export

    with _work(f"Exporting {model} and running the file step by step", json) as show:
        options: dict[str, Any] = {"steps": steps, "runtime": runtime, "bound": bound}
        show(export.streaming(_model(model), out, state, _quantize(quantize), _samples(calibration), **options))


@app.command("onnx")
def onnx(
    model: Model,
    out: Annotated[Path, typer.Argument(help="The ONNX file to write.", show_default=False)],
    data: Annotated[Path | None, typer.Option(help="Samples to compare with: .npy or .npz.")] = None,
    json: Json = None,
) -> None:
    """Write an ONNX file that onnxruntime has run."""
    from keras_lstm_custom import export

    with _work(f"Exporting {model}", json) as show:
        show(export.onnx(_model(model), out, x=_samples(data)))


@app.command("saved-model")
def saved_model(
    model: Model,
    out: Annotated[Path, typer.Argument(help="The folder to write.", show_default=False)],
    stateful: Annotated[bool, typer.Option(help="Also give the signature `step`.")] = False,
    json: Json = None,
) -> None:
    """Write a TensorFlow SavedModel."""
    from keras_lstm_custom import export

    with _work(f"Exporting {model}", json) as show:
        show(export.saved_model(_model(model), out, stateful=stateful))


@app.command("verify")
def verify(
    file: Annotated[Path, typer.Argument(help="A TFLite file.", show_default=False)],
    model: Model,
    data: Annotated[Path, typer.Argument(help="Samples: .npy or .npz.", show_default=False)],
    stateful: Annotated[bool, typer.Option(help="The file keeps its state on purpose.")] = False,
    bound: Bound = None,
    json: Json = None,
) -> None:
    """Run a TFLite file on every installed runtime, and compare it with the model."""
    from keras_lstm_custom import export

    with _work(f"Running {file} on every runtime", json) as show:
        show(export.verify(file, _model(model), _samples(data), stateful=stateful, bound=bound))


@contextmanager
def _work(what: str, json: Path | None) -> Iterator[Callable[[Any], None]]:
    """Show that something is under way, then the report; an error of ours ends the command with its text."""
    reports: list[Any] = []
    try:
        with console.status(f"{what} ..."):
            yield reports.append
    except RecurrentError as error:
        # Not rich's own layout: it would break paths and words.
        typer.secho(type(error).__name__, fg="red", bold=True, err=True)
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    (report,) = reports
    _show(report)
    if json is not None:
        json.write_text(report.to_json() + "\n")
    if not report.ok:
        raise typer.Exit(1)


def _show(report: Any) -> None:
    from keras_lstm_custom.export.running.report import COLUMNS

    facts = Table(show_header=False, box=None)
    for name, value in report.facts():
        facts.add_row(f"[bold]{name}[/]", value)
    console.print(facts)
    table = Table(*COLUMNS, header_style="bold")
    for row in report.rows():
        table.add_row(*row, style=STYLES.get(row[1], "red"))
    console.print(table)
    for remark in report.remarks():
        console.print(f"- {remark}", highlight=False, markup=False)


def _quantize(value: str) -> str | None:
    return None if value in ("float32", "none") else value


def _model(path: Path) -> Any:
    import keras

    import keras_lstm_custom  # noqa: F401  registers its layers

    _check_file(path, "a model saved by model.save('model.keras')")
    try:
        return keras.saving.load_model(path, compile=False)
    except (ValueError, TypeError, OSError) as error:
        raise DataError(
            f"{str(path)!r} cannot be loaded as a Keras model.",
            expected="a model saved by model.save('model.keras'), of Keras' layers and those of this package",
            received=f"{type(error).__name__}: {str(error).splitlines()[0]}",
            remedy="If it has layers of your own, export it from Python, where they are registered.",
        ) from error


def _samples(path: Path | None) -> Any:
    import numpy as np

    if path is None:
        return None
    _check_file(path, "an .npy or .npz file")
    try:
        loaded = np.load(path)
        values = {"": loaded} if isinstance(loaded, np.ndarray) else dict(loaded)
        if not all(isinstance(value, np.ndarray) for value in values.values()):  # any zip file is opened
            raise ValueError("an archive of something else")
    except (ValueError, OSError) as error:
        raise DataError(
            f"{str(path)!r} does not hold arrays.",
            expected="an .npy file of one array, or an .npz file of one array for each input",
            received=f"{type(error).__name__}: {error}",
            remedy="Write it by np.save('data.npy', x_train[:200]).",
        ) from error
    return loaded if isinstance(loaded, np.ndarray) else values


def _check_file(path: Path, expected: str) -> None:
    if not path.is_file():
        raise DataError(
            f"There is no file {str(path)!r}.",
            expected=expected,
            received="a folder" if path.is_dir() else "nothing of that name",
            remedy="Check the path.",
        )


def main() -> None:
    """Run the command; the entry point of the package's script."""
    app()


if __name__ == "__main__":
    main()
