"""The undocumented parts of Keras and TensorFlow this package stands on; there are five, all in this file.

1. `keras.layers.RNN.inner_loop`: Keras' loop over time. `EngineRNN` overrides it, so that masks,
   states, `stateful` and `go_backwards` stay Keras' own and only the loop is ours;
   `loop_over_time` calls Keras' original for the reference engine.
2. `get_dropout_mask` / `get_recurrent_dropout_mask` of Keras' recurrent cells: one mask for each
   call of the layer, drawn before the loop starts.
3. `dropout_mask_count` of these cells: whether that is one mask, or one for each gate.
4. The names of the functions in which Keras' TensorFlow trainer calls a model: their graphs are in no SavedModel.
5. `could_possibly_record` of TensorFlow's `eager.record`: whether a gradient tape is open.

`tests/test_keras_hooks.py` fails with the name of the hook when Keras changes one.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple

import keras
from keras import ops

from keras_lstm_custom.equations.projection import DropoutMask
from keras_lstm_custom.structures import Tensor


class DropoutMasks(NamedTuple):
    """Masks for one call of a layer, each as `equations.project` takes it."""

    inputs: DropoutMask = None
    recurrent: DropoutMask = None


NO_DROPOUT = DropoutMasks()


def dropout_masks(cell: Any, x_t: Tensor, h: Tensor, training: bool) -> DropoutMasks:
    """Return the masks of `cell` for this call: drawn at its first step, the same at every later one.

    Args:
        cell: a Keras recurrent cell.
        x_t: `(batch, features)`, the input of any one step.
        h: `(batch, units)`.
        training: no mask is drawn outside training.
    """
    if not training:
        return NO_DROPOUT
    return DropoutMasks(
        inputs=cell.get_dropout_mask(x_t) if 0 < cell.dropout < 1 else None,
        recurrent=cell.get_recurrent_dropout_mask(h) if 0 < cell.recurrent_dropout < 1 else None,
    )


def symbolic_dropout_masks(cell: Any, x_shape: tuple, h_shape: tuple, training: bool) -> DropoutMasks:
    """Return `keras.KerasTensor`s in place of the masks that `dropout_masks` would draw."""

    def masks(rate, shape):
        if not (training and 0 < rate < 1):
            return None
        mask = keras.KerasTensor(shape, cell.compute_dtype)
        count = getattr(cell, "dropout_mask_count", None)
        return mask if count is None else [mask] * count

    return DropoutMasks(masks(cell.dropout, x_shape), masks(cell.recurrent_dropout, h_shape))


#: The functions of Keras' TensorFlow trainer around `train_step`, `test_step` and `predict_step`.
TRAINER_FUNCTIONS = frozenset(
    ("one_step_on_data", "multi_step_on_iterator", "one_step_on_data_distributed", "multi_step_on_data")
)


def inside_trainer() -> bool:
    """Return whether the TensorFlow graph under construction is part of Keras' fit, evaluate or predict."""
    import tensorflow as tf

    graph = None if tf.executing_eagerly() else tf.compat.v1.get_default_graph()
    while graph is not None:
        if getattr(graph, "name", None) in TRAINER_FUNCTIONS:
            return True
        graph = getattr(graph, "outer_graph", None)
    return False


def recording_gradients() -> bool:
    """Return whether a `tf.GradientTape` is open."""
    return import_module("tensorflow.python.eager.record").could_possibly_record()


class EngineRNN(keras.layers.RNN):
    """A `keras.layers.RNN` whose loop over time is `run_loop`."""

    def run_loop(
        self, sequences: Tensor, initial_state: list[Tensor], mask: Tensor | None, training: bool
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Return the last output, all outputs and the final state. Subclasses write this."""
        raise NotImplementedError

    def inner_loop(self, sequences, initial_state, mask, training=False):
        return self.run_loop(sequences, list(initial_state), mask, bool(training))


class _StepCell:
    """The least that `keras.layers.RNN` accepts as a cell: a function of input and states."""

    def __init__(self, step: Callable, state_size: list[int]):
        self.call = step
        self.state_size = state_size

    def __call__(self, inputs, states):
        return self.call(inputs, states)


def loop_over_time(
    step: Callable[[Tensor, list[Tensor]], tuple[Tensor, list[Tensor]]],
    sequences: Tensor,
    initial_state: list[Tensor],
    mask: Tensor | None = None,
    go_backwards: bool = False,
    **options: bool,
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Run `step` over axis 1 of `sequences` by Keras' own generic loop, on every backend.

    Args:
        step: `(x_t, states) -> (output, new states)`.
        sequences: `(batch, timesteps, features)`.
        initial_state: one `(batch, n)` tensor for each state.
        mask: `(batch, timesteps)`, or None. A masked step keeps the state; its output is right after
            the first step that is read, and before that the backend's own matter (`engines.masking`).
        go_backwards: run from the last step to the first; outputs come in the order they were computed.
        **options: `unroll`, `return_sequences`, `stateful` and `zero_output_for_mask` (which JAX's unrolled
            loop does not look at) of `keras.layers.RNN`.

    Returns:
        The last output, all outputs and the final states.
    """
    if go_backwards:  # not left to Keras: unrolled, it loses track of the mask (torch: it fails)
        sequences = ops.flip(sequences, axis=1)
        mask = None if mask is None else ops.flip(mask, axis=1)
    cell = _StepCell(step, [state.shape[-1] for state in initial_state])
    loop = keras.layers.RNN(cell, name="loop_over_time", **options)
    last_output, outputs, states = loop.inner_loop(sequences, initial_state, mask)
    return last_output, outputs, list(states)
