"""`tflite`: any Keras model to a TFLite file that has been run and compared before it is kept."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

import keras
import numpy as np

from keras_lstm_custom.errors import ArgumentError, ExportError
from keras_lstm_custom.export.choices import FloatIO, Integers, Quantize, Runtime, check_choice, checked_bound
from keras_lstm_custom.export.model.as_lstm import is_fusible
from keras_lstm_custom.export.model.calibration import calibration_arrays, held_back, no_calibration
from keras_lstm_custom.export.model.inputs import Timesteps, check_finite, check_no_text, input_shapes
from keras_lstm_custom.export.model.samples import Shape, made_up
from keras_lstm_custom.export.running.report import ExportReport
from keras_lstm_custom.export.running.verify import verify
from keras_lstm_custom.models.walk import cells_of, recurrent_layers
from keras_lstm_custom.writing import check_file, new_file

if TYPE_CHECKING:
    from keras_lstm_custom.export.file.graph import Graph

QUANTIZE = (None, *get_args(Quantize))
INTEGERS = get_args(Integers)  #: those that need a calibration
#: What the user asks for, and the runtimes that must then run the file.
RUNTIMES = {"litert": ("litert",), "micro": ("micro",), "both": ("litert", "micro")}
COMPARED = 32  #: rows on which a file that computes in float is compared with the model


class Exported(NamedTuple):
    """An export, and what another that continues it would have to find again."""

    report: ExportReport
    graph: Graph  #: the file
    rows: list[np.ndarray]  #: for each input: the calibration, or random numbers
    feedback: Mapping[int, int] = MappingProxyType({})  #: of a file that streams: its states, as for `run_file`


def tflite(
    model: keras.Model,
    path: str | os.PathLike,
    quantize: Quantize | None = None,
    calibration: Any = None,
    timesteps: Timesteps = None,
    runtime: Runtime = "litert",
    *,
    fused: bool = True,
    stateful: bool = False,
    io_dtype: FloatIO | None = None,
    bound: float | None = None,
    verbose: int | str = "auto",
) -> ExportReport:
    """Write `model` as a TFLite file, run it, and keep it only if it gives the model's numbers.

    Each LSTM, and each vanilla RNN, becomes one fused op for each direction, where the op computes it; every other
    cell, a GRU, one of your own, and what reads a mask, becomes a loop over its steps. The file has batch 1.

    ```python
    written = export.tflite(model, "har.tflite", quantize="int8", calibration=x_train[:200])
    print(written)
    ```

    Args:
        model: a built Sequential or functional model with recurrent layers of Keras or of ours.
        path: the file; an existing one is replaced, and left as it is if the export fails.
        quantize: None for float32; "int8" and "int16x8" (int16 values, int8 weights; for the
            microcontroller runtime) compute in integers; "float16" and "dynamic" (int8 weights)
            store the weights smaller and compute in float, on LiteRT only.
        calibration: real input, `(rows, ...)`, a list or a dict of arrays for several inputs; or an
            iterable of such batches. It gives the ranges for "int8" and "int16x8"; of 32 rows and more, a quarter (at
            most 32 rows) is held back for the comparison with the model. Without it, that uses random numbers.
        timesteps: the length of the sequences, where the model leaves it open, or another than the model's: one for
            all inputs that run over time, a dict by the inputs' names, or a list in their order (None: as it is).
            What is still open has the size that it has in the calibration.
        runtime: "litert", "micro" or "both": where the file must run.
        fused: False unrolls the recurrent layers instead, for LiteRT's CompiledModel API, which refuses the fused op
            (loops it takes), and where a few steps are to be as fast as can be.
        stateful: keep the states between invocations, for streaming; otherwise every invocation
            starts from the initial state.
        io_dtype: "float32" for inputs and outputs in float of a file that computes in integers;
            None for its own integers.
        bound: the largest accepted error, as a share of the standard deviation of the model's
            output; None = `verify.BOUNDS[quantize]`.
        verbose: 1 shows a progress bar while an integer file is tried with more bits here and there, 0 does not;
            "auto" shows one when it takes longer than two seconds.

    Returns:
        The report: size, ops, and the error on each installed runtime.

    Raises:
        ArgumentError: an option is unknown, or two do not go together.
        ExportError: the model cannot be exported, the path cannot be written, or the file does not give
            the model's numbers. Nothing is left behind.
        InputError: the calibration does not fit the model, or holds NaN, infinity or no values.
    """
    return exported(
        model,
        path,
        quantize,
        calibration,
        timesteps,
        runtime,
        fused=fused,
        stateful=stateful,
        io_dtype=io_dtype,
        bound=bound,
        verbose=verbose,
    ).report


def exported(
    model: keras.Model,
    path: str | os.PathLike,
    quantize: Quantize | None,
    calibration: Any,
    timesteps: Timesteps,
    runtime: Runtime,
    *,
    fused: bool = True,
    stateful: bool = False,
    io_dtype: FloatIO | None = None,
    bound: float | None = None,
    verbose: int | str = "auto",
) -> Exported:
    """Do what `tflite` does; return the report and what it was made from."""
    _check_options(quantize, runtime, io_dtype)
    bound = checked_bound(bound)
    _check_int16(model, quantize, runtime, fused)
    check_file(path)
    from keras_lstm_custom.export.convert import convert  # needs TensorFlow and the TFLite schema
    from keras_lstm_custom.export.model.prepare import prepare, with_length

    check_no_text(model)
    check_finite(model)
    resized = with_length(model, timesteps)
    if resized is not model:  # then it has the lengths, and its inputs may have other names
        model, timesteps = resized, None
    rows = samples = _samples(model, quantize, calibration, input_shapes(model, timesteps))
    told = rows if calibration is not None else ()
    prepared = prepare(model, timesteps, told, fused=fused, variants=runtime == "litert")
    shown, compared = [array[:COMPARED] for array in samples], []
    if quantize in INTEGERS:
        samples, shown, note = held_back(samples)
        compared = [note]
    with new_file(path) as beside:
        file = convert(prepared, quantize, samples, stateful=stateful, float_io=io_dtype == "float32", verbose=verbose)
        beside.write_bytes(file.content)
        report = verify(
            beside,
            model,
            shown,
            bound=bound,
            quantize=quantize,
            made_for=RUNTIMES[runtime],
            stateful=stateful,
            notes=[*file.notes, *compared],
        )
        if not report.ok:
            raise refused(report, file.graph, model)
    return Exported(dataclasses.replace(report, path=str(path)), file.graph, rows)


def _samples(model: keras.Model, quantize: str | None, calibration: Any, shapes: Sequence[Shape]) -> list[np.ndarray]:
    """Return what the file is calibrated and compared on: real input, or random numbers if it computes in float."""
    if calibration is not None:
        return calibration_arrays(model, calibration, shapes)
    if quantize in INTEGERS:
        raise no_calibration(quantize)
    return made_up(model, shapes=shapes)


def _check_options(quantize: str | None, runtime: str, io_dtype: str | None) -> None:
    own = {"int8": "int8", "int16x8": "int16"}.get(quantize or "", "float32")
    check_choice("quantize", quantize, QUANTIZE)
    check_choice("runtime", runtime, RUNTIMES)
    check_choice("io_dtype", io_dtype, dict.fromkeys((None, "float32", own)))
    if runtime != "litert" and quantize in ("float16", "dynamic"):
        raise ArgumentError(
            f"The microcontroller runtime does not run {quantize} files: it refuses them, or gives NaN.",
            expected="quantize=None, 'int8' or 'int16x8' for it",
            received=f"quantize={quantize!r}, runtime={runtime!r}",
            remedy="Use 'int8', or runtime='litert'.",
        )


def _check_int16(model: keras.Model, quantize: str | None, runtime: str, fused: bool) -> None:
    """Raise `ArgumentError` if LiteRT would get a fused op with int16 values; loops it runs."""
    if runtime == "micro" or quantize != "int16x8" or not fused or not isinstance(model, keras.Model):
        return
    layers = [layer for layer in recurrent_layers(model).values() if any(map(is_fusible, cells_of(layer)))]
    if layers:
        raise ArgumentError(
            "LiteRT refuses the fused LSTM op with int16 values; only the microcontroller runtime has it.",
            expected="runtime='micro' with quantize='int16x8'",
            received=f"runtime={runtime!r}, and {layers[0].name!r} becomes that op",
            remedy="Use runtime='micro', quantize='int8', or fused=False.",
        )


#: What to do about a file that runs and is too coarse.
_FINER = {
    "int8": "Use quantize='int16x8' (int16 values: on the microcontroller runtime, runtime='micro'; with fused=False "
    "on LiteRT, too), or calibrate on more rows of real input; `bound` accepts a larger error.",
    "int16x8": "Calibrate on more rows of real input, or export in float; `bound` accepts a larger error.",
    "float16": "Export in float32, or scale the values that float16 does not hold; `bound` accepts a larger error.",
    "dynamic": "Use 'float16', or 'int8' with a calibration; `bound` accepts a larger error.",
}


def refused(report: ExportReport, graph: Graph, model: keras.Model) -> ExportError:
    """Return the error for a file that does not run where it should, or not with the model's numbers.

    It names the runtime's own reason, the layer that the op in it comes from, and what does run the file.
    """
    from keras_lstm_custom.export.file.origin import mentioned

    failed = [check for check in report.checks if check.runtime in report.runtimes and not check.ok]
    received = "; ".join(f"{check.runtime}: {check.message or 'not run'}" for check in failed)
    if failed and all(check.ran for check in failed):
        return ExportError(
            "The exported file does not give the model's numbers, so it was not kept.",
            expected=f"an error of at most {report.bound:.3g} of the output's standard deviation",
            received=received,
            remedy=_FINER.get(report.quantize or "float32", "Please report this, with the model's configuration."),
        )
    origin = mentioned(graph, received, model)
    others = [check.runtime for check in report.checks if check.ok and check.runtime in RUNTIMES]
    elsewhere = f"Export it with runtime={others[0]!r}, which runs it, or" if others else "No runtime here runs it:"
    return ExportError(
        "The exported file does not run where it should, so it was not kept.",
        expected=f"that it runs on {' and '.join(report.runtimes)}",
        received=(received or "no runtime that ran it") + (f". {origin}" if origin else ""),
        remedy=f"{elsewhere} put another layer in place of that one, or compute it outside of the exported model.",
    )
