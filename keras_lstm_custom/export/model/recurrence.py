"""What stands for the recurrent layers of a copy while it is converted: one mark for each cell, and no loop.

A mark is one named node of the TensorFlow graph: a function marked by `experimental_implements` becomes one custom
op in the TFLite file, with the name given here. The converter reads the name and the shapes of such a function and
never runs its body. `file.fused_lstm` puts the builtin LSTM op in the place of a mark, `file.loop` a loop.

Which of the two a cell becomes is asked of `as_lstm`: what the fused op computes is fused, all else is a loop over
the cell's own step, whatever cell it is.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any, NamedTuple

import keras
from keras import ops, tree

from keras_lstm_custom.export.model.as_lstm import FLOAT_GAIN, INTEGER_GAIN, FusedLSTM, as_lstm
from keras_lstm_custom.export.model.unrolled import chosen, unrolled_steps
from keras_lstm_custom.keras_hooks import replace_loop, runs_its_cell
from keras_lstm_custom.models.walk import cells_of, recurrent_layers

MARK = "keras_lstm_custom.cell."  #: what the name of such a custom op begins with; its number follows


class Loop(NamedTuple):
    """A cell that is run over time by a loop."""

    name: str  #: the layer's name, for the tensors in the file
    step: Callable[..., list[Any]]  #: of one row of each sequence, then what is carried: what is carried on, and `y`
    sequences: int  #: how many inputs of the mark run over time; the others are carried from step to step
    gives_all: bool  #: whether the step's last result is gathered for all steps: the mark's last output
    backwards: bool  #: whether it reads from the last step to the first


class Tracing(NamedTuple):
    """What one conversion collects."""

    marks: list[FusedLSTM | Loop]  #: one for each mark in the graph
    gain: float  #: γ of a cell's form as an LSTM
    integers: bool  #: whether the file will compute in integers


_tracing: ContextVar[Tracing] = ContextVar("tracing")


@contextmanager
def tracing(integers: bool) -> Iterator[list[FusedLSTM | Loop]]:
    """While this is open, every cell that is traced puts what it is on the list that is returned."""
    marks: list[FusedLSTM | Loop] = []
    gain = INTEGER_GAIN if integers else FLOAT_GAIN
    token = _tracing.set(Tracing(marks, gain, integers))
    try:
        yield marks
    finally:
        _tracing.reset(token)


def mark(copy: keras.Model, as_keras_unrolls: Collection[str] = (), *, variants: bool = False) -> None:
    """Let every recurrent layer in `copy` leave marks in place of its loop.

    Args:
        copy: a model that is changed.
        as_keras_unrolls: names of layers that zero the outputs of masked steps as Keras does with `unroll=True`.
        variants: whether the fused op may have peepholes, a projection and so on, which one runtime alone computes.
    """
    for layer in recurrent_layers(copy).values():
        if runs_its_cell(layer):
            replace_loop(layer, partial(_marked, layer, layer.name in as_keras_unrolls, variants))


def _marked(
    layer: Any, keras_zeros: bool, variants: bool, sequences: Any, initial_state: Any, mask: Any, training: bool
) -> tuple[Any, Any, list[Any]]:
    """Return `(last output, outputs, states)`, as `keras.layers.RNN.inner_loop`."""
    if len(sequences.shape) != 3 or (keras_zeros and mask is not None):
        return unrolled_steps(layer, keras_zeros, False, sequences, initial_state, mask, training)
    cells, states = cells_of(layer), list(initial_state)
    if mask is not None or len(cells) == 1:
        cells, states = [layer.cell], [states]
    outputs, after = sequences, []
    for number, (cell, state) in enumerate(zip(cells, states, strict=True)):
        name = layer.name if len(cells) == 1 else f"{layer.name}/{cell.name}"
        all_steps = layer.return_sequences or number < len(cells) - 1
        backwards = layer.go_backwards and number == 0
        _, gain, integers = _tracing.get()
        form = as_lstm(name, cell, gain, variants, integers) if mask is None else None
        if form is None:
            loop = _Looped(name, cell, mask, backwards, all_steps, layer.zero_output_for_mask)
            outputs, new = loop(outputs, state)
        else:
            outputs, new = _fused(form, ops.flip(outputs, axis=1) if backwards else outputs, tree.flatten(state))
            outputs = outputs if all_steps else outputs[:, -1:]
        after.append(new if isinstance(state, (list, tuple)) else new[0])
    states = after[0] if len(cells) == 1 else after
    return outputs[:, -1], outputs, list(states)


def _fused(form: FusedLSTM, x: Any, state: Sequence[Any]) -> tuple[Any, list[Any]]:
    """Leave the mark of one LSTM; return all outputs (batch, timesteps, width) and the last states."""
    h, *c = form.encode(state)
    zeros = ops.zeros((x.shape[0], form.units), "float32")

    def lstm(x, h, c):
        import tensorflow as tf

        outputs = tf.reduce_sum(x, axis=-1, keepdims=True) + h[:, None]
        return outputs, tf.reduce_sum(outputs) + c

    outputs, last_c = _leave(form, lstm, x, h, *(c or [zeros]))
    return form.decode(outputs), [form.decode(outputs[:, -1]), last_c][: len(state)]


class _Looped:
    """One cell, or one stack of cells, as a loop, with the steps that a mask leaves out."""

    def __init__(self, name: str, cell: Any, mask: Any, backwards: bool, all_steps: bool, zeros: bool):
        self.name, self.cell, self.mask = name, cell, mask
        self.backwards, self.all_steps, self.zeros = backwards, all_steps, zeros
        self.state: Any = None
        self.carries_output = False

    def __call__(self, x: Any, state: Any) -> tuple[Any, list[Any]]:
        """Leave the mark; return all outputs, or the last (batch, 1, width), and the last states."""
        output, after = self.cell(x[:, 0], state)
        self.state, carried = state, tree.flatten(state)
        alike = [k for k, new in enumerate(tree.flatten(after)) if new is output]
        if self.mask is not None or not (self.all_steps or alike):
            self.carries_output = True
            carried.append(ops.zeros_like(output))
        sequences = [x] if self.mask is None else [x, self.mask[..., None]]
        loop = Loop(self.name, self.step, len(sequences), self.all_steps, self.backwards)
        shapes = [tuple(tensor.shape) for tensor in carried]
        if self.all_steps:
            shapes.append((output.shape[0], x.shape[1], *output.shape[1:]))

        def steps(x, *others):
            import tensorflow as tf

            return [tf.reduce_sum(x) + tf.zeros(shape) for shape in shapes]

        results = list(_leave(loop, steps, *sequences, *carried))
        last = len(carried) - 1 if self.carries_output else alike[0] if alike else -1
        outputs = results.pop() if self.all_steps else results[last][:, None]
        states = results[:-1] if self.carries_output else results
        return outputs, tree.pack_sequence_as(state, states) if isinstance(state, (list, tuple)) else states

    def step(self, x_t: Any, *others: Any) -> list[Any]:
        """Compute what is carried to the next step, and the output if that of every step is asked for."""
        reads, *carried = others if self.mask is not None else (None, *others)
        states = carried[: len(tree.flatten(self.state))]
        output, after = self.cell(x_t, tree.pack_sequence_as(self.state, states))
        new = tree.flatten(after)
        if reads is not None:
            new = [chosen(reads, a, b) for a, b in zip(new, states, strict=True)]
            output = chosen(reads, output, ops.zeros_like(output) if self.zeros else carried[-1])
        return [*new, *([output] if self.carries_output else []), *([output] if self.all_steps else [])]


def _leave(what: FusedLSTM | Loop, body: Callable, *inputs: Any) -> Any:
    """Leave a mark in the graph whose results have the shapes of those of `body`."""
    import tensorflow as tf

    marks = _tracing.get().marks
    implements = f'name: "{MARK}{len(marks)}" attr {{ key: "tfl_fusable_op" value {{ b: true }} }}'
    marks.append(what)
    return tf.function(body, experimental_implements=implements, autograph=False)(*inputs)
