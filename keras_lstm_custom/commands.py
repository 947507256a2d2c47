"""The command `keras-lstm-custom`: a saved model to a file for phone, microcontroller or server, from a shell."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from keras_lstm_custom.array_files import read_arrays
from keras_lstm_custom.errors import ExportError, RecurrentError
from keras_lstm_custom.model_files import check_file, load_model
from keras_lstm_custom.timeseries import commands as forecasting
from keras_lstm_custom.version import __version__
from keras_lstm_custom.writing import check_file as check_file_target
from keras_lstm_custom.writing import ending_cleanly, target_of, write_text

HELP = """LSTM models to files for the edge, and forecasts of time series.

Ends with 0 if all was right; with 1 if a file was not written, or does not give the model's numbers; with 2 if the \
command was called wrongly. What is wrong stands on the error output, or in the report.
"""
app = typer.Typer(add_completion=False, no_args_is_help=True, help=HELP)
app.add_typer(forecasting.app)  # forecast, predict
console = Console()

Model = Annotated[
    Path, typer.Argument(help="A model: model.keras, an .h5 file of Keras 2, or an .onnx file.", show_default=False)
]
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


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"keras-lstm-custom {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Take what stands before the name of a command."""


@app.command("export")
def export_file(
    model: Model,
    out: Annotated[Path, typer.Argument(help="The TFLite file to write.", show_default=False)],
    quantize: Quantize = "float32",
    calibration: Calibration = None,
    timesteps: Timesteps = None,
    runtime: Annotated[str, typer.Option(help="Where it must run: litert, micro or both.")] = "litert",
    fused: Annotated[bool, typer.Option(help="Fused LSTM ops, and loops; --no-fused unrolls.")] = True,
    stateful: Annotated[bool, typer.Option(help="Keep the state between invocations.")] = False,
    io_dtype: IO = None,
    bound: Bound = None,
    json: Json = None,
) -> None:
    """Write a TFLite file that has been run and compared with the model."""
    from keras_lstm_custom import export

    with _work(f"Exporting {model} and running the file on every runtime", json, out, model, calibration) as show:
        options: dict[str, Any] = {"timesteps": timesteps, "runtime": runtime, "fused": fused, "stateful": stateful}
        options |= {"io_dtype": io_dtype, "bound": bound}
        show(export.tflite(load_model(model), out, _quantize(quantize), _samples(calibration), **options))


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
    kernels: Annotated[str | None, typer.Option(help="Which must run it: reference or cmsis-nn.")] = None,
    json: Json = None,
) -> None:
    """Write a folder of C++ files for a microcontroller, with a test vector and its program."""
    from keras_lstm_custom import export

    with _work(
        f"Exporting {model}, running the file, looking for the smallest arena", json, out, model, calibration
    ) as show:
        options: dict[str, Any] = {"timesteps": timesteps, "name": name, "io_dtype": io_dtype, "bound": bound}
        options |= {"state": state, "steps": steps, "kernels": kernels}
        show(export.micro(load_model(model), out, _quantize(quantize), _samples(calibration), **options))


@app.command("c")
def plain_c(
    model: Model,
    out: Annotated[Path, typer.Argument(help="The folder to write.", show_default=False)],
    quantize: Annotated[str, typer.Option(help="float32, int8 (weights) or int16x8 (integers alone).")] = "float32",
    calibration: Calibration = None,
    timesteps: Timesteps = None,
    name: Annotated[str | None, typer.Option(help="Of the struct, the functions and the files.")] = None,
    bound: Bound = None,
    json: Json = None,
) -> None:
    """Write a folder of plain C99 without a runtime, compiled and compared with the model, with its test."""
    from keras_lstm_custom import export

    with _work(f"Writing {model} as C, compiling and running it", json, out, model, calibration) as show:
        options: dict[str, Any] = {"timesteps": timesteps, "name": name, "bound": bound}
        show(export.c(load_model(model), out, _quantize(quantize), _samples(calibration), **options))


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

    with _work(f"Exporting {model} and running the file step by step", json, out, model, calibration) as show:
        options: dict[str, Any] = {"state": state, "steps": steps, "runtime": runtime, "bound": bound}
        options |= {"quantize": _quantize(quantize), "calibration": _samples(calibration)}
        show(export.streaming(load_model(model), out, **options))


@app.command("onnx")
def onnx(
    model: Model,
    out: Annotated[Path, typer.Argument(help="The ONNX file to write.", show_default=False)],
    data: Annotated[Path | None, typer.Option(help="Samples to compare with: .npy or .npz.")] = None,
    json: Json = None,
) -> None:
    """Write an ONNX file that onnxruntime has run."""
    from keras_lstm_custom import export

    with _work(f"Exporting {model}", json, out, model, data) as show:
        show(export.onnx(load_model(model), out, x=_samples(data)))


@app.command("saved-model")
def saved_model(
    model: Model,
    out: Annotated[Path, typer.Argument(help="The folder to write.", show_default=False)],
    stateful: Annotated[bool, typer.Option(help="Also give the signature `step`.")] = False,
    json: Json = None,
) -> None:
    """Write a TensorFlow SavedModel."""
    from keras_lstm_custom import export

    with _work(f"Exporting {model}", json, out, model) as show:
        show(export.saved_model(load_model(model), out, stateful=stateful))


@app.command("verify")
def verify(
    file: Annotated[Path, typer.Argument(help="A TFLite file.", show_default=False)],
    model: Model,
    data: Annotated[Path, typer.Argument(help="Samples: .npy or .npz.", show_default=False)],
    stateful: Annotated[bool, typer.Option(help="The file keeps its state on purpose.")] = False,
    bound: Bound = None,
    npu: Annotated[str | None, typer.Option(help="Which ops land on an Ethos-U, e.g. ethos-u55-128.")] = None,
    json: Json = None,
) -> None:
    """Run a TFLite file on every installed runtime, and compare it with the model."""
    from keras_lstm_custom import export

    with _work(f"Running {file} on every runtime", json, None, file, model, data) as show:
        show(export.verify(file, load_model(model), _samples(data), stateful=stateful, bound=bound, npu=npu))


@contextmanager
def _work(what: str, json: Path | None, out: Path | None, *inputs: Path | None) -> Iterator[Callable[[Any], None]]:
    """Show that something is under way, then the report; an error of ours ends the command with its text."""
    reports: list[Any] = []
    try:
        with ending_cleanly(), console.status(escape(f"{what} ...")):
            _check_targets(json, out, inputs)
            yield reports.append
        (report,) = reports
        _show(report)
        if json is not None:
            write_text(json, report.to_json() + "\n")
    except RecurrentError as error:
        # Not rich's own layout: it would break paths and words.
        typer.secho(type(error).__name__, fg="red", bold=True, err=True)
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    if not report.ok:
        raise typer.Exit(1)


def _check_targets(json: Path | None, out: Path | None, inputs: Sequence[Path | None]) -> None:
    """Refuse to write over what is read, or the report over the file that it is about."""
    if json is not None:
        check_file_target(json)
    targets = [target_of(path, ExportError)[0] for path in (json, out) if path is not None]
    taken = [os.path.realpath(os.path.expanduser(path)) for path in inputs if path is not None]
    for target in targets:
        if str(target) in taken or targets.count(target) > 1:
            raise ExportError(
                f"{str(target)!r} was named twice.",
                expected="another path for each file that is read or written",
                received="one that would be written over what is read, or over what was just written",
                remedy="Choose another path for one of them.",
            )


def _show(report: Any) -> None:
    from keras_lstm_custom.export.running.report import COLUMNS

    facts = Table(show_header=False, box=None)
    for name, value in report.facts():
        facts.add_row(f"[bold]{name}[/]", escape(value))
    console.print(facts)
    table = Table(*COLUMNS, header_style="bold")
    for row in report.rows():
        table.add_row(*map(escape, row), style=STYLES.get(row[1], "red"))
    console.print(table)
    for remark in report.remarks():
        console.print(f"- {remark}", highlight=False, markup=False)


def _quantize(value: str) -> Any:  # the export functions say what they know
    return None if value in ("float32", "none") else value


def _samples(path: Path | None) -> Any:
    if path is None:
        return None
    check_file(path, "an .npy or .npz file")
    arrays = read_arrays(path)
    return arrays[""] if list(arrays) == [""] else arrays
