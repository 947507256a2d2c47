"""The layers of a model that runs step by step: each recurrent layer takes its state from the caller of the model."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import keras
from keras import tree

from keras_lstm_custom.errors import ExportError
from keras_lstm_custom.export.model.inputs import follows
from keras_lstm_custom.export.model.stand_ins import stand_in


class Calls(NamedTuple):
    """What the recurrent layers take and leave while a model is called."""

    given: list[Any] | None  #: states that are left for the layers to come; None: they start from zero
    made: list[Any]
    sizes: list[tuple[Any, list[int]]]  #: each layer that was called, and its states' sizes


_calls: ContextVar[Calls | None] = ContextVar("calls", default=None)


@contextmanager
def calling(given: list[Any] | None) -> Iterator[Calls]:
    """While this is open, the recurrent layers take these states, and leave theirs in what is returned."""
    calls = Calls(given, [], [])
    token = _calls.set(calls)
    try:
        yield calls
    finally:
        _calls.reset(token)


@keras.saving.register_keras_serializable(package="keras_lstm_custom.export")
class Stepped(keras.layers.Wrapper):
    """A recurrent layer that takes its state from the caller of the model, and gives it back."""

    def __init__(self, layer, return_state=False, unrolled=False, **kwargs):
        super().__init__(layer, **kwargs)
        self.return_state = return_state
        self.unrolled = unrolled
        self.supports_masking = True

    def build(self, sequences_shape=None, initial_state_shape=None):
        self.layer.build(sequences_shape)
        self.built = True

    def call(self, sequences, initial_state=None, mask=None, training=False):
        if initial_state is not None:
            raise refusal(self.layer.name, "starts from a state that the model computes")
        sizes = tree.flatten(self.layer.state_size)
        calls = _calls.get() or Calls(None, [], [])  # a model is also called while it is built
        state = None
        if calls.given is not None:
            state, calls.given[:] = calls.given[: len(sizes)], calls.given[len(sizes) :]
        if state is not None:  # cells stacked in one layer have their states nested
            state = tree.pack_sequence_as(self.layer.state_size, state) if len(sizes) > 1 else state
        output, *after = self.layer(sequences, initial_state=state, mask=mask, training=training)
        output, after = self._continued(output, state, mask), tree.flatten(after)
        calls.made.extend(after)
        calls.sizes.append((self.layer, sizes))
        return [output, *after] if self.return_state else output

    def _continued(self, output, state, mask):
        """Let the output before the first step that is read be that of the block before: the state, which is h."""
        mask = None if mask is None else tree.flatten(mask)[0]
        if mask is None or state is None or self.layer.zero_output_for_mask or self.unrolled:
            return output
        anything_read = keras.ops.cumsum(keras.ops.cast(mask, "int32"), axis=1) > 0
        h = tree.flatten(state)[0]
        if self.layer.return_sequences:
            return keras.ops.where(anything_read[..., None], output, h[:, None])
        return keras.ops.where(anything_read[:, -1:], output, h)

    def compute_mask(self, inputs, mask=None):
        masks = self.layer.compute_mask(inputs, mask)
        return masks if self.return_state else tree.flatten(masks)[0] if masks is not None else None

    def get_config(self):
        return {**super().get_config(), "return_state": self.return_state, "unrolled": self.unrolled}


class Stepper(keras.layers.Layer):
    """The whole model as one layer: inputs and states in, outputs and states out."""

    def __init__(self, model, input_count):
        super().__init__(name="stepper")
        self.model = model
        self.input_count = input_count

    def call(self, tensors, training=False):
        with calling(list(tensors[self.input_count :])) as calls:
            outputs = self.model(
                tree.pack_sequence_as(self.model.input, tensors[: self.input_count]), training=training
            )
        return [*tree.flatten(outputs), *calls.made]


def rewriting(shapes: Collection[tuple], steps: int | None, unroll: bool) -> Callable[[dict], dict]:
    """Return what `rebuild` needs to put `Stepped` around every recurrent layer.

    Args:
        shapes: of the inputs that become blocks, without the batch.
        steps: the length of a block; None = any.
        unroll: the steps will be written one after another instead of as a loop, for a file.
    """
    lengths = {shape[0]: steps for shape in shapes}

    def rewrite(entry: dict) -> dict:
        config = entry["config"]
        if entry["class_name"] == "InputLayer":
            shape = list(config["batch_shape"])
            if tuple(shape[1:]) in shapes:
                shape[1] = steps
            return {**entry, "config": {**config, "batch_shape": [None, *shape[1:]]}}
        if entry["class_name"] == "Reshape":
            return follows(entry, lengths)
        if entry["class_name"] == "TimeDistributed" and config["layer"]["class_name"] == Stepped.__name__:
            # A recurrence inside one time step begins and ends there.
            entry = {**entry, "config": {**config, "layer": config["layer"]["config"]["layer"]}}
        if not isinstance(config, dict) or "return_state" not in config or "stateful" not in config:
            return stand_in(entry) if unroll else entry
        inner = {**entry, "config": {**config, "return_state": True, "stateful": False, "unroll": unroll}}
        return {
            **entry,
            "module": Stepped.__module__,
            "class_name": Stepped.__name__,
            "registered_name": keras.saving.get_registered_name(Stepped),
            "config": {
                "name": config["name"],
                "layer": inner,
                "return_state": config["return_state"],
                "unrolled": unroll,
            },
        }

    return rewrite


def refusal(name: str, reason: str) -> ExportError:
    """Return the error for a layer that cannot run step by step."""
    return ExportError(
        "The model cannot run step by step.",
        expected="recurrent layers that read forwards, each from a state of its own",
        received=f"{name!r} {reason}",
        remedy="Export it for whole sequences.",
    )
