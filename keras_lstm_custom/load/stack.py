"""Recurrent layers with given weights, as a Sequential model: what the readers of foreign weights make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_lstm_custom.layers import GRU, LSTM, Recurrent, VanillaRNN

LAYERS: dict[str, type[Recurrent]] = {"lstm": LSTM, "gru": GRU, "rnn": VanillaRNN}


class Weights(NamedTuple):
    """One layer in one direction: what it is, and its weights under the names and in the packing of ours."""

    kind: str  #: a key of `LAYERS`
    units: int
    options: Mapping[str, Any]  #: arguments of the layer
    arrays: Mapping[str, np.ndarray]  #: by the names of the cell's weights; without "bias" it has none

    def layer(self, **more: Any) -> Recurrent:
        """Return the layer, not built yet."""
        return LAYERS[self.kind](self.units, **{"use_bias": "bias" in self.arrays, **self.options, **more})

    def give(self, layer: Recurrent) -> None:
        """Set the weights of the built layer."""
        layer.cell.set_weights([self.arrays[weight.name] for weight in layer.cell.weights])


def directions(forward: Weights, backward: Weights | None, **more: Any) -> Any:
    """Return the layer of one direction, or a `Bidirectional` of two whose outputs are joined."""
    if backward is None:
        return forward.layer(**more)
    return keras.layers.Bidirectional(forward.layer(**more), backward_layer=backward.layer(go_backwards=True, **more))


def give(layer: Any, forward: Weights, backward: Weights | None) -> None:
    """Set the weights of a built layer that `directions` made."""
    if backward is None:
        forward.give(layer)
    else:
        forward.give(layer.forward_layer)
        backward.give(layer.backward_layer)


def sequential(
    stack: Sequence[tuple[Weights, Weights | None]], *, return_sequences: bool, dropout: float = 0.0, name: str = ""
) -> keras.Sequential:
    """Return a Sequential model of layers, each of one or two directions, on `(batch, timesteps, features)`.

    Args:
        stack: from the first layer to the last.
        return_sequences: whether the last one returns all steps.
        dropout: rate of a `Dropout` between two layers; 0 for none.
        name: of the model.
    """
    features = stack[0][0].arrays["kernel"].shape[0]
    model = keras.Sequential([keras.Input((None, features))], name=name or None)
    for number, (forward, backward) in enumerate(stack, 1):
        last = number == len(stack)
        layer = directions(forward, backward, return_sequences=return_sequences or not last)
        model.add(layer)
        give(layer, forward, backward)
        if dropout and not last:
            model.add(keras.layers.Dropout(dropout))
    return model
