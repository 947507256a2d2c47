"""`micro`: a model as C++ files for TensorFlow Lite for Microcontrollers, with a test that a device can run."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_lstm_custom.errors import ExportError
from keras_lstm_custom.export import c_code, folder
from keras_lstm_custom.export.litert import tflite
from keras_lstm_custom.export.model.calibration import calibration_arrays
from keras_lstm_custom.export.model.inputs import Timesteps, check_no_text, sequences
from keras_lstm_custom.export.model.prepare import with_length
from keras_lstm_custom.export.model.samples import made_up
from keras_lstm_custom.export.model.stepping import blocks_of
from keras_lstm_custom.export.reserved_names import chosen_name
from keras_lstm_custom.export.running.report import ExportReport
from keras_lstm_custom.export.running.runtimes import Tensor, is_installed, run_file, smallest_arena
from keras_lstm_custom.export.streaming import streaming

#: What is added to the smallest arena that was found, and what the sum is rounded up to, in bytes.
ARENA_MARGIN = 0.1
ARENA_UNIT = 64


def micro(
    model: keras.Model,
    path: str | os.PathLike,
    quantize: str | None = "int8",
    calibration: Any = None,
    timesteps: Timesteps = None,
    *,
    state: str | None = None,
    steps: int = 1,
    name: str | None = None,
    io_dtype: str | None = None,
    bound: float | None = None,
    verbose: int | str = "auto",
) -> ExportReport:
    """Write a folder with all that a microcontroller needs to run `model`, and a program that proves it there.

    | file | holds |
    |---|---|
    | `model.cc`, `model.h` | the TFLite file as a constant array, aligned to 16 bytes |
    | `model_settings.h` | the arena's size; shape, type, scale and zero point of every input and output |
    | `model_ops.h` | the op resolver with the ops of this model alone |
    | `test_vector.cc`, `test_vector.h` | one input and the output that the runtime gave for it here |
    | `main.cc` | runs the test vector and compares |
    | `model.tflite` | the file itself |
    | `keras_lstm_custom.json` | the report |

    The arena's size is found by bisection, each try in a process of its own, on this computer with its 64-bit
    pointers (a 32-bit device needs less); a tenth is added, and the sum rounded up to a multiple of 64.

    Args:
        model: a built Sequential or functional model.
        path: the folder to write. It may be free, empty, or an earlier export in which nothing was changed or added.
        quantize: "int8", "int16x8" or None for float32.
        calibration: real input, as for `export.tflite`. Its first row is the test vector.
        timesteps: the length of the sequences, as for `export.tflite`.
        state: None for whole sequences; "kept" or "explicit" for a package that streams, as `export.streaming` does.
        steps: of a package that streams: time steps per invocation.
        name: the C++ namespace; None = made from the folder's name: its letters a to z and digits, after "model_" where
            C++ does not allow them alone.
        io_dtype: "float32" for inputs and outputs in float.
        bound: the largest accepted error, as for `export.tflite`.
        verbose: whether a progress bar is shown, as for `export.tflite`.

    Returns:
        The report: `bytes` is the flash the model takes, without the runtime's code; `arena_bytes` the RAM.

    Raises:
        ArgumentError: `name` is no name that C++ allows, or an option is unknown.
        ExportError: tflite-micro is not installed, the path is taken, or the export fails; nothing is left behind.

    Example:
        >>> report = export.micro(model, "gesture/", "int8", calibration=x_train[:200])  # doctest: +SKIP
    """
    namespace = chosen_name(name, path)
    folder.check_folder(path)
    if hasattr(calibration, "__next__"):
        calibration = list(calibration)  # it is read twice
    if not is_installed("micro"):
        raise ExportError(
            "The package is proved on the microcontroller runtime, which is not installed.",
            expected="tflite-micro",
            received="no such package",
            remedy="pip install tflite-micro",
        )
    check_no_text(model)
    with folder.new_folder(path) as place:
        file = place / "model.tflite"
        samples = first_row(model, calibration, timesteps, steps)
        feedback: dict[int, int] = {}
        if state is None:
            options: dict[str, Any] = {"runtime": "micro", "io_dtype": io_dtype, "bound": bound, "verbose": verbose}
            report = tflite(model, file, quantize, calibration, timesteps, **options)
        else:
            report = streaming(model, file, state, quantize, calibration, steps, runtime="micro", bound=bound)
            samples = blocks_of(samples, sequences(model), steps)[0]
            inputs, outputs = len(model.inputs), len(model.outputs)
            states = len(file_names(file)[0]) - inputs
            feedback = {inputs + k: outputs + k for k in range(states)}
        report = write_package(place, namespace, report, samples, feedback)
        report = dataclasses.replace(report, path=str(path))
        folder.seal(place, report.to_json())
    return report


def first_row(model: keras.Model, calibration: Any, timesteps: Timesteps, steps: int) -> list[np.ndarray]:
    """Return one row for each input: the calibration's first, or random numbers."""
    model = with_length(model, timesteps)
    made = calibration is None
    rows = made_up(model, rows=1, free_size=steps) if made else calibration_arrays(model, calibration)
    return [array[:1] for array in rows]


def write_package(
    place: Path,
    namespace: str,
    report: ExportReport,
    samples: Sequence[np.ndarray],
    feedback: Mapping[int, int],
) -> ExportReport:
    """Run `model.tflite` in `place` on one sample, find its arena, and write the C++ files beside it.

    Args:
        place: the folder.
        namespace: of the C++ files.
        report: of the export of the file.
        samples: one row for each input that is fed.
        feedback: inputs, the last ones, that are states: as for `run_file`.

    Returns:
        The report with the arena.
    """
    names = file_names(place / "model.tflite")
    file = place / "model.tflite"
    run = run_file(file, samples, "micro", feedback=feedback)
    needed, reason = smallest_arena(file, samples, feedback=feedback)
    if not run.ok or needed is None:
        raise ExportError(
            "The microcontroller runtime does not run the file, so the package was not kept.",
            expected="a file that it runs",
            received=run.message or reason,
            remedy="Please report this, with the model's configuration.",
        )
    arena = -(-int(needed * (1 + ARENA_MARGIN)) // ARENA_UNIT) * ARENA_UNIT
    found = f"{needed:,} bytes are the least that work on a 64-bit computer; {ARENA_MARGIN:.0%} are added."
    states = [run.input_tensors[index] for index in feedback]
    zeros = [np.full(tensor.shape, tensor.zero_point, tensor.dtype) for tensor in states]
    package = c_code.Package(
        name=namespace,
        model=file.read_bytes(),
        ops=sorted(report.ops),
        inputs=_named(run.input_tensors, names[0]),
        outputs=_named(run.output_tensors, names[1]),
        test_inputs=[*run.fed, *zeros],
        test_outputs=run.raw,
        arena_bytes=arena,
        arena_comment=found,
    )
    for name, text in c_code.files(package).items():
        (place / name).write_text(text)
    return dataclasses.replace(report, arena_bytes=arena, notes=(*report.notes, f"arena: {found}"))


def file_names(file: Path) -> tuple[list[str], list[str]]:
    """Return the names of a file's inputs and outputs."""
    from keras_lstm_custom.export.file.graph import Graph, signature_of

    inputs, outputs = signature_of(Graph(file.read_bytes()))
    return list(inputs), list(outputs)


def _named(tensors: Sequence[Tensor], names: Sequence[str]) -> list[Tensor]:
    return [dataclasses.replace(tensor, name=name) for tensor, name in zip(tensors, names, strict=True)]
