"""The two forms of a file that runs step by step: its states kept inside, or going in and coming out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import keras
import numpy as np

from keras_lstm_custom.errors import ExportError
from keras_lstm_custom.export.convert import NoKeptState, float_graph
from keras_lstm_custom.export.file.fused_lstm import copy_of
from keras_lstm_custom.export.file.graph import Graph, Written, set_signature, signature_of, written
from keras_lstm_custom.export.model.prepare import Prepared, prepare
from keras_lstm_custom.export.model.samples import graph_of, input_names
from keras_lstm_custom.export.model.stepping import StepModel, blocks_of
from keras_lstm_custom.export.quantization.cells import stepped_cells
from keras_lstm_custom.export.quantization.promote import Promoted
from keras_lstm_custom.export.quantization.quantize import quantize as quantized
from keras_lstm_custom.export.quantization.ranges import calibrate
from keras_lstm_custom.export.quantization.schemes import SCHEMES


class Streamed(NamedTuple):
    """A file that runs step by step."""

    file: Written
    feedback: Mapping[int, int]  #: which inputs are states, as for `run_file`


def kept(
    model: keras.Model, stepped: StepModel, steps: int, quantize: str | None, sequences: Sequence[np.ndarray]
) -> Streamed:
    """Return the file that keeps its states: in fused ops, or in variables around cells of basic ops."""
    prepared = prepare(model, steps)
    try:
        graph = float_graph(prepared, stateful=True, for_integers=quantize is not None)
    except NoKeptState:
        graph, feedback, notes = _explicit(model, stepped, steps, quantize, sequences)
        _keep(graph, feedback)
        told = "The states are kept in variables around cells of basic ops, since the fused LSTM op has not all cells."
        return Streamed(written(graph, [*notes, told]), {})
    if quantize is None:
        return Streamed(written(graph, prepared.notes), {})
    blocks = len(blocks_of(sequences, stepped.sequences, steps))
    # `calibrate` cuts every input into that many blocks, so what is no sequence is given once for each.
    cut = [a if is_cut else np.tile(a, (1, blocks)) for a, is_cut in zip(sequences, stepped.sequences, strict=True)]
    ranges = calibrate(written(graph), ([array[row : row + 1] for array in cut] for row in range(len(cut[0]))))
    in_integers, notes = quantized(graph, ranges, SCHEMES[quantize])
    return Streamed(written(in_integers, [*prepared.notes, *notes]), {})


def explicit(
    model: keras.Model, stepped: StepModel, steps: int, quantize: str | None, sequences: Sequence[np.ndarray]
) -> Streamed:
    """Return the file whose states are inputs and outputs."""
    graph, feedback, notes = _explicit(model, stepped, steps, quantize, sequences)
    return Streamed(written(graph, notes), feedback)


def _explicit(
    model: keras.Model, stepped: StepModel, steps: int, quantize: str | None, sequences: Sequence[np.ndarray]
) -> tuple[Graph, dict[int, int], Sequence[str]]:
    """Return the graph whose states are inputs and outputs, which inputs these are, and notes."""
    whole = graph_of(stepped.model)
    states = [state.name for state in stepped.states]
    graph = float_graph(
        Prepared(
            model=whole,
            input_names=[*input_names(model), *states],
            input_shapes=[tuple(tensor.shape) for tensor in whole.inputs],
            input_dtypes=[str(tensor.dtype) for tensor in whole.inputs],
            output_names=[*stepped.output_names, *states],
            notes=[],
        )
    )
    feedback = {len(stepped.input_names) + k: len(stepped.output_names) + k for k in range(len(states))}
    if quantize is None:
        return graph, feedback, ()
    _, fed = stepped.run(sequences, steps)
    samples = ([array[row : row + 1] for array in block] for block in fed for row in range(len(block[0])))
    ranges = calibrate(written(graph), samples)
    inputs, outputs = signature_of(graph)
    # What comes out goes in again as it is stored, so both are stored in one way.
    tied = [(inputs[name], outputs[name]) for name in states]
    promoted = Promoted(int16=stepped_cells(graph, tied))
    in_integers, notes = quantized(graph, ranges, SCHEMES[quantize], tied=tied, promoted=promoted)
    _check_tied(in_integers, states)
    return in_integers, feedback, notes


def _keep(graph: Graph, feedback: Mapping[int, int]) -> None:
    """Let a file keep the states that it takes and returns: each goes back into its variable when all is computed."""
    inputs, outputs = signature_of(graph)
    names = list(inputs), list(outputs)
    for place, source in feedback.items():
        variable, new = inputs.pop(names[0][place]), outputs.pop(names[1][source])
        graph.tensors[variable].isVariable = True
        graph.operators.append(copy_of(graph, new, variable))
    set_signature(graph, inputs, outputs)


def _check_tied(graph: Graph, states: Sequence[str]) -> None:
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
