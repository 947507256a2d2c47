"""From a Keras model to a package: its sizes, its graph, what writes it, and the numbers of its test."""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
import numpy as np

from keras_lstm_custom.errors import ConversionError, ExportError
from keras_lstm_custom.export.model.calibration import calibration_arrays, held_back
from keras_lstm_custom.export.model.inputs import Timesteps, check_finite, check_sizes, input_shapes, sized
from keras_lstm_custom.export.model.prepare import float32
from keras_lstm_custom.export.model.samples import input_names, made_up, output_names
from keras_lstm_custom.export.plain_c import package
from keras_lstm_custom.export.plain_c.compare import largest
from keras_lstm_custom.export.plain_c.floats.emitter import FloatEmitter
from keras_lstm_custom.export.plain_c.graph.builder import Builder
from keras_lstm_custom.export.plain_c.graph.ir import Value
from keras_lstm_custom.export.plain_c.graph.simplify import simplify
from keras_lstm_custom.export.plain_c.integers import remainders, weights
from keras_lstm_custom.export.plain_c.integers.data import check_states, load_standardised, observe
from keras_lstm_custom.export.plain_c.integers.emitter import IntegerEmitter
from keras_lstm_custom.export.plain_c.integers.fixed_point import INFINITE
from keras_lstm_custom.export.plain_c.reading.layers import ROWS
from keras_lstm_custom.export.plain_c.reading.reader import Reader
from keras_lstm_custom.export.plain_c.reading.tensors import Tensor
from keras_lstm_custom.export.plain_c.writing.emitter import Emitter
from keras_lstm_custom.models.rebuild import plain_graph, rebuild

#: The largest error that is accepted of each kind of numbers, as a share of the standard deviation of the output.
BOUNDS = {None: 1e-5, "int8": 2e-2, "int16x8": 2e-2}
COMPARED = 32  #: rows on which a package is compared with the model
TESTED = 3  #: rows of the package's own test


class Finer(NamedTuple):
    """What takes more bits than it usually does."""

    kernels: weights.Doubled | None = None  #: those of two int8 for each weight
    values: bool = False  #: whether what is normalised in a recurrence takes two int16, where values are integers


PLAIN = Finer()


class Prepared(NamedTuple):
    """A model whose sizes are known, and real input."""

    model: keras.Model  #: in float32
    rows: list[np.ndarray] | None  #: to calibrate with, if any were given
    compared: list[np.ndarray]  #: to compare on
    notes: list[str]


def prepared(model: keras.Model, timesteps: Timesteps, calibration: Any, quantize: str | None) -> Prepared:
    """Return the model as it will be written, with the rows of input that it is calibrated with and compared on."""
    if any(str(tensor.dtype) == "string" for tensor in getattr(model, "inputs", None) or []):
        raise ExportError(
            "The model takes strings, and there is no C for text.",
            expected="inputs of numbers",
            received="an input of dtype 'string'",
            remedy="Export the part behind the TextVectorization, and turn text into tokens in the application.",
        )
    check_finite(model)
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
        note = "Compared on random numbers: no calibration was given."
        return Prepared(model, None, made_up(model, COMPARED), [note])
    rows = calibration_arrays(model, given)
    if quantize is None:
        return Prepared(model, rows, [array[:COMPARED] for array in rows], [])
    kept, shown, note = held_back(rows)
    return Prepared(model, kept, shown, [note])


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


def read(model: keras.Model) -> list[Value]:
    """Return the simplified graph of a model whose sizes are known: a value for each output."""
    b = Builder()
    inputs = [Tensor(_input(index, tensor)) for index, tensor in enumerate(model.inputs)]
    results = Reader(b, ROWS).model(model, inputs)
    outputs = [b.map("same", result.value) for result in results]
    for number, output in enumerate(outputs):
        output.attributes["output"] = number
    simplify(outputs)
    return outputs


def _input(index: int, tensor: Any) -> Value:
    shape = tuple(tensor.shape[1:])
    timed = len(shape) > 1
    value = Value("input", [], shape[0] if timed else None, shape[1:] if timed else shape, index=index)
    value.layer = tensor.name
    return value


def emitter_for(
    name: str,
    model: keras.Model,
    quantize: str | None,
    rows: list[np.ndarray] | None,
    finer: Finer = PLAIN,
) -> Emitter:
    """Return what writes a model as C.

    Args:
        name: of the package.
        model: its sizes must be known.
        quantize: one of `BOUNDS`.
        rows: real input, `(rows, ...)` for each of the model's; None = there is none, which integers need.
        finer: which kernels take two int8 for each weight, and whether some values take two int16.
    """
    outputs, inputs = read(model), len(model.inputs)
    if quantize is None:
        return FloatEmitter(name, outputs, inputs)
    if quantize == "int16x8":
        load_standardised(outputs)
    largest = INFINITE if quantize == "int16x8" else float(np.finfo(np.float32).max)
    seen = None if rows is None else observe(outputs, rows, largest)
    weights.quantise(outputs, seen and seen.moments, finer.kernels)
    if quantize == "int8":
        return FloatEmitter(name, outputs, inputs, eight_bits=True)
    assert seen is not None
    check_states(outputs, seen.ranges)
    ranges = remainders.split(outputs, seen.ranges) if finer.values else seen.ranges
    return IntegerEmitter(name, outputs, inputs, rows or [], ranges)


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
        package.Port(label, values.get(index) or _input(index, tensor))  # there is none that nothing reads
        for index, (label, tensor) in enumerate(zip(input_names(model), model.inputs, strict=True))
    ]
    outputs = [package.Port(label, v) for label, v in zip(output_names(model), emitter.schedule.outputs, strict=True)]
    kinds = {None: "float", "int8": "int8 weights, float arithmetic", "int16x8": "int8 weights, int16 values"}
    pairs = zip(expected, outputs, strict=True)
    share = emitter.rounding if emitter.exact else 3 * BOUNDS[quantize]  # until it was run: `Comparison.settle`
    tolerance = [share * largest(array) * emitter.scale_of(port.value) for array, port in pairs]
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


def _plain(text: str) -> str:
    return "".join(c for c in text if c.isalnum() or c in " _-.")
