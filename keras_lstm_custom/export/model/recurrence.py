"""The layer that stands for every recurrent layer while a model is converted.

It writes each cell into the TensorFlow graph as one named node, without a loop: a function marked
by `experimental_implements` becomes one custom op in the TFLite file, with the name given here.
`fused_lstm` then puts the builtin LSTM op in its place. The converter reads the name and the
shapes of such a function and never runs its body.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import tree

from keras_lstm_custom.errors import ExportError
from keras_lstm_custom.export.model import vanilla_rnn

MARK = "keras_lstm_custom.lstm."  #: what the name of such a custom op begins with; its number follows


class LSTMWeights(NamedTuple):
    """What `fused_lstm` needs to know of one LSTM, in Keras' packing (i, f, g, o)."""

    name: str  #: the layer's name, for the tensors in the file
    kernel: np.ndarray  #: (features, 4 * units)
    recurrent_kernel: np.ndarray  #: (units, 4 * units)
    bias: np.ndarray  #: (4 * units,)

    @property
    def units(self) -> int:
        return self.recurrent_kernel.shape[0]


class Tracing(NamedTuple):
    """What one conversion collects."""

    lstms: list[LSTMWeights]  #: one for each mark in the graph
    vanilla_gain: float  #: γ of `vanilla_rnn`


_tracing: ContextVar[Tracing] = ContextVar("tracing")


@contextmanager
def tracing(vanilla_gain: float) -> Iterator[list[LSTMWeights]]:
    """While this is open, every cell that is traced puts its weights on the list that is returned."""
    lstms: list[LSTMWeights] = []
    token = _tracing.set(Tracing(lstms, vanilla_gain))
    try:
        yield lstms
    finally:
        _tracing.reset(token)


@keras.saving.register_keras_serializable(package="keras_lstm_custom.export")
class MarkedRNN(keras.layers.RNN):
    """A `keras.layers.RNN` over LSTM and vanilla cells that leaves one mark for each cell in a traced graph."""

    def call(self, sequences, initial_state=None, mask=None, training=False):
        if any(part is not None for part in tree.flatten(mask)):
            raise ExportError(
                f"{self.name!r} gets a mask, and the fused LSTM op has no input for one.",
                expected="sequences without a mask",
                received="a mask, from a Masking layer, an Embedding with mask_zero=True, or the call",
                remedy="Export with fused=False, which unrolls the layer; or train without a mask.",
            )
        cells = getattr(self.cell, "cells", [self.cell])
        sizes = [len(tree.flatten(cell.state_size)) for cell in cells]
        given = [None] * sum(sizes) if initial_state is None else tree.flatten(initial_state)
        outputs = keras.ops.flip(sequences, axis=1) if self.go_backwards else sequences
        states = []
        for number, cell in enumerate(cells):
            name = self.name if len(cells) == 1 else f"{self.name}/{cell.name}"
            state, given = given[: sizes[number]], given[sizes[number] :]
            outputs, state = _CELLS[len(state)](name, cell, outputs, state)
            states.append(state)
        result = outputs if self.return_sequences else outputs[:, -1]
        if not self.return_state:
            return result
        return (result, *(states[0] if len(states) == 1 else states))


def _lstm(name: str, cell: Any, x: Any, state: list) -> tuple[Any, list]:
    kernel, recurrent_kernel, *bias = _weights(cell)
    weights = LSTMWeights(name, kernel, recurrent_kernel, bias[0] if bias else np.zeros(kernel.shape[1], np.float32))
    outputs, c = _mark(weights, x, *state)
    return outputs, [outputs[:, -1], c]


def _vanilla(name: str, cell: Any, x: Any, state: list) -> tuple[Any, list]:
    kernel, recurrent_kernel, *bias = _weights(cell)
    form = vanilla_rnn.as_lstm(
        kernel, recurrent_kernel, bias[0] if bias else np.zeros(kernel.shape[1]), _tracing.get().vanilla_gain
    )
    h = None if state[0] is None else form.encode(state[0])
    outputs, _ = _mark(LSTMWeights(name, *form[:3]), x, h)
    outputs = form.decode(outputs)
    return outputs, [outputs[:, -1]]


#: How a cell is marked, by the number of its states; `prepare` lets no other cells pass.
_CELLS = {1: _vanilla, 2: _lstm}


def _weights(cell: Any) -> list[np.ndarray]:
    import tensorflow as tf

    # The model is traced with its weights as constants, whose values TensorFlow can tell.
    return [tf.get_static_value(tf.convert_to_tensor(variable)) for variable in cell.weights]


def _mark(weights: LSTMWeights, x: Any, h: Any = None, c: Any = None) -> tuple[Any, Any]:
    """Leave the mark of one LSTM; return all outputs (batch, timesteps, units) and the last cell state."""
    shape = (x.shape[0], weights.units)
    import tensorflow as tf

    lstms = _tracing.get().lstms
    number = len(lstms)
    lstms.append(weights)
    implements = f'name: "{MARK}{number}" attr {{ key: "tfl_fusable_op" value {{ b: true }} }}'

    @tf.function(experimental_implements=implements, autograph=False)
    def lstm(x, h, c):
        outputs = tf.reduce_sum(x, axis=-1, keepdims=True) + h
        return outputs, outputs[:, -1] + c

    zeros = tf.zeros(shape)
    return lstm(x, zeros if h is None else h, zeros if c is None else c)
