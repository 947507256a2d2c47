"""The calls of layers in a functional model of Keras 2, from its nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import tree

from keras_lstm_custom.errors import LoadError
from keras_lstm_custom.layers import MaskOf
from keras_lstm_custom.models.live import reason


class Nodes:
    """The calls of layers in a functional model, and what they gave."""

    def __init__(self, entries: Sequence[Mapping[str, Any]]):
        self.entries = {str(entry["name"]): entry for entry in entries}
        self.outputs: dict[tuple[str, int], list[Any]] = {}
        self.layers: dict[str, Any] = {}
        self.first = {name: self._first(name, entry) for name, entry in self.entries.items()}

    def _first(self, name: str, entry: Mapping[str, Any]) -> int:
        """Return the number of a layer's first call; models that an input built have one of their own before it."""
        calls, config = len(entry["inbound_nodes"]), entry["config"]
        is_model = isinstance(config, (list, tuple)) or "layers" in config
        named = {at for owner in self.entries.values() for at in _named(owner["inbound_nodes"], name)}
        return 1 if is_model and calls and (calls in named or 0 not in named) else 0

    def is_reference(self, value: Any) -> bool:
        """Say whether a value is the output of a layer: [name, call, output], maybe with arguments behind."""
        return (
            isinstance(value, (list, tuple))
            and len(value) in (3, 4)
            and isinstance(value[0], str)
            and value[0] in self.entries
            and all(isinstance(number, int) for number in value[1:3])
        )

    def ready(self, value: Any) -> bool:
        """Say whether all that a value refers to is there."""
        if self.is_reference(value):
            return (value[0], value[1]) in self.outputs
        parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, (list, tuple)) else ()
        return all(self.ready(part) for part in parts)

    def resolved(self, value: Any) -> Any:
        """Return a value with tensors in the place of references."""
        if self.is_reference(value):
            return self.outputs[value[0], value[1]][value[2]]
        if isinstance(value, Mapping):
            return {key: self.resolved(part) for key, part in value.items()}
        if isinstance(value, (list, tuple)):
            return type(value)(self.resolved(part) for part in value)
        return value


def _named(node: Any, layer: str) -> set[int]:
    """Return which calls of a layer are named inside nodes."""
    if isinstance(node, (list, tuple)) and len(node) in (3, 4) and node[0] == layer and isinstance(node[1], int):
        return {node[1]}
    parts = node.values() if isinstance(node, Mapping) else node if isinstance(node, (list, tuple)) else ()
    return {at for part in parts for at in _named(part, layer)}


def one(value: Any) -> Any:
    """Return what is in a list of one; all else as it is."""
    return value[0] if isinstance(value, (list, tuple)) and len(value) == 1 else value


def called(nodes: Nodes, name: str, node: Any) -> list[Any]:
    """Call a layer as one of its nodes says, and return its outputs in a list."""
    layer = nodes.layers[name]
    references, options = _arguments(nodes, node)
    if any(isinstance(leaf, str) and leaf == "_CONSTANT_VALUE" for leaf in tree.flatten(references)):
        raise LoadError(
            f"The layer {name!r} was called on a constant.",
            expected="calls on outputs of other layers",
            received=str(node)[:200],
            remedy="Build the model in Keras 3 and give it: load.keras2(path, model).",
        )
    inputs = one(nodes.resolved(references))
    options = {key: nodes.resolved(value) for key, value in options.items() if value is not None}
    if options.pop("constants", None) is not None:
        raise LoadError(
            f"The layer {name!r} was called with constants, which Keras 3 gives to no cell.",
            expected="a call on a sequence, a mask and an initial state",
            received="constants=...",
            remedy="Build the model in Keras 3 and give it: load.keras2(path, model).",
        )
    if isinstance(layer, (keras.layers.RNN, keras.layers.Bidirectional)) and isinstance(inputs, (list, tuple)):
        inputs, options = inputs[0], {"initial_state": list(inputs[1:]), **options}
    if options.get("initial_state") is not None and "mask" not in options:
        options |= _mask(inputs)
    try:
        return list(tree.flatten(layer(inputs, **options)))
    except LoadError:
        raise
    except Exception as error:  # whatever the call of a layer throws
        raise unfit(layer, error) from error


def _mask(sequence: Any) -> dict[str, Any]:
    """Return the mask of a sequence as an argument, which Keras 3 does not hand on where there is a state, too."""
    mask_of = MaskOf()
    mask = mask_of(sequence)
    return {"mask": mask} if mask_of.found else {}


def _arguments(nodes: Nodes, node: Any) -> tuple[Any, dict[str, Any]]:
    """Return the references of a node without the keyword arguments, which stand behind each of them."""
    if nodes.is_reference(node) or (isinstance(node, (list, tuple)) and node[:1] == ["_CONSTANT_VALUE"]):
        return list(node[:3]), dict(node[3]) if len(node) == 4 else {}
    if isinstance(node, Mapping):
        parts = {key: _arguments(nodes, part) for key, part in node.items()}
        return {key: part for key, (part, _) in parts.items()}, _last(options for _, options in parts.values())
    pairs = [_arguments(nodes, part) for part in node]
    return [part for part, _ in pairs], _last(options for _, options in pairs)


def _last(options: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for each in options:
        found |= each
    return found


def unfit(layer: Any, error: Exception) -> LoadError:
    """Return the error for a layer that does not take what comes before it."""
    return LoadError(
        f"The layer {layer.name!r} ({type(layer).__name__}) cannot be built on what comes before it.",
        expected="the graph that Keras 2 ran",
        received=f"{type(error).__name__}: {reason(error)}",
        remedy="If the file is whole, build the model in Keras 3 and give it: load.keras2(path, model).",
    )
