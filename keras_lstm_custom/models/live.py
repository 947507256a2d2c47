"""Serialised forms that refer to what is live in this process, so that nothing in them needs to be registered.

A configuration names a class or a function, and Keras finds it by that name only if it is Keras' own or was
registered. The source is at hand, however: here each name of what is neither stands for the live object itself,
also for a lambda, whose globals a configuration loses.
"""

from __future__ import annotations

import re
import types
import warnings
from collections.abc import Callable
from typing import Any

import keras

from keras_lstm_custom.errors import ConversionError, RecurrentError
from keras_lstm_custom.models.walk import walk

FUNCTIONS = ("function", "__lambda__")  #: what Keras writes as the class of a function
#: Keys of a configuration whose object goes by another name on the layer that it is the configuration of.
OTHER_NAMES = {"layer": "forward_layer"}


def copied(source: Any, rewrite: Callable[[dict], dict] | None = None) -> Any:
    """Return an object made from the serialised form of `source`, with `rewrite` applied to every object in it.

    Nothing of how a model was compiled is in it.

    Args:
        source: a layer, model, optimizer or metric.
        rewrite: takes and returns the serialised form of one object (`class_name`, `config`, ...), inner ones first.

    Raises:
        ConversionError: it cannot be serialised, or not be made again from that.
    """
    try:
        return _made_again(source, rewrite)
    except RecurrentError:
        raise
    except Exception as error:  # whatever a layer's own get_config, from_config, build or call throws
        raise _at_fault(source, error) from error


def address(object_class: type) -> dict[str, Any]:
    """Return the part of a serialised object that says which class it is, for a registered class."""
    return {
        "module": object_class.__module__,
        "class_name": object_class.__name__,
        "registered_name": keras.saving.get_registered_name(object_class),
    }


def _made_again(source: Any, rewrite: Callable[[dict], dict] | None = None) -> Any:
    names: dict[str, Any] = {}
    with warnings.catch_warnings():  # that a lambda is code: it is the live model's own
        warnings.filterwarnings("ignore", message="(?s).*lambda.*")
        entry = _bound(keras.saving.serialize_keras_object(source), source, names)
    with keras.saving.custom_object_scope(names):
        # Safe mode guards against code in a foreign file.
        return keras.saving.deserialize_keras_object(_rewritten(entry, rewrite), safe_mode=False)


def _bound(node: Any, live: Any, names: dict[str, Any]) -> Any:
    """Return a serialised form in which unregistered names stand for what they name in the live object."""
    if isinstance(node, (list, tuple)):
        parts = list(live) if isinstance(live, (list, tuple)) and len(live) == len(node) else [None] * len(node)
        return type(node)(_bound(part, of, names) for part, of in zip(node, parts, strict=True))
    if not isinstance(node, dict):
        return node
    if "class_name" not in node and isinstance(live, types.FunctionType):  # how Keras writes a lambda as an activation
        return _function(live, names)
    if node.get("class_name") in FUNCTIONS and "config" in node:
        return _bound_function(node, live, names)
    if "class_name" not in node or "config" not in node:
        inside = live if isinstance(live, dict) else {}
        return {key: _bound(value, inside.get(key), names) for key, value in node.items()}
    if type(live).__name__ != node["class_name"]:
        live = None  # what is at that name is another thing
    node = {key: value for key, value in node.items() if key != "compile_config"}
    if live is not None and _needs_a_name(type(live), node):
        node["registered_name"] = _name_for(type(live), names)
    if live is not None:
        for value in vars(live).values() if hasattr(live, "__dict__") else ():
            _remember(value, names)
    if isinstance(node["config"], dict):
        node["config"] = {key: _bound(value, _part(live, key, value), names) for key, value in node["config"].items()}
    return node


def _part(live: Any, key: str, value: Any) -> Any:
    """Return what a value in the configuration of `live` stands for."""
    if live is None or not isinstance(value, (dict, list, tuple)):
        return None
    if isinstance(live, keras.Model) and key == "layers":
        by_name = {layer.name: layer for layer in getattr(live, "operations", ())}
        if by_name:
            return [by_name.get(entry["name"]) for entry in value]
        return [*[None] * (len(value) - len(live.layers)), *live.layers]  # a Sequential, maybe with its InputLayer
    part = getattr(live, key, None)
    return part if part is not None or key not in OTHER_NAMES else getattr(live, OTHER_NAMES[key], None)


def _bound_function(node: dict, live: Any, names: dict[str, Any]) -> dict:
    if not isinstance(live, types.FunctionType) or str(node.get("module")).startswith("keras"):
        return node
    return _function(live, names)


def _function(live: Any, names: dict[str, Any]) -> dict:
    name = _name_for(live, names)
    return {"module": None, "class_name": "function", "config": name, "registered_name": name}


def _needs_a_name(live_class: type, node: dict) -> bool:
    """Say whether Keras would not find the class by itself: it is neither Keras' own nor registered."""
    registered = node.get("registered_name")
    return registered is not None and keras.saving.get_registered_object(registered) is not live_class


def _name_for(live: Any, names: dict[str, Any]) -> str:
    name = f"keras_lstm_custom.live>{live.__name__}>{id(live)}"
    names[name] = live
    return name


def _remember(value: Any, names: dict[str, Any]) -> None:
    """Let a function, or the class of an object, be found by its own name, too: some are held by private names only."""
    named = value if isinstance(value, types.FunctionType) else type(value)
    is_keras = str(named.__module__).startswith(("keras.", "builtins"))
    if not is_keras and (named is value or hasattr(named, "from_config")):
        names.setdefault(named.__name__, named)


def _rewritten(node: Any, rewrite: Callable[[dict], dict] | None) -> Any:
    """Apply `rewrite` to every serialised object in `node`, inner ones first."""
    if rewrite is None:
        return node
    if isinstance(node, dict):
        node = {key: _rewritten(value, rewrite) for key, value in node.items()}
        return rewrite(node) if "class_name" in node and "config" in node else node
    if isinstance(node, (list, tuple)):
        return type(node)(_rewritten(value, rewrite) for value in node)
    return node


def _at_fault(source: Any, error: Exception) -> ConversionError:
    """Return an error that names the innermost layer that cannot be made from its own configuration."""
    inner = list(walk(source)) if isinstance(source, keras.Layer) else []
    for place, layer in reversed(inner):
        try:
            _made_again(layer)
        except Exception as own:  # as in `copied`
            return _error(f"The layer {place!r} ({type(layer).__name__})", own)
    return _error(f"{source.name!r} ({type(source).__name__})", error)


def _error(what: str, error: Exception) -> ConversionError:
    return ConversionError(
        f"{what} cannot be made again from its configuration.",
        expected="a `get_config` that returns what its class is made with",
        received=f"{type(error).__name__}: {reason(error)}",
        remedy="Write `get_config` (and `from_config`, if an argument is an object), as for saving by Keras.",
    )


def reason(error: BaseException) -> str:
    """Return in one line what an error of Keras says, without what it passed through and its arguments."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).split("Exception encountered:")[-1]
    return " ".join(text.split("Arguments received by")[0].split())[:300]
