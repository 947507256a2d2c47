"""`c`: a model as plain C99 without a runtime, compiled and compared before it is handed over."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_lstm_custom.errors import ArgumentError, ConversionError, ExportError, InputError
from keras_lstm_custom.export import folder as folders
from keras_lstm_custom.export.model.calibration import calibration_arrays, held_back
from keras_lstm_custom.export.model.inputs import Timesteps, check_sizes, input_shapes, sized
from keras_lstm_custom.export.model.prepare import float32
from keras_lstm_custom.export.model.samples import input_names, made_up, output_names, predictions
from keras_lstm_custom.export.plain_c import host, package
from keras_lstm_custom.export.plain_c.emit import Emitter
from keras_lstm_custom.export.plain_c.emit_float import FloatEmitter
from keras_lstm_custom.export.plain_c.emit_integer import IntegerEmitter
from keras_lstm_custom.export.plain_c.ir import Builder, Value
from keras_lstm_custom.export.plain_c.layers import ROWS
from keras_lstm_custom.export.plain_c.operations import Unsupported
from keras_lstm_custom.export.plain_c.reading import Reader, Tensor
from keras_lstm_custom.export.plain_c.simplify import simplify
from keras_lstm_custom.export.reserved_names import chosen_name
from keras_lstm_custom.export.running.report import ExportReport, RuntimeCheck
from keras_lstm_custom.export.running.verify import output_error
from keras_lstm_custom.models.rebuild import plain_graph, rebuild
from keras_lstm_custom.writing import scratch

QUANTIZE = (None, "int8", "int16x8")
#: The largest error that is accepted, as a share of the standard deviation of the model's output.
BOUNDS = {None: 1e-5, "int8": 5e-2, "int16x8": 5e-2}
COMPARED = 32  #: rows on which a package is compared with the model
TESTED = 3  #: rows of the package's own test
#: How far the test of a float package may be from the model, as a share of the largest output: other compilers and
#: libraries of mathematics round in another way.
TOLERANCE = 1e-4
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
    a compiler the report says so, and is not `ok`.

    Args:
        model: a built Sequential or functional model.
        folder: the folder to write. It may be free, empty, or an earlier export in which nothing was changed or added.
        quantize: None for float; "int8" for int8 weights and float arithmetic; "int16x8" for int8 weights, int16 values
            and integers alone, with `NAME_run_q` and `NAME_step_q` on them beside those on floats.
        calibration: real input, as for `export.tflite`; needed for "int16x8". Its first rows are the package's test.
        timesteps: the length of the sequences, as for `export.tflite`.
        name: of the struct, the functions and the files; None = made from the folder's name.
        bound: the largest accepted error, as a share of the standard deviation of the model's output; None = 1e-5 in
            float, 0.05 else.

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
    if quantize not in QUANTIZE:
        raise ArgumentError(
            "`quantize` is unknown.",
            expected=", ".join(map(repr, QUANTIZE)),
            received=repr(quantize),
            remedy="Use one of these.",
        )
    folders.check_folder(folder)
    if hasattr(calibration, "__next__"):
        calibration = list(calibration)  # it is read twice
    if quantize == "int16x8" and calibration is None:
        raise InputError(
            f"The integers of {quantize} need to know the range of real input.",
            expected="calibration=x_train[:200]: some hundred rows of what the model will see",
            received="no calibration",
            remedy="Pass rows of the training data.",
        )
    model, rows, compared, notes = _prepared(model, timesteps, calibration, quantize)
    outputs = read(model)
    emitter = _emitter(chosen, outputs, len(model.inputs), quantize, rows)
    expected = predictions(model, compared)
    made = packed(chosen, model, emitter, compared, expected, quantize)
    with folders.new_folder(folder) as place:
        checks, more = _written(made, place, compared, expected, BOUNDS[quantize] if bound is None else bound)
        report = _report(made, folder, quantize, checks, [*notes, *more], bound)
        folders.seal(place, report.to_json())
    return report


def read(model: keras.Model) -> list[Value]:
    """Return the simplified graph of a model whose sizes are known: a value for each output."""
    b = Builder()
    inputs = []
    for index, tensor in enumerate(model.inputs):
        shape = tuple(tensor.shape[1:])
        timed = len(shape) > 1
        value = b.new("input", [], shape[0] if timed else None, shape[1:] if timed else shape, index=index)
        inputs.append(Tensor(value))
    results = Reader(b, ROWS).model(model, inputs)
    outputs = [b.map("same", result.value) for result in results]
    for number, output in enumerate(outputs):
        output.attributes["output"] = number
    simplify(outputs)
    return outputs


def _prepared(
    model: keras.Model, timesteps: Timesteps, calibration: Any, quantize: str | None
) -> tuple[keras.Model, list[np.ndarray], list[np.ndarray], list[str]]:
    """Return the model in float32 with known sizes, rows to calibrate with, rows to compare on, and notes."""
    if any(str(tensor.dtype) == "string" for tensor in getattr(model, "inputs", None) or []):
        raise ExportError(
            "The model takes strings, and there is no C for text.",
            expected="inputs of numbers",
            received="an input of dtype 'string'",
            remedy="Export the part behind the TextVectorization, and turn text into tokens in the application.",
        )
    try:
        graph = rebuild(plain_graph(model), lambda entry: entry)
        given = () if calibration is None else calibration_arrays(graph, calibration)
        shapes = input_shapes(graph, timesteps, () if timesteps is not None else given)
        check_sizes(graph, [(None, *shape[1:]) for shape in shapes])
        resize = sized(graph, [(None, *shape[1:]) for shape in shapes])
        model = rebuild(graph, lambda entry: _stateless(float32(resize(entry))))
    except ConversionError as error:
        raise ExportError(str(error)) from error
    if not model.layers or all(isinstance(layer, keras.layers.InputLayer) for layer in model.layers):
        raise ExportError(
            "The model has nothing to run.",
            expected="layers between inputs and outputs",
            received="inputs alone",
            remedy="Export a model that computes something.",
        )
    if calibration is None:
        rows = made_up(model, COMPARED)
        return model, rows, rows, ["Compared on random numbers: no calibration was given."]
    rows = calibration_arrays(model, given)
    if quantize is None:
        return model, rows, [array[:COMPARED] for array in rows], []
    kept, shown, note = held_back(rows)
    return model, kept, shown, [note]


def _stateless(entry: dict) -> dict:
    """Let layers begin anew with each sequence, and batches have any size."""
    config = entry["config"]
    if not isinstance(config, dict):
        return entry
    if config.get("stateful"):
        config = {**config, "stateful": False}
    if entry["class_name"] == "InputLayer":
        config = {**config, "batch_shape": [None, *config["batch_shape"][1:]]}
    return {**entry, "config": config}


def _emitter(name: str, outputs: list[Value], inputs: int, quantize: str | None, rows: list[np.ndarray]) -> Emitter:
    if quantize != "int16x8":
        return FloatEmitter(name, outputs, inputs, eight_bits=quantize == "int8")
    return IntegerEmitter(name, outputs, inputs, rows)


def packed(
    name: str,
    model: keras.Model,
    emitter: Emitter,
    rows: list[np.ndarray],
    expected: list[np.ndarray],
    quantize: str | None,
) -> package.Package:
    """Return a package whose test has the first rows, and expects of them what the model gives."""
    values = {value.index: value for value in emitter.schedule.values if value.kind == "input"}
    inputs = [
        package.Port(label, values.get(index) or _unread(index, tensor))
        for index, (label, tensor) in enumerate(zip(input_names(model), model.inputs, strict=True))
    ]
    outputs = [package.Port(label, v) for label, v in zip(output_names(model), emitter.schedule.outputs, strict=True)]
    kinds = {None: "float", "int8": "int8 weights, float arithmetic", "int16x8": "int8 weights, int16 values"}
    pairs = zip(expected, outputs, strict=True)
    tolerance = [_tolerance(array, quantize) * emitter.scale_of(port.value) for array, port in pairs]
    return package.Package(
        name=name,
        emitter=emitter,
        inputs=inputs,
        outputs=outputs,
        about=[f"{_plain(model.name)} as plain C99 ({kinds[quantize]}), by keras_lstm_custom."],
        rows=[emitter.held(array[:TESTED], port.value) for array, port in zip(rows, inputs, strict=True)],
        expected=[emitter.held(array[:TESTED], port.value) for array, port in zip(expected, outputs, strict=True)],
        tolerance=tolerance,
    )


def _tolerance(expected: np.ndarray, quantize: str | None) -> float:
    share = TOLERANCE if quantize is None else 3 * BOUNDS[quantize]
    return float(share * max(np.abs(expected).max(), 1e-3))


def _unread(index: int, tensor: Any) -> Value:
    """Return what stands for an input that nothing reads."""
    shape = tuple(tensor.shape[1:])
    timed = len(shape) > 1
    return Value("input", [], shape[0] if timed else None, shape[1:] if timed else shape, index=index)


def _flat(array: np.ndarray) -> np.ndarray:
    return np.asarray(array, np.float32).reshape(len(array), -1)


def _plain(text: str) -> str:
    return "".join(c for c in text if c.isalnum() or c in " _-.")


def _written(
    made: package.Package, place: Path, rows: list[np.ndarray], expected: list[np.ndarray], bound: float
) -> tuple[list[RuntimeCheck], list[str]]:
    """Write the files; compile, run and compare them where there is a compiler."""
    try:
        texts = package.files(made)
    except Unsupported as reason:
        raise ExportError(
            "The model cannot be computed in integers.",
            expected="layers and activations that the documentation lists for int16x8",
            received=str(reason),
            remedy="Use quantize='int8', whose arithmetic is float, or None.",
        ) from reason
    if host.compiler() is None:
        _write(place, texts)
        return [], ["Not compiled and not run: there is no C compiler here (cc, or the variable CC)."]
    with scratch(ExportError) as work:
        _write(work, texts)
        got = host.run(made, work, [_flat(array) for array in rows])
        errors = tuple(
            output_error(port.name, wanted, found.reshape(wanted.shape))
            for port, wanted, found in zip(made.outputs, expected, got, strict=True)
        )
        beyond = [error for error in errors if not error.relative_to_signal <= bound]
        if beyond:
            raise ExportError(
                "The C does not give the model's numbers, so it was not kept.",
                expected=f"an error of at most {bound:.3g} of the output's standard deviation",
                received="; ".join(f"{error.name}: {error.relative_to_signal:.3g}" for error in beyond),
                remedy="Use quantize=None or calibrate on more rows of real input; `bound` accepts a larger error.",
            )
        made.emitter.settle(made, work)
        texts = package.files(made)
        if not host.passes(made, work, texts):
            raise ExportError(
                "The package's own test fails on this computer, so it was not kept.",
                expected="that it ends with 0",
                received="another end",
                remedy="Please report this, with the model's configuration.",
            )
        _write(place, texts)
    return [RuntimeCheck(HOST, True, errors)], []


def _write(place: Path, texts: dict[str, str]) -> None:
    for name, text in texts.items():
        (place / name).write_text(text)


def _report(
    made: package.Package,
    path: str | os.PathLike,
    quantize: str | None,
    checks: list[RuntimeCheck],
    notes: list[str],
    bound: float | None,
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
        bound=BOUNDS[quantize] if bound is None else bound,
        arena_bytes=emitter.struct_bytes,
        notes=(*notes, *emitter.notes),
    )
