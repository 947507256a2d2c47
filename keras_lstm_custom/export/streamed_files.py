"""The two forms of a file that runs step by step: its states kept inside, or going in and coming out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_lstm_custom.errors import ExportError
from keras_lstm_custom.export.convert import NoKeptState, float_file
from keras_lstm_custom.export.file.fused_lstm import copy_of
from keras_lstm_custom.export.file.graph import Graph, set_signature, signature_of
from keras_lstm_custom.export.model.prepare import Prepared, prepare
from keras_lstm_custom.export.model.samples import graph_of, input_names
from keras_lstm_custom.export.model.stepping import StepModel, blocks_of
from keras_lstm_custom.export.quantization.promote import Promoted, cells
from keras_lstm_custom.export.quantization.quantize import quantize as quantized
from keras_lstm_custom.export.quantization.ranges import calibrate
from keras_lstm_custom.export.quantization.schemes import SCHEMES

#: What `kept` and `explicit` return: the file, which inputs are states (as for `run_file`), what should be said.
Made = tuple[bytes, dict[int, int], Sequence[str]]


def kept(
    model: keras.Model, stepped: StepModel, steps: int, quantize: str | None, sequences: Sequence[np.ndarray]
) -> Made:
    """Return the file that keeps its states: in fused ops, or in variables around cells of basic ops."""
    prepared = prepare(model, steps)
    try:
        content = float_file(prepared, stateful=True, for_integers=quantize is not None)
    except NoKeptState:
        content, feedback, notes = explicit(model, stepped, steps, quantize, sequences)
        told = "The states are kept in variables around cells of basic ops, since the fused LSTM op has not all cells."
        return _tied(content, feedback), {}, [*notes, told]
    if quantize is None:
        return content, {}, prepared.notes
    blocks = len(blocks_of(sequences, stepped.sequences, steps))
    # `calibrate` cuts every input into that many blocks, so what is no sequence is given once for each.
    cut = [a if is_cut else np.tile(a, (1, blocks)) for a, is_cut in zip(sequences, stepped.sequences, strict=True)]
    ranges = calibrate(content, ([array[row : row + 1] for array in cut] for row in range(len(cut[0]))))
    content, notes = quantized(content, ranges, SCHEMES[quantize])
    return content, {}, [*prepared.notes, *notes]


def explicit(
    model: keras.Model, stepped: StepModel, steps: int, quantize: str | None, sequences: Sequence[np.ndarray]
) -> Made:
    """Return the file whose states are inputs and outputs."""
    graph = graph_of(stepped.model)
    states = [state.name for state in stepped.states]
    content = float_file(
        Prepared(
            model=graph,
            input_names=[*input_names(model), *states],
            input_shapes=[tuple(tensor.shape) for tensor in graph.inputs],
            input_dtypes=[str(tensor.dtype) for tensor in graph.inputs],
            output_names=[*stepped.output_names, *states],
            notes=[],
        )
    )
    feedback = {len(stepped.input_names) + k: len(stepped.output_names) + k for k in range(len(states))}
    if quantize is None:
        return content, feedback, ()
    _, fed = stepped.run(sequences, steps)
    samples = ([array[row : row + 1] for array in block] for block in fed for row in range(len(block[0])))
    inputs, outputs = signature_of(Graph(content))
    # What comes out goes in again as it is stored, so both are stored alike.
    alike = [(inputs[name], outputs[name]) for name in states]
    finer = Promoted(int16=cells(Graph(content), alike))
    ranges = calibrate(content, samples)
    content, notes = quantized(content, ranges, SCHEMES[quantize], alike=alike, promoted=finer)
    _check_alike(Graph(content), states)
    return content, feedback, notes


def _tied(content: bytes, feedback: dict[int, int]) -> bytes:
    """Let a file keep the states that it takes and returns: each goes back into its variable when all is computed."""
    graph = Graph(content)
    inputs, outputs = signature_of(graph)
    names = list(inputs), list(outputs)
    for place, source in feedback.items():
        variable, new = inputs.pop(names[0][place]), outputs.pop(names[1][source])
        graph.tensors[variable].isVariable = True
        graph.operators.append(copy_of(graph, new, variable))
    set_signature(graph, inputs, outputs)
    return graph.pack()


def _check_alike(graph: Any, states: Sequence[str]) -> None:
    """Raise `ExportError` unless each state goes in as it comes out."""
    inputs, outputs = signature_of(graph)
    for name in states:
        records = [graph.tensors[index].quantization for index in (inputs[name], outputs[name])]
        stored = [(np.float32(record.scale[0]), int(record.zeroPoint[0])) for record in records]
        if stored[0] != stored[1]:
            raise ExportError(
                f"The state {name!r} would go in with another scale than it comes out with.",
                expected="a cell whose state the quantiser can store in one way",
                received=f"(scale, zero point) of {stored[0]} and {stored[1]}",
                remedy="Use state='kept', or quantize=None.",
            )
