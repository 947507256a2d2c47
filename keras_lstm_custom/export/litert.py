"""`tflite`: any Keras model to a TFLite file that has been run and compared before it is kept."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from pathlib import Path
from typing import Any

import keras

from keras_lstm_custom.errors import ArgumentError, ExportError
from keras_lstm_custom.export.report import ExportReport
from keras_lstm_custom.export.samples import made_up
from keras_lstm_custom.export.verify import verify

QUANTIZE = (None, "float16", "dynamic", "int8", "int16x8")
#: What the user asks for, and the runtimes that must then run the file.
RUNTIMES = {"litert": ("litert",), "micro": ("micro",), "both": ("litert", "micro")}


def tflite(
    model: keras.Model,
    path: str | os.PathLike,
    quantize: str | None = None,
    calibration: Any = None,
    timesteps: int | None = None,
    runtime: str = "litert",
    *,
    fused: bool = True,
    stateful: bool = False,
    io_dtype: str | None = None,
    bound: float | None = None,
) -> ExportReport:
    """Write `model` as a TFLite file, run it, and keep it only if it gives the model's numbers.

    Each LSTM, and each vanilla RNN, becomes one fused op for each direction. The file has batch 1.

    ```python
    report = export.tflite(model, "har.tflite", quantize="int8", calibration=x_train[:200])
    print(report)
    ```

    Args:
        model: a built Sequential or functional model with recurrent layers of Keras or of ours.
        path: the file; an existing one is replaced, and left as it is if the export fails.
        quantize: None for float32; "int8" and "int16x8" (int16 values, int8 weights; for the
            microcontroller runtime) compute in integers; "float16" and "dynamic" (int8 weights)
            store the weights smaller and compute in float, on LiteRT only.
        calibration: real input, `(rows, ...)`, a list or a dict of arrays for several inputs; or an
            iterable of such batches. It gives the ranges for "int8" and "int16x8". The file is compared
            with the model on its first rows; without it, on random numbers.
        timesteps: the length of the sequences, where the model leaves it open, or another than the model's.
        runtime: "litert", "micro" or "both": where the file must run.
        fused: False unrolls the recurrent layers instead, for activations and masks that the fused
            op cannot do and for LiteRT's CompiledModel API, which refuses the fused op.
        stateful: keep the states between invocations, for streaming; otherwise every invocation
            starts from the initial state.
        io_dtype: "float32" for inputs and outputs in float of a file that computes in integers;
            None for its own integers.
        bound: the largest accepted error, as a share of the standard deviation of the model's
            output; None = `verify.BOUNDS[quantize]`.

    Returns:
        The report: size, ops, and the error on each installed runtime.

    Raises:
        ArgumentError: an option is unknown, or two do not go together.
        ExportError: the model cannot be exported, the path cannot be written, or the file does not give
            the model's numbers. Nothing is left behind.
        InputError: the calibration does not fit the model, or holds NaN, infinity or no values.
    """
    _check_options(quantize, runtime)
    target = _check_path(path)
    from keras_lstm_custom.export.convert import float_file  # needs TensorFlow and the TFLite schema
    from keras_lstm_custom.export.prepare import prepare

    prepared = prepare(model, timesteps, fused=fused)
    content = float_file(prepared, stateful=stateful)
    samples = made_up(model, free_size=timesteps or 1)
    descriptor, beside = tempfile.mkstemp(suffix=".tflite", prefix=f".{target.stem}-", dir=target.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        report = verify(
            beside,
            model,
            samples,
            bound=bound,
            quantize=quantize,
            made_for=RUNTIMES[runtime],
            stateful=stateful,
            notes=prepared.notes,
        )
        if not report.ok:
            raise _not_equal(report)
        os.chmod(beside, 0o644)
        os.replace(beside, target)
    finally:
        Path(beside).unlink(missing_ok=True)
    return dataclasses.replace(report, path=str(target))


def _check_options(quantize: str | None, runtime: str) -> None:
    for name, value, known in (("quantize", quantize, QUANTIZE), ("runtime", runtime, tuple(RUNTIMES))):
        if value not in known:
            raise ArgumentError(
                f"`{name}` is unknown.",
                expected=", ".join(map(repr, known)),
                received=repr(value),
                remedy="Use one of these.",
            )
    if runtime != "litert" and quantize in ("float16", "dynamic"):
        raise ArgumentError(
            f"The microcontroller runtime does not run {quantize} files: it refuses them, or gives NaN.",
            expected="quantize=None, 'int8' or 'int16x8' for it",
            received=f"quantize={quantize!r}, runtime={runtime!r}",
            remedy="Use 'int8', or runtime='litert'.",
        )


def _check_path(path: str | os.PathLike) -> Path:
    """Return the path if a file can be written there."""
    target = Path(path)
    reason = (
        "a folder has that name"
        if target.is_dir()
        else "its folder does not exist"
        if not target.parent.is_dir()
        else "its folder cannot be written to"
        if not os.access(target.parent, os.W_OK)
        else None
    )
    if reason is not None:
        raise ExportError(
            f"The file {str(target)!r} cannot be written.",
            expected="the path of a file in an existing folder",
            received=reason,
            remedy="Choose another path, or create the folder.",
        )
    return target


def _not_equal(report: ExportReport) -> ExportError:
    failed = [check for check in report.checks if check.runtime in report.runtimes and not check.ok]
    return ExportError(
        "The exported file does not give the model's numbers, so it was not kept.",
        expected=f"an error of at most {report.bound:.3g} of the output's standard deviation",
        received="; ".join(f"{check.runtime}: {check.message or 'not run'}" for check in failed)
        or "no runtime that ran it",
        remedy="Look at the ranges of the calibration and of the outputs; a larger error can be accepted by `bound`.",
    )
