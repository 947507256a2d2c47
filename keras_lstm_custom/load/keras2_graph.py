"""Models of Keras 3 from the configurations of Keras 2: Sequential and functional ones, one in the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras

from keras_lstm_custom.errors import LoadError
from keras_lstm_custom.load.keras2_calls import Nodes, called, one, unfit
from keras_lstm_custom.load.keras2_layers import CLASSES, REMEDIES, layer_of
from keras_lstm_custom.load.keras2_objects import REGISTER, dtype, registered

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
        raise unfit(layer, error) from error


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


def _functional(name: str, config: Mapping[str, Any]) -> keras.Model:
    model_class = keras.Model if name in MODELS else registered(name)
    if model_class is None:
        raise LoadError(
            f"The model is of a class of its own, {name!r}, and none is registered under that name.",
            expected="a Sequential or functional model, or a registered subclass",
            received=f"the class {name!r}",
            remedy=REGISTER.format(name=name.rpartition(">")[2]),
        )
    nodes = Nodes(config["layers"])
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
                nodes.outputs[layer_name, at] = called(nodes, layer_name, node)
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


def _ends(nodes: Nodes, references: Any, what: str) -> Any:
    if not nodes.ready(references):
        raise LoadError(
            "The graph of the model is not whole.",
            expected=f"{what} that are outputs of its layers",
            received=str(references)[:200],
            remedy="The file is damaged: get it again.",
        )
    return one(nodes.resolved(references))
