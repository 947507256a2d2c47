"""`micro`: a model as C++ files for TensorFlow Lite for Microcontrollers, with a test that a device can run."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import keras
import numpy as np

from keras_lstm_custom.errors import ExportError
from keras_lstm_custom.export import folder, micro_files
from keras_lstm_custom.export.choices import FloatIO, Integers, Kernels, State, check_choice
from keras_lstm_custom.export.litert import Exported, exported
from keras_lstm_custom.export.micro_package import Package
from keras_lstm_custom.export.model.inputs import Timesteps, check_no_text, sequences
from keras_lstm_custom.export.model.stepping import blocks_of
from keras_lstm_custom.export.reserved_names import chosen_name
from keras_lstm_custom.export.running.report import ExportReport
from keras_lstm_custom.export.running.runtimes import Tensor, is_installed, run_file, smallest_arena
from keras_lstm_custom.export.streaming import exported_stream

KERNELS = REFERENCE, CMSIS_NN = get_args(Kernels)
#: What is added to the smallest arena that was found, and what the sum is rounded up to, in bytes.
ARENA_MARGIN = 0.1
ARENA_UNIT = 64
TESTED = 2  #: rows, or sequences, of the test vector
TESTED_INVOCATIONS = 8  #: of each sequence of the test vector of a package that streams, at most


def micro(
    model: keras.Model,
    path: str | os.PathLike,
    quantize: Integers | None = "int8",
    calibration: Any = None,
    timesteps: Timesteps = None,
    *,
    state: State | None = None,
    steps: int = 1,
    name: str | None = None,
    io_dtype: FloatIO | None = None,
    bound: float | None = None,
    kernels: Kernels | None = None,
    verbose: int | str = "auto",
) -> ExportReport:
    """Write a folder with all that a microcontroller needs to run `model`, and a program that proves it there.

    | file | holds |
    |---|---|
    | `model.cc`, `model.h` | the TFLite file as a constant array, aligned to 16 bytes |
    | `model_settings.h` | the arena's size; shape, type, scale and zero point of every input and output |
    | `model_ops.h` | the op resolver with the ops of this model alone |
    | `model_states.h` | with `state="explicit"`: the states between two invocations |
    | `test_vector.cc`, `test_vector.h` | two sequences and the outputs that the runtime gave for them here |
    | `main.cc` | runs the test vector, each sequence afresh and the first twice, and compares |
    | `model.tflite` | the file itself |
    | `keras_lstm_custom.json` | the report |

    The arena's size is found by bisection, each try in a process of its own, on this computer with its 64-bit
    pointers (a 32-bit device needs less); a tenth is added, and the sum rounded up to a multiple of 64. That is for the
    library's own kernels; those of CMSIS-NN take more, by their formulas (`kernels.cmsis_nn_bytes`).

    Args:
        model: a built Sequential or functional model.
        path: the folder to write. It may be free, empty, or an earlier export in which nothing was changed or added.
        quantize: "int8", "int16x8" or None for float32.
        calibration: real input, as for `export.tflite`. Its first two rows are the test vector.
        timesteps: the length of the sequences, as for `export.tflite`.
        state: None for whole sequences; "kept" or "explicit" for a package that streams, as `export.streaming` does.
        steps: of a package that streams: time steps per invocation.
        name: the C++ namespace; None = made from the folder's name: its letters a to z and digits, after "model_" where
            C++ does not allow them alone.
        io_dtype: "float32" for inputs and outputs in float.
        bound: the largest accepted error, as for `export.tflite`.
        kernels: which kernels must run it: "reference" (the library's own), "cmsis-nn" (those for Arm's Cortex-M), or
            None: the report says which do.
        verbose: whether a progress bar is shown, as for `export.tflite`.

    Returns:
        The report: `bytes` is the flash the model takes, without the runtime's code; `arena_bytes` the RAM; `kernels`
        those that run it. Here, the reference kernels ran it; what CMSIS-NN runs is known by rules (`running.kernels`).

    Raises:
        ArgumentError: `name` is no name that C++ allows, or an option is unknown.
        ExportError: tflite-micro is not installed, the path is taken, the export fails, or the kernels asked for do not
            run the model; nothing is left behind.

    Example:
        >>> written = export.micro(model, "gesture/", "int8", calibration=x_train[:200])  # doctest: +SKIP
    """
    namespace = chosen_name(name, path)
    check_choice("kernels", kernels, (None, *KERNELS))
    folder.check_folder(path)
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
        if state is None:
            options: dict[str, Any] = {"io_dtype": io_dtype, "bound": bound, "verbose": verbose}
            made = exported(model, file, quantize, calibration, timesteps, "micro", **options)
            tested, invocations = [array[:TESTED] for array in made.rows], 0
        else:
            made = exported_stream(model, file, state, quantize, calibration, steps, runtime="micro", bound=bound)
            rows = [array[:TESTED] for array in made.rows]
            blocks = blocks_of(rows, sequences(model), steps)[:TESTED_INVOCATIONS]
            tested = [np.stack(column, 1).reshape(-1, *column[0].shape[1:]) for column in zip(*blocks, strict=True)]
            invocations = len(blocks)
        report = write_package(place, namespace, made, tested, invocations, kernels)
        report = dataclasses.replace(report, path=str(path))
        folder.seal(place, report.to_json())
    return report


def write_package(
    place: Path,
    namespace: str,
    made: Exported,
    tested: Sequence[np.ndarray],
    invocations: int,
    kernels: str | None,
) -> ExportReport:
    """Run `model.tflite` in `place` on some input, find its arena, and write the C++ files beside it.

    Args:
        place: the folder.
        namespace: of the C++ files.
        made: the file.
        tested: for each input that is fed, what each invocation of the test reads, one row after the other.
        invocations: how many make up a sequence of a file that streams; 0: it starts afresh at each.
        kernels: which must run it, as for `micro`.

    Returns:
        The report with the arena and the kernels.
    """
    from keras_lstm_custom.export.file.graph import signature_of
    from keras_lstm_custom.export.running.kernels import broken_rules, cmsis_nn_bytes  # both need the TFLite schema

    file, report, feedback = place / "model.tflite", made.report, made.feedback
    reasons = [f"it {rule.says} ({name}); {rule.remedy}" for rule, name in broken_rules(made.graph)]
    if reasons and kernels == CMSIS_NN:
        raise ExportError(
            "The kernels of CMSIS-NN do not run the model, so the package was not kept.",
            expected="a model that both sets of kernels compute alike, with kernels='cmsis-nn'",
            received="; ".join(reasons),
            remedy="Do as is said there, or pass kernels='reference' where the library is built without CMSIS-NN.",
        )
    run = run_file(file, tested, "micro", reset_every=invocations, feedback=feedback)
    needed, reason = smallest_arena(file, tested, feedback=feedback)
    if not run.ok or needed is None:
        raise ExportError(
            "The microcontroller runtime does not run the file, so the package was not kept.",
            expected="a file that it runs",
            received=run.message or reason,
            remedy="Please report this, with the model's configuration.",
        )
    arena = _in_units(int(needed * (1 + ARENA_MARGIN)))
    found = f"{needed:,} bytes are the least that work on a 64-bit computer; {ARENA_MARGIN:.0%} are added."
    inputs, outputs = signature_of(made.graph)
    package = Package(
        name=namespace,
        model=file.read_bytes(),
        ops=sorted(report.ops),
        inputs=_named(run.input_tensors, list(inputs)),
        outputs=_named(run.output_tensors, list(outputs)),
        test_inputs=run.fed,
        test_outputs=run.raw,
        invocations=invocations or 1,
        states=feedback,
        reset=bool(invocations) and not feedback,
        arena_bytes=arena,
        arena_comment=found,
        cmsis_nn_bytes=_in_units(cmsis_nn_bytes(made.graph)),
        not_on_cmsis_nn=reasons[0] if reasons else "",
    )
    for name, text in micro_files.files(package).items():
        (place / name).write_text(text)
    notes = [f"arena: {found}", *(f"CMSIS-NN does not run it: {reason}." for reason in reasons)]
    return dataclasses.replace(
        report,
        arena_bytes=arena,
        kernels=KERNELS if not reasons else (REFERENCE,),
        notes=(*report.notes, *notes),
    )


def _in_units(size: int) -> int:
    return -(-size // ARENA_UNIT) * ARENA_UNIT


def _named(tensors: Sequence[Tensor], names: Sequence[str]) -> list[Tensor]:
    return [dataclasses.replace(tensor, name=name) for tensor, name in zip(tensors, names, strict=True)]
