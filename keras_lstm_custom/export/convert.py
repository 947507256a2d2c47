"""From a prepared Keras model to a TFLite file that was not run yet: one graph, packed where a runtime needs bytes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from keras_lstm_custom.errors import ExportError
from keras_lstm_custom.export.converter import converted
from keras_lstm_custom.export.file.flatbuffer import NUMPY_TYPES
from keras_lstm_custom.export.file.fused_lstm import fused
from keras_lstm_custom.export.file.graph import Graph, Written, set_signature, signature_of, written
from keras_lstm_custom.export.file.loop import looped
from keras_lstm_custom.export.file.loop import told as loops_told
from keras_lstm_custom.export.file.origin import described
from keras_lstm_custom.export.file.portable import portable
from keras_lstm_custom.export.model.as_lstm import FusedLSTM
from keras_lstm_custom.export.model.prepare import Prepared
from keras_lstm_custom.export.model.recurrence import MARK, Loop, tracing
from keras_lstm_custom.export.quantization import weights_only
from keras_lstm_custom.export.quantization.cells import unrolled_cells
from keras_lstm_custom.export.quantization.equalise import equalise
from keras_lstm_custom.export.quantization.promote import Promoted, promote
from keras_lstm_custom.export.quantization.quantize import quantize as quantized
from keras_lstm_custom.export.quantization.ranges import calibrate
from keras_lstm_custom.export.quantization.schemes import SCHEMES


class NoKeptState(ExportError):
    """A layer becomes a loop, which keeps no state between invocations."""

    def __init__(self, name: str):
        super().__init__(
            f"The layer {name!r} becomes a loop, which keeps no state between invocations.",
            expected="layers that the fused LSTM op computes, with stateful=True",
            received=f"{name!r}, which it does not",
            remedy="Use export.streaming, whose files keep the state of any cell, or stateful=False.",
        )


def convert(
    prepared: Prepared,
    quantize: str | None = None,
    samples: Sequence[np.ndarray] = (),
    *,
    stateful: bool = False,
    float_io: bool = False,
    verbose: int | str = 0,
) -> Written:
    """Return a TFLite file that was not run yet, with notes for the user.

    Args:
        prepared: what `prepare` returned.
        quantize: None, "float16", "dynamic", "int8" or "int16x8".
        samples: for the last two: an array `(rows, ...)` of real input for each input of the model.
        stateful: whether the file keeps its states between invocations.
        float_io: whether inputs and outputs of a file that computes in integers are float32.
        verbose: whether the search for what needs more bits shows a progress bar, as for `promote`.

    Raises:
        ExportError: the model cannot be expressed, or its values exceed what the integers hold.
    """
    graph = float_graph(prepared, stateful=stateful, for_integers=quantize in SCHEMES)
    told = [*prepared.notes, *loops_told(graph)]
    if quantize in SCHEMES:
        rows = [[array[row : row + 1] for array in samples] for row in range(len(samples[0]))]
        made = _in_integers(graph, quantize, rows, stateful=stateful, float_io=float_io, verbose=verbose)
        return made._replace(notes=[*told, *made.notes])
    if quantize:
        {"float16": weights_only.float16, "dynamic": weights_only.dynamic}[quantize](graph)
    return written(graph, told)


def _in_integers(
    graph: Graph,
    quantize: str,
    rows: Sequence[Sequence[np.ndarray]],
    *,
    stateful: bool,
    float_io: bool,
    verbose: int | str,
) -> Written:
    """Return the file in integers; `graph`, the float file, is equalised where that helps."""
    file = written(graph)
    ranges = calibrate(file, rows)
    if quantize == "int8" and equalise(graph, ranges):
        file = written(graph)
        ranges = calibrate(file, rows)
    finer = unrolled_cells(graph)

    def make(promoted: Promoted) -> Written:
        promoted = promoted._replace(int16=promoted.int16 | finer)
        return written(*quantized(graph, ranges, SCHEMES[quantize], float_io=float_io, promoted=promoted))

    # With kept states one row depends on the one before, and nothing is measured.
    return make(Promoted()) if stateful else promote(file, rows, quantize, make, finer, verbose)


def float_graph(prepared: Prepared, *, stateful: bool = False, for_integers: bool = False) -> Graph:
    """Return the float32 TFLite file of a prepared model, as a graph.

    Inputs and outputs stand in the order of the model's and carry their names.

    Args:
        prepared: what `prepare` returned.
        stateful: whether the file keeps the states of its fused LSTMs between invocations.
        for_integers: whether the file will be quantised, for which a vanilla RNN is written with a larger gain.

    Raises:
        ExportError: the model has what neither TFLite nor this package can express.
    """
    inputs = [f"input_{number:04}" for number in range(len(prepared.input_names))]
    outputs = [f"output_{number:04}" for number in range(len(prepared.output_names))]
    with tracing(for_integers) as marks:
        call = _whole(prepared.model, outputs)
        graph = Graph(converted(call, prepared.input_shapes, prepared.input_dtypes, inputs, prepared.model.name))
    found = _by_name(graph)
    set_signature(
        graph,
        {name: found[key] for name, key in zip(prepared.input_names, inputs, strict=True)},
        {name: found[key] for name, key in zip(prepared.output_names, outputs, strict=True)},
    )
    _put_in_place(graph, marks, prepared.model, stateful)
    _check_ops(graph, prepared.model)
    portable(graph)
    return graph


def _by_name(graph: Graph) -> dict[str, int]:
    """Return the inputs and outputs of a file by the names that it was traced with; the converter orders them anew."""
    inputs, outputs = signature_of(graph)
    return inputs | outputs


def _put_in_place(graph: Graph, marks: Sequence[FusedLSTM | Loop], model: keras.Model, stateful: bool) -> None:
    """Put the fused op, or a loop, in place of every mark in `graph`."""
    resets: list[Any] = []
    operators: list[Any] = []
    for operator in graph.operators:
        name = graph.custom_name(operator)
        if not name.startswith(MARK):
            operators.append(operator)
            continue
        what = marks[int(name.removeprefix(MARK))]
        if isinstance(what, Loop):
            if stateful:
                raise NoKeptState(what.name)
            operators += looped(graph, operator, what, _step(graph, operator, what, model))
        else:
            operators += fused(graph, operator, what, stateful=stateful, resets=resets)
    graph.operators[:] = resets + operators


def _step(graph: Graph, mark: Any, loop: Loop, model: keras.Model) -> Graph:
    """Return the file of one step of a loop."""
    shapes = [graph.shape(int(index)) for index in mark.inputs]
    shapes = [(1, shape[2]) if k < loop.sequences else shape for k, shape in enumerate(shapes)]
    inputs = [f"input_{number:04}" for number in range(len(shapes))]
    outputs = [f"output_{number:04}" for number in range(len(mark.outputs))]
    values = [(variable, np.asarray(variable)) for variable in model.variables]

    def call(*tensors):
        with keras.StatelessScope(state_mapping=values):
            results = loop.step(*tensors)
        return dict(zip(outputs, results, strict=True))

    dtypes = [NUMPY_TYPES[graph.tensors[int(index)].type] for index in mark.inputs]
    step = Graph(converted(call, shapes, dtypes, inputs, loop.name))
    _check_ops(step, model)
    found = _by_name(step)
    step.inputs, step.outputs = [found[name] for name in inputs], [found[name] for name in outputs]
    portable(step)
    return step


def _whole(model: keras.Model, outputs: list[str]) -> Callable[..., dict[str, Any]]:
    """Return the model, with its weights as constants, as `converted` takes it."""
    import tensorflow as tf

    weights = [[np.asarray(v) for v in group] for group in (model.trainable_variables, model.non_trainable_variables)]

    def call(*tensors):
        x = tensors[0] if len(tensors) == 1 else keras.tree.pack_sequence_as(model.input, list(tensors))
        results, _ = model.stateless_call(*weights, x, training=False)
        return dict(zip(outputs, map(tf.identity, keras.tree.flatten(results)), strict=True))

    return call


def _check_ops(graph: Graph, model: keras.Model) -> None:
    custom: dict[str, list[Any]] = {}
    for operator in graph.operators:
        if name := graph.custom_name(operator):
            custom.setdefault(name, []).append(operator)
    if custom:
        raise ExportError(
            "The model has operations that TFLite does not have.",
            expected="layers that TFLite's builtin ops can express",
            received="; ".join(f"{name} of {described(graph, found, model)}" for name, found in sorted(custom.items())),
            remedy="Put another layer in place of that one, or compute it outside of the exported model.",
        )
