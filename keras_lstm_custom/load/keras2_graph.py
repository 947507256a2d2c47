"""Models of Keras 3 from the configurations of Keras 2: Sequential and functional ones, one in the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import tree

from keras_lstm_custom.errors import LoadError
from keras_lstm_custom.layers import MaskOf
from keras_lstm_custom.load.keras2_layers import CLASSES, REMEDIES, layer_of
from keras_lstm_custom.load.keras2_objects import REGISTER, dtype, registered
from keras_lstm_custom.models.live import reason

MODELS = ("Functional", "Model", "Sequential")


def safe_name(name: str) -> str:
    """Return a name as Keras 3 allows it: it takes no "/"."""
    return name.replace("/", "_")


def made(entry: Mapping[str, Any]) -> Any:
    """Return the layer or model of an entry `{"class_name": ..., "config": ...}`, without weights.

    Raises:
        LoadError: it cannot be carried over; the message names what and why.
    """
    name, config = _class_name(entry), entry["config"]
    if isinstance(config, Mapping) and "name" in config:
        config = {**config, "name": safe_name(str(config["name"]))}
    if isinstance(config, (list, tuple)) or (name == "Sequential" and "layers" in config):
        return _sequential(config)
    if "layers" in config and "input_layers" in config:
        return _functional(name, config)
    return layer_of({"class_name": name, "config": config}, made)


def _class_name(entry: Mapping[str, Any]) -> str:
    """Return the name of a class, with its package where there is one: later versions write that beside it."""
    name = entry.get("registered_name")
    return str(name if name and (name in CLASSES or registered(name) is not None) else entry["class_name"])


def _sequential(config: Any) -> keras.Sequential:
    entries = list(config) if isinstance(config, (list, tuple)) else list(config["layers"])
    options = {} if isinstance(config, (list, tuple)) else config
    model = keras.Sequential(name=options.get("name"), trainable=options.get("trainable", True))
    if entries and entries[0]["class_name"] == "InputLayer":
        model.add(_input(entries.pop(0)["config"]))
    elif entries and isinstance(entries[0]["config"], Mapping) and "batch_input_shape" in entries[0]["config"]:
        first = entries[0]["config"]
        model.add(keras.Input(batch_shape=tuple(first["batch_input_shape"])))
    layers = [made(entry) for entry in entries]
    if not model.layers and not model.built and layers and isinstance(layers[0], keras.Model) and layers[0].built:
        model.add(keras.Input(batch_shape=layers[0].input_shape))
    for layer in layers:
        _adding(model, layer)
    shape = options.get("build_input_shape")
    if not model.built and shape is not None:
        model.build(tuple(shape))
    return model


def _adding(model: keras.Sequential, layer: keras.Layer) -> None:
    try:
        model.add(layer)
    except LoadError:
        raise
    except Exception as error:  # whatever building a layer throws
        raise _unfit(layer, error) from error


def _unfit(layer: Any, error: Exception) -> LoadError:
    return LoadError(
        f"The layer {layer.name!r} ({type(layer).__name__}) cannot be built on what comes before it.",
        expected="the graph that Keras 2 ran",
        received=f"{type(error).__name__}: {reason(error)}",
        remedy="If the file is whole, build the model in Keras 3 and give it: load.keras2(path, model).",
    )


def _input(config: Mapping[str, Any]) -> Any:
    name = safe_name(str(config.get("name", "input")))
    shape = config.get("batch_input_shape") or config.get("batch_shape")
    if config.get("ragged"):
        raise LoadError(
            f"The input {name!r} is ragged.",
            expected="a dense input",
            received="ragged=True",
            remedy=REMEDIES["ragged"],
        )
    if shape is None:
        raise LoadError(
            f"The input {name!r} does not say its shape.",
            expected="batch_input_shape",
            received="none",
            remedy="Build the model in Keras 3 and give it: load.keras2(path, model).",
        )
    kind = dtype(config.get("dtype"), f"The input {name!r}")
    return keras.Input(batch_shape=tuple(shape), dtype=kind, name=name, sparse=bool(config.get("sparse")))


class _Nodes:
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


def _functional(name: str, config: Mapping[str, Any]) -> keras.Model:
    model_class = keras.Model if name in MODELS else registered(name)
    if model_class is None:
        raise LoadError(
            f"The model is of a class of its own, {name!r}, and none is registered under that name.",
            expected="a Sequential or functional model, or a registered subclass",
            received=f"the class {name!r}",
            remedy=REGISTER.format(name=name.rpartition(">")[2]),
        )
    nodes = _Nodes(config["layers"])
    pending: list[tuple[str, int, Any]] = []
    for layer_name, entry in nodes.entries.items():
        if entry["class_name"] == "InputLayer":
            nodes.outputs[layer_name, 0] = [_input({**entry["config"], "name": layer_name})]
        else:
            nodes.layers[layer_name] = made(entry)
            pending += [(layer_name, number, node) for number, node in enumerate(entry["inbound_nodes"])]
    while pending:
        later = []
        for layer_name, number, node in pending:
            at = nodes.first[layer_name] + number
            before = number == 0 or (layer_name, at - 1) in nodes.outputs
            if before and nodes.ready(node):
                nodes.outputs[layer_name, at] = _call(nodes, layer_name, node)
            else:
                later.append((layer_name, number, node))
        if len(later) == len(pending):
            raise LoadError(
                "The graph of the model is not whole.",
                expected="layers whose inputs are outputs of other layers, in no circle",
                received=f"{later[0][0]!r}, whose inputs {str(later[0][2])[:200]} are not there",
                remedy="The file is damaged: get it again.",
            )
        pending = later
    inputs, outputs = (_ends(nodes, config[key], key) for key in ("input_layers", "output_layers"))
    model = model_class(inputs=inputs, outputs=outputs, name=config.get("name"))
    if config.get("trainable") is False:
        model.trainable = False
    return model


def _ends(nodes: _Nodes, references: Any, what: str) -> Any:
    if not nodes.ready(references):
        raise LoadError(
            "The graph of the model is not whole.",
            expected=f"{what} that are outputs of its layers",
            received=str(references)[:200],
            remedy="The file is damaged: get it again.",
        )
    return _one(nodes.resolved(references))


def _one(value: Any) -> Any:
    return value[0] if isinstance(value, (list, tuple)) and len(value) == 1 else value


def _call(nodes: _Nodes, name: str, node: Any) -> list[Any]:
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
    inputs = _one(nodes.resolved(references))
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
        raise _unfit(layer, error) from error


def _mask(sequence: Any) -> dict[str, Any]:
    """Return the mask of a sequence as an argument, which Keras 3 does not hand on where there is a state, too."""
    mask_of = MaskOf()
    mask = mask_of(sequence)
    return {"mask": mask} if mask_of.found else {}


def _arguments(nodes: _Nodes, node: Any) -> tuple[Any, dict[str, Any]]:
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
