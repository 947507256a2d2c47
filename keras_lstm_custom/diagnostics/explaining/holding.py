"""A model as a function of numbers that may be changed, with its masks held as they are for the data itself.

A `Masking` layer looks at the numbers it is given, so on the way from a baseline to the data, or with a step
occluded, it would mask other steps than it does for the data. Here every mask is recorded once, for the data,
and answered again afterwards. What an `Embedding` gives out is recorded too, and may be put in anew: token
numbers cannot be varied a little, their vectors can.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from keras_lstm_custom.diagnostics.autodiff import no_gradients, repeated
from keras_lstm_custom.diagnostics.recurrent_layers import _walk
from keras_lstm_custom.errors import InputError
from keras_lstm_custom.keras_hooks import methods_replaced
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
        self._layers = [layer for _, layer in _walk(model, "", set())]
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
            return Recording(**tree_to_numpy(self._record(tree.map_structure(ops.convert_to_tensor, x))))

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
            if type(layer).compute_mask is not keras.layers.Layer.compute_mask:
                yield layer, "compute_mask", self._compute_mask(layer, f"mask of {number}")
            if isinstance(layer, keras.layers.Embedding):
                yield layer, "call", self._embedding(layer.call)
            elif type(layer).call is keras.layers.Masking.call:
                yield layer, "call", _masking(layer)
            elif isinstance(layer, keras.layers.RNN):
                yield layer, "call", self._recurrent(layer.call, f"mask to {number}")

    def _compute_mask(self, layer: keras.Layer, key: str) -> Callable:
        compute, is_source = layer.compute_mask, isinstance(layer, (keras.layers.Masking, keras.layers.Embedding))

        def compute_mask(inputs, *args, **kwargs):
            mask = self._answer(key, lambda: compute(inputs, *args, **kwargs))
            if is_source and mask is not None and self._answers is None:
                self._kept["read"].append((inputs, mask))
            return mask

        return compute_mask

    def _recurrent(self, call: Callable, key: str) -> Callable:
        def with_held_mask(*args, mask=None, **kwargs):
            return call(*args, mask=self._answer(key, lambda: mask), **kwargs)

        return with_held_mask

    def _embedding(self, call: Callable) -> Callable:
        def embed(inputs):
            number = self._count("embedding")
            if self._answers is not None:
                given = self._answers.get(f"vectors {number}")
                return call(inputs) if given is None else given
            vectors = call(inputs)
            self._kept["embedded"].append((inputs, vectors))
            return vectors

        return embed

    def _answer(self, key: str, compute: Callable[[], Any]) -> Any:
        """Compute a mask, or a structure of some, and keep it; or return what was kept."""
        key = f"{key}, {self._count(key)}"
        if self._answers is None:
            mask = compute()
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


def _masking(layer: keras.layers.Masking) -> Callable:
    """`Masking.call`, but by way of `compute_mask`; the original computes the mask a second time on its own."""

    def call(inputs):
        return ops.where(ops.expand_dims(layer.compute_mask(inputs), -1), inputs, 0)

    return call


def tree_to_numpy(structure: Any) -> Any:
    """Return `structure` with every tensor a NumPy array."""
    try:
        return tree.map_structure(ops.convert_to_numpy, structure)
    except Exception as error:  # each framework has its own class for "this is not a number yet"
        raise InputError(
            "A part of the model runs inside a compiled function, where its numbers cannot be read.",
            expected="a model whose `call` runs eagerly",
            received=f"{type(error).__name__}: {str(error).splitlines()[0]}",
            remedy="Take @tf.function, jax.jit or vectorized_map out of the model's `call`.",
        ) from error
