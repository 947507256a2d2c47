"""What values each tensor of a float file takes on real input, and what is inside its LSTMs and loops."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from keras_lstm_custom.export.file import fused_lstm, loop
from keras_lstm_custom.export.file.graph import Written
from keras_lstm_custom.export.quantization.readers import CellReader, LoopReader, interpreter_of
from keras_lstm_custom.export.quantization.seen import Ranges, Seen


def calibrate(file: Written, samples: Iterable[Sequence[np.ndarray]]) -> Ranges:
    """Run a float file on real input and find the range of each float tensor.

    The state starts afresh for each sample. The runtime shows the cell state after the last step
    only, so the steps in between are computed here, from the inputs and outputs of the LSTM; and the body of a loop
    is run here step by step.

    Args:
        file: the float file.
        samples: for each sample one array for each input of the file, of the input's shape. For a
            file that keeps its state an array may hold several blocks of timesteps, which follow
            one another: `(1, k * timesteps, features)`.
    """
    graph = file.graph
    interpreter = interpreter_of(file.content)
    inputs = interpreter.get_input_details()
    cells = [CellReader(graph, operator) for operator in fused_lstm.lstm_ops(graph)]
    loops = [LoopReader(graph, operator) for operator in loop.loops(graph)]
    seen = Seen(graph)
    for sample in samples:
        interpreter.reset_all_variables()
        for block in _blocks(sample, inputs):
            for detail, array in zip(inputs, block, strict=True):
                interpreter.set_tensor(detail["index"], np.ascontiguousarray(array, detail["dtype"]))
            for cell in cells:
                cell.before(interpreter)
            interpreter.invoke()
            seen.look([interpreter])
            for cell in cells:
                cell.after(interpreter)
            for each in loops:
                each.after(interpreter)
    ranges = seen.ranges()._replace(inside={cell.c: cell.inside for cell in cells})
    return ranges._replace(loops={each.number: each.seen.ranges() for each in loops})


def _blocks(sample: Sequence[np.ndarray], inputs: Sequence[dict]) -> list[list[np.ndarray]]:
    """Cut sequences that are longer than the file's into blocks of its length."""
    counts = {
        array.shape[1] // int(detail["shape"][1]) if array.ndim > 1 and array.shape[1] else 1
        for array, detail in zip(sample, inputs, strict=True)
    }
    count = max(counts)
    return [list(parts) for parts in zip(*(np.split(array, count, axis=1) for array in sample), strict=True)]
