"""A model as a function of numbers that may be changed, with its masks held as they are for the data itself.

A `Masking` layer looks at the numbers it is given, so on the way from a baseline to the data, or with a step
occluded, it would mask other steps than it does for the data. Here every mask is recorded once, for the data,
and answered again afterwards. What an `Embedding` gives out is recorded too, and may be put in anew: token
numbers cannot be varied a little, their vectors can.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from inspect import signature
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from keras_lstm_custom.diagnostics.autodiff import no_gradients, repeated
from keras_lstm_custom.diagnostics.numbers import as_numpy
from keras_lstm_custom.keras_hooks import methods_replaced
from keras_lstm_custom.models.walk import walk
from keras_lstm_custom.structures import Tensor

Array = np.ndarray


class Recording:
    """One run of the model on rows of the data, as NumPy arrays."""

    def __init__(self, output: Any, masks: dict[str, Array], read: list[tuple], embedded: list[tuple]):
        self.output = output  #: as the model gives it
        self.masks = masks  #: by layer and call
        self.read = read  #: `(input, mask)` of each call of a Masking layer or Embedding that gave a mask
        self.embedded = embedded  #: `(ids, vectors)` of each call of an Embedding


class HeldModel:
    """Runs `model` while it records masks and embeddings, and again with those answered."""

    def __init__(self, model: keras.Model):
        self.model = model
        self._layers = [layer for _, layer in walk(model)]
        self._record = repeated(self._run_recording)
        self._structures: dict[str, Any] = {}  # of each mask; they outlive the recording, which may be compiled
        self._answers: dict[str, Any] | None = None
        self._calls: dict[str, int] = {}

    def record(self, x: Any) -> Recording:
        """Run the model on `x`, a structure of arrays, and return what it gave and what it computed on the way.

        Raises:
            InputError: a mask or an embedding is computed where its numbers cannot be read.
        """
        with no_gradients():
            return Recording(**as_numpy(self._record(tree.map_structure(ops.convert_to_tensor, x))))

    def run(self, x: Any, masks: dict[str, Tensor], vectors: dict[int, Tensor]) -> Any:
        """Return the model's output for tensors `x` with these masks, and these vectors given out by Embeddings."""
        self._answers = {**masks, **{f"vectors {call}": tensor for call, tensor in vectors.items()}}
        try:
            return self._call(x)
        finally:
            self._answers = None

    def _run_recording(self, x: Any) -> dict[str, Any]:
        self._kept: dict[str, Any] = {"masks": {}, "read": [], "embedded": []}
        return {"output": self._call(x), **self._kept}

    def _call(self, x: Any) -> Any:
        self._calls = {}
        # Inside the scope no variable changes: states that layers keep stay as they are.
        with methods_replaced(list(self._replacements())), keras.StatelessScope():
            return self.model(x, training=False)

    def _replacements(self) -> Iterator[tuple[keras.Layer, str, Callable]]:
        for number, layer in enumerate(self._layers):
            if isinstance(layer, keras.Model):
                continue
            if isinstance(layer, keras.layers.Embedding):
                yield layer, "call", self._embedding(layer)
            elif type(layer).call is keras.layers.Masking.call:
                yield layer, "call", self._masking(layer, f"mask of {number}")
            elif names := [name for name in signature(layer.call).parameters if name.endswith("mask")]:
                yield layer, "call", self._with_held_masks(layer.call, names, number)

    def _with_held_masks(self, call: Callable, names: list[str], number: int) -> Callable:
        """Return a layer's `call` that is given the masks of the data.

        A functional model computes masks on its own way, by ops of its graph, so they are held where they arrive.
        """
        parameters = signature(call)

        def held(*args, **kwargs):
            bound = parameters.bind(*args, **kwargs)
            for name in names:
                mask = self._answer(f"{name} to {number}", bound.arguments.get(name))
                if mask is not None or name in bound.arguments:
                    bound.arguments[name] = mask
            return call(*bound.args, **bound.kwargs)

        return held

    def _masking(self, layer: keras.layers.Masking, key: str) -> Callable:
        def masked(inputs):
            mask = self._answer(key, layer.compute_mask(inputs))
            if self._answers is None:
                self._kept["read"].append((inputs, mask))
            return ops.where(ops.expand_dims(mask, -1), inputs, 0)

        return masked

    def _embedding(self, layer: keras.layers.Embedding) -> Callable:
        call = layer.call

        def embed(inputs):
            number = self._count("embedding")
            if self._answers is not None:
                given = self._answers.get(f"vectors {number}")
                return call(inputs) if given is None else given
            vectors = call(inputs)
            self._kept["embedded"].append((inputs, vectors))
            if layer.mask_zero:
                self._kept["read"].append((inputs, layer.compute_mask(inputs)))
            return vectors

        return embed

    def _answer(self, key: str, mask: Any) -> Any:
        """Keep a mask, or a structure of some, and return it; or return in its place what was kept."""
        key = f"{key}, {self._count(key)}"
        if self._answers is None:
            parts = {f"{key}, {n}": part for n, part in enumerate(tree.flatten(mask)) if part is not None}
            self._structures[key] = tree.map_structure(lambda _: None, mask)
            self._kept["masks"].update(parts)
            return mask
        structure = self._structures[key]
        kept = [self._answers.get(f"{key}, {n}") for n in range(len(tree.flatten(structure)))]
        return tree.pack_sequence_as(structure, kept)

    def _count(self, key: str) -> int:
        self._calls[key] = self._calls.get(key, -1) + 1
        return self._calls[key]
