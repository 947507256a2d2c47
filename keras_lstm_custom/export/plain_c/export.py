"""`c`: a model as plain C99 without a runtime, compiled and compared before it is handed over."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras

from keras_lstm_custom.errors import ExportError
from keras_lstm_custom.export import folder as folders
from keras_lstm_custom.export.choices import check_choice, checked_bound
from keras_lstm_custom.export.model.calibration import no_calibration
from keras_lstm_custom.export.model.inputs import Timesteps
from keras_lstm_custom.export.model.samples import predictions
from keras_lstm_custom.export.plain_c import host
from keras_lstm_custom.export.plain_c.build import BOUNDS, PLAIN, Finer, emitter_for, packed, prepared
from keras_lstm_custom.export.plain_c.compare import Comparison
from keras_lstm_custom.export.plain_c.finer import improved
from keras_lstm_custom.export.plain_c.package import Package
from keras_lstm_custom.export.plain_c.reading.frame import Unsupported
from keras_lstm_custom.export.plain_c.writing.files import files, write
from keras_lstm_custom.export.reserved_names import chosen_name
from keras_lstm_custom.export.running.report import ExportReport, RuntimeCheck
from keras_lstm_custom.writing import scratch

HOST = "host C"


def c(
    model: keras.Model,
    folder: str | os.PathLike,
    quantize: str | None = None,
    calibration: Any = None,
    timesteps: Timesteps = None,
    name: str | None = None,
    *,
    bound: float | None = None,
    verbose: int | str = "auto",
) -> ExportReport:
    """Write `model` as plain C99: no runtime, no heap, no global state.

    | file | holds |
    |---|---|
    | `NAME.h` | `struct NAME`, all the memory that is needed, and the functions |
    | `NAME.c` | `NAME_run` for whole sequences; `NAME_reset` and `NAME_step` where the model can run step by step |
    | `NAME_test.c` | sequences of real input, whole and step by step; its `main` returns 0 if all is right |
    | `Makefile`, `CMakeLists.txt` | how to build the test |
    | `keras_lstm_custom.json` | the report |

    Every layer is read through the operations that it is made of: a cell of one's own needs nothing but `keras.ops`.
    The C is compiled by this computer's compiler (the variable CC, or `cc`), run, and compared with the model; without
    a compiler the report says so, and is not `ok`. Where int8 weights err by more than 0.9 of `bound` on real input,
    recurrent kernels, or all, take two int8 for each weight, and values that recurrences normalise two int16; the notes
    say which.

    Args:
        model: a built Sequential or functional model.
        folder: the folder to write. It may be free, empty, or an earlier export in which nothing was changed or added.
        quantize: None for float; "int8" for int8 weights and float arithmetic; "int16x8" for int8 weights, int16 values
            and integers alone, with `NAME_run_q` and `NAME_step_q` on them beside those on floats.
        calibration: real input, as for `export.tflite`; needed for "int16x8". Its first rows are the package's test.
        timesteps: the length of the sequences, as for `export.tflite`.
        name: of the struct, the functions and the files; None = made from the folder's name.
        bound: the largest accepted error, as a share of the standard deviation of the model's output; None = 1e-5 in
            float, or what float32 can show of an output that hardly moves; 0.02 else.
        verbose: 1 shows a progress bar while kernels of two int8 are tried, 0 does not; "auto" = if it takes long.

    Returns:
        The report: `bytes` is the size of all constants, `arena_bytes` that of the struct.

    Raises:
        ArgumentError: `name` is no name that C and C++ allow, or an option is unknown.
        ExportError: a layer has no C, the path is taken, or the C does not give the model's numbers; nothing is left.
        InputError: the calibration is missing, does not fit the model, or holds NaN or infinity.

    Example:
        >>> report = export.c(model, "gesture/", "int16x8", calibration=x_train[:200])  # doctest: +SKIP
    """
    chosen = chosen_name(name, folder)
    check_choice("quantize", quantize, BOUNDS)
    bound = checked_bound(bound)
    folders.check_folder(folder)
    if hasattr(calibration, "__next__"):
        calibration = list(calibration)  # it is read twice
    if quantize == "int16x8" and calibration is None:
        raise no_calibration(quantize)
    given = prepared(model, timesteps, calibration, quantize)
    expected = predictions(given.model, given.compared)

    def make(finer: Finer = PLAIN) -> Package:
        emitter = emitter_for(chosen, given.model, quantize, given.rows, finer)
        return packed(chosen, given.model, emitter, given.compared, expected, quantize)

    made, limit = make(), BOUNDS[quantize] if bound is None else bound
    measured = quantize is not None and given.rows is not None
    floats = quantize is None and bound is None
    checks: list[RuntimeCheck] = []
    texts = _texts(made)
    with folders.new_folder(folder) as place:
        if host.compiler() is None:
            write(place, texts)
            more = ["Not compiled and not run: there is no C compiler here (cc, or the variable CC)."]
        else:
            with scratch(ExportError) as work:
                comparison = Comparison(given.compared, expected, limit, work, floats)
                made, checks, more = _written(made, make if measured else None, place, comparison, verbose)
        report = _report(made, folder, quantize, checks, [*given.notes, *more], limit)
        folders.seal(place, report.to_json())
    return report


def _texts(made: Package) -> dict[str, str]:
    """Return the text of each file.

    Raises:
        ExportError: there is something in the model that integers cannot compute.
    """
    try:
        return files(made)
    except Unsupported as reason:
        raise ExportError(
            "The model cannot be computed in integers.",
            expected="layers and activations that the documentation lists for int16x8",
            received=str(reason),
            remedy="Use quantize='int8', whose arithmetic is float, or None.",
        ) from reason


def _written(
    made: Package, make: Callable[[Finer], Package] | None, place: Path, comparison: Comparison, verbose: int | str
) -> tuple[Package, list[RuntimeCheck], list[str]]:
    """Compile, run and compare a package, `make` a better one if need be, and write it."""
    errors = comparison.errors(made)
    notes: list[str] = []
    if make is not None:
        made, errors, notes = improved(made, errors, make, comparison, verbose)
    beyond = comparison.beyond(errors)
    if beyond:
        told = [f"{error.name}: {error.relative_to_signal:.3g}" for error in beyond]
        raise ExportError(
            "The C does not give the model's numbers, so it was not kept.",
            expected=f"an error of at most {comparison.bound:.3g} of the output's standard deviation",
            received="; ".join([*told, *made.emitter.coarse(), *notes]),
            remedy="Use quantize=None or calibrate on more rows of real input; `bound` accepts a larger error.",
        )
    notes += comparison.hardly_moving(errors)
    comparison.settle(made)
    texts = files(made)
    if not host.passes(made, comparison.folder, texts):
        raise ExportError(
            "The package's own test fails on this computer, so it was not kept.",
            expected="that it ends with 0",
            received="another end",
            remedy="Please report this, with the model's configuration.",
        )
    write(place, texts)
    return made, [RuntimeCheck(HOST, True, errors)], notes


def _report(
    made: Package,
    path: str | os.PathLike,
    quantize: str | None,
    checks: list[RuntimeCheck],
    notes: list[str],
    bound: float,
) -> ExportReport:
    emitter, why_not = made.emitter, made.why_not_stepwise
    kinds = Counter(value.kind for value in emitter.schedule.values if value.kind in emitter.KINDS)
    notes.append(f"Not step by step: {why_not}." if why_not else f"Step by step by {made.name}_reset and _step.")
    return ExportReport(
        path=str(path),
        quantize=quantize,
        bytes=emitter.constant_bytes,
        ops=dict(kinds.most_common()),
        runtimes=(HOST,),
        checks=tuple(checks),
        bound=bound,
        arena_bytes=emitter.struct_bytes,
        notes=(*notes, *emitter.notes),
    )
