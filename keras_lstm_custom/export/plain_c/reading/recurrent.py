"""Recurrent layers as values: a cell's call, read once, with its states carried from step to step."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import tree

from keras_lstm_custom.export.plain_c.graph.ir import LOWEST, Value, unshaped
from keras_lstm_custom.export.plain_c.reading.frame import Unsupported
from keras_lstm_custom.export.plain_c.reading.reader import Reader, symbolic_activations
from keras_lstm_custom.export.plain_c.reading.tensors import Tensor, array_of, flatten, mask_of
from keras_lstm_custom.models.walk import cells_of


def rnn(reader: Reader, layer: Any, x: Any, options: dict[str, Any]) -> list[Tensor]:
    """Return the output of a `keras.layers.RNN`, ours or Keras' own, and its final states if it gives them."""
    x, given, mask = _arguments(reader, x, options)
    outputs, states = run(reader, layer, x.value, given, mask)
    out_mask = mask if layer.return_sequences else None
    return [Tensor(outputs, out_mask), *map(Tensor, states)] if layer.return_state else [Tensor(outputs, out_mask)]


def bidirectional(reader: Reader, layer: Any, x: Any, options: dict[str, Any]) -> list[Tensor]:
    """Return the output of `keras.layers.Bidirectional`, and the final states of both directions."""
    b = reader.b
    x, given, mask = _arguments(reader, x, options)
    half = None if given is None else len(given) // 2
    parts = [(layer.forward_layer, given and given[:half]), (layer.backward_layer, given and given[half:])]
    (y, states), (y_back, states_back) = (run(reader, inner, x.value, s, mask) for inner, s in parts)
    if layer.return_sequences:
        y_back = b.reverse(y_back)
    merged = {
        "concat": lambda: [b.concat([y, y_back])],
        "sum": lambda: [b.map("add", y, y_back)],
        "ave": lambda: [b.map("mul", b.map("add", y, y_back), 0.5)],
        "mul": lambda: [b.map("mul", y, y_back)],
        None: lambda: [y, y_back],
    }[layer.merge_mode]()
    out_mask = mask if layer.return_sequences else None
    final = [*states, *states_back] if layer.return_state else []
    return [*(Tensor(value, out_mask) for value in merged), *map(Tensor, final)]


def run(
    reader: Reader, layer: Any, x: Value, given: list[Tensor] | None, mask: Value | None
) -> tuple[Value, list[Value]]:
    """Return the outputs of all steps or of the last one, in the order in which they are read, and the final states."""
    b, cell = reader.b, layer.cell
    if reader.frame.within_step or x.steps is None:
        raise Unsupported("a recurrence inside each step of another")
    if len(x.shape) != 1:
        raise Unsupported("a recurrence over steps that are no vectors")
    sizes = cell.state_size
    initial = [t.value for t in given] if given is not None else _initial(reader, layer)
    with b.one_loop():
        if layer.go_backwards:
            x, mask = b.reverse(x), None if mask is None else b.reverse(mask)
        shapes = [(int(size),) for size in tree.flatten(sizes)]
        states = [b.state(x.steps or 1, s, i) for s, i in zip(shapes, initial, strict=True)]
        for state, name in zip(states, _names(cell, len(states)), strict=True):
            state.attributes["name"] = name
        # A cell of one state is given a list, as `keras.layers.RNN` does.
        tensors = [Tensor(state) for state in states]
        packed = tree.pack_sequence_as(sizes, tensors) if tree.is_nested(sizes) else tensors
        with reader.within_step(), symbolic_activations(cells_of(layer)):
            output, following = reader.traced(cell.call, [Tensor(x), packed])
        y = output.value
        # A state that becomes a part of what another one was is a value of its own.
        news = [t.value if unshaped(t.value).kind in ("map", "linear") else b.map("same", t.value)
                for t in flatten(following)]  # fmt: skip
        if mask is not None:
            read, m = y, mask
            if layer.zero_output_for_mask:
                y = b.map("where", m, read, 0.0)
            elif initial[0] is None and y is news[0]:
                y = None  # the output before is the state before
            else:
                before = b.state(x.steps or 1, y.shape)
                y = b.map("where", m, read, before)
                b.carry(before, y)
            news = [b.map("where", m, new, old) for new, old in zip(news, states, strict=True)]
            y = news[0] if y is None else y
        for state, new in zip(states, news, strict=True):
            b.carry(state, new)
    return (y if layer.return_sequences else b.last(y)), [b.last(new) for new in news]


def _names(cell: Any, count: int) -> list[str]:
    """Return what the states of a cell are called."""
    fields = getattr(getattr(cell, "state_type", None), "_fields", ("h", "c"))
    return [fields[n] if n < len(fields) else f"state {n}" for n in range(count)]


def _initial(reader: Reader, layer: Any) -> list[Value | None]:
    """Return what the states start from, None for zeros."""
    arrays = [array_of(s)[0] for s in tree.flatten(layer.get_initial_state(batch_size=1))]
    return [reader.b.const(np.maximum(array, LOWEST)) if array.any() else None for array in arrays]


def _arguments(reader: Reader, x: Any, options: dict[str, Any]) -> tuple[Tensor, list[Tensor] | None, Value | None]:
    """Return the sequence, the initial states and the mask of a call."""
    given = options.get("initial_state")
    if isinstance(x, list):  # by position
        x, given = x[0], x[1] if len(x) == 2 and isinstance(x[1], list) else x[1:]
    given = None if given is None else [given] if isinstance(given, Tensor) else flatten(given)
    return x, given, mask_of(reader.b, x, options.get("mask"))


RECURRENT: dict[type, Any] = {keras.layers.RNN: rnn, keras.layers.Bidirectional: bidirectional}
