"""Recurrent layers of a copy whose steps stand in the graph one after another, masks in ops that every runtime has.

Keras can unroll, too, but cuts its mask with an op that the microcontroller runtime lacks, and where a layer reads
backwards with `zero_output_for_mask` (as in every `Bidirectional(return_sequences=True)`) it zeroes other steps than
its loop does. The model at hand runs by the loop, unless it was built with `unroll=True`.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from typing import Any

import keras
from keras import ops, tree

from keras_lstm_custom.keras_hooks import replace_loop, runs_its_cell
from keras_lstm_custom.layers.convert import COUNTERPARTS
from keras_lstm_custom.models.walk import recurrent_layers


def unroll(copy: keras.Model, as_keras_unrolls: Collection[str] = (), *, continues: bool = False) -> None:
    """Let every recurrent layer in `copy` write its steps one after another.

    Args:
        copy: a model that is changed.
        as_keras_unrolls: names of layers that zero the outputs of masked steps as Keras does with `unroll=True`.
        continues: the given state is that of the block before. The output before the first step that is read is then
            the state, which is h; for a whole sequence it is zero.
    """
    for layer in recurrent_layers(copy).values():
        if runs_its_cell(layer):
            replace_loop(layer, partial(unrolled_steps, layer, layer.name in as_keras_unrolls, continues))


def unrolled_by_keras(model: keras.Model) -> set[str]:
    """Return the names of the layers that Keras itself unrolls; ours give the numbers of a loop with `unroll=True`."""
    layers = recurrent_layers(model).values()
    return {layer.name for layer in layers if layer.unroll and type(layer) not in COUNTERPARTS}


def unrolled_steps(
    layer: Any, keras_zeros: bool, continues: bool, sequences: Any, initial_state: Any, mask: Any, training: bool
) -> tuple[Any, Any, list[Any]]:
    """Run the cell over all steps: `(last output, outputs, states)`, as `keras.layers.RNN.inner_loop`.

    A masked step keeps the states, and the output before it: zero at first.
    """
    given = ops.unstack(sequences, axis=1)
    in_order = slice(None, None, -1) if layer.go_backwards else slice(None)
    masks = [None] * len(given) if mask is None else [mask[:, t : t + 1] for t in range(len(given))]
    states = initial_state
    outputs: list[Any] = []
    for x, reads in zip(given[in_order], masks[in_order], strict=True):
        output, after = layer.cell(x, states)
        if reads is not None:
            before = tree.flatten(states)
            kept = [chosen(reads, new, old) for new, old in zip(tree.flatten(after), before, strict=True)]
            after = tree.pack_sequence_as(states, kept)
            first = before[0] if continues else ops.zeros_like(output)
            output = chosen(reads, output, outputs[-1] if outputs else first)
        states = after if isinstance(after, (list, tuple)) else [after]
        outputs.append(output)
    last = outputs[-1]
    if layer.zero_output_for_mask and mask is not None:
        shown = masks if keras_zeros else masks[in_order]
        last = chosen(masks[in_order][-1], last, ops.zeros_like(last))
        outputs = [chosen(reads, output, ops.zeros_like(output)) for reads, output in zip(shown, outputs, strict=True)]
    return last, ops.stack(outputs, axis=1) if layer.return_sequences else last[:, None], list(states)


def chosen(reads: Any, yes: Any, no: Any) -> Any:
    """Choose by a mask of (batch, 1)."""
    more = len(yes.shape) - 2
    return ops.where(ops.reshape(reads, (*reads.shape, *[1] * more)) if more else reads, yes, no)
