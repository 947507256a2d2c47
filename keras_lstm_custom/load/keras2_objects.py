"""What stands in a configuration of Keras 2 beside layers: functions, initializers, regularizers, dtypes, tuples.

Nothing is imported by a name that a file says: a name is looked up in Keras' public lists, or among what the user
registered.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import keras

from keras_lstm_custom.activations import keras2_hard_sigmoid
from keras_lstm_custom.errors import LoadError

#: Functions whose numbers are others in Keras 3.
CHANGED = {"hard_sigmoid": keras2_hard_sigmoid}
#: The end of an argument's name, and where its values are found.
KINDS: dict[str, ModuleType] = {
    "_initializer": keras.initializers,
    "_regularizer": keras.regularizers,
    "_constraint": keras.constraints,
}
#: Old spellings of values.
RESPELLED = {("distribution", "normal"): "truncated_normal"}
REGISTER = (
    "Register it: @keras.saving.register_keras_serializable(package=...) on the class or function, under the name that "
    "the file says, or load inside keras.saving.custom_object_scope({{{name!r}: ...}})."
)


def decoded(value: Any) -> Any:
    """Return JSON with the marks that Keras 2 puts for what JSON lacks turned into what they stand for."""
    if isinstance(value, list):
        return [decoded(part) for part in value]
    if not isinstance(value, dict):
        return value
    if value.get("class_name") in ("__tuple__", "TensorShape") and "items" in value:
        return tuple(decoded(part) for part in value["items"])
    if value.get("type") == "ndarray" and "value" in value:
        return value["value"]
    return {key: decoded(part) for key, part in value.items()}


def registered(name: str) -> Any:
    """Return what the user registered under a name, with or without its package; or None."""
    return keras.saving.get_registered_object(name) or keras.saving.get_registered_object(f"Custom>{name}")


def unknown(what: str, name: str, where: str) -> LoadError:
    """Return the error for a class or function that nobody registered."""
    return LoadError(
        f"{where} needs {what} {name!r}, which is neither Keras' nor registered.",
        expected="layers and functions of Keras, and registered ones",
        received=f"{what} {name!r}",
        remedy=REGISTER.format(name=name.rpartition(">")[2]),
    )


def activation(value: Any, where: str) -> Any:
    """Return the function of an `activation`."""
    if value is None:
        return None
    if isinstance(value, Mapping):  # a function is named by its configuration; other forms hold its code
        is_function = value.get("class_name") == "function"
        value = value.get("config") if is_function else value.get("registered_name") or value
    if not isinstance(value, str) or "lambda" in value:
        raise LoadError(
            f"{where} has a function of its own that is stored as code.",
            expected="an activation with a name",
            received=str(value)[:100],
            remedy="Code in a file is not run. Write the function with a name, save the model with it where it was "
            "made, and register it here.",
        )
    if value in CHANGED:
        return CHANGED[value]
    if registered(value) is not None:
        return registered(value)
    try:
        return keras.activations.get(value)
    except ValueError as error:
        raise unknown("the function", value, where) from error


def value_of(key: str, value: Any, where: str) -> Any:
    """Return an argument of a layer from its JSON; nested layers are not looked after here."""
    if key.endswith("activation"):
        return activation(value, where)
    for end, module in KINDS.items():
        if key.endswith(end):
            return plain_object(module, value, where)
    if key == "dtype":
        return dtype(value, where)
    if key == "axis" and isinstance(value, (list, tuple)) and len(value) == 1:
        return value[0]
    if isinstance(value, Mapping) and "class_name" in value:
        raise unknown("the object", str(value["class_name"]), f"`{key}` of {where}")
    return value


def plain_object(module: ModuleType, value: Any, where: str) -> Any:
    """Return an initializer, regularizer, loss or the like from its name, or from its class and configuration."""
    if value is None or callable(value):
        return value
    name = value["class_name"] if isinstance(value, Mapping) else value
    own = registered(str(name))
    if not isinstance(value, Mapping):
        try:
            return own if own is not None else module.get(name)
        except ValueError as error:
            raise unknown("the object", str(name), where) from error
    found: Any = own or getattr(module, str(name).removeprefix("Custom>"), None)
    if not inspect.isclass(found):
        raise unknown("the object", str(name), where)
    config = value.get("config") or {}
    if own is not None:
        return own.from_config(config)
    config = {key: RESPELLED.get((key, v), v) if isinstance(v, str) else v for key, v in config.items()}
    taken = inspect.signature(found).parameters
    left = [key for key, v in config.items() if key not in taken and v not in (None, False) and key != "dtype"]
    if left:
        raise LoadError(
            f"{where} has a {name} with options that Keras 3 does not have.",
            expected=", ".join(taken),
            received=", ".join(f"{key}={config[key]!r}" for key in left),
            remedy="Change it where the model was made, and save it again.",
        )
    return found(**{key: v for key, v in config.items() if key in taken})


def dtype(value: Any, where: str) -> Any:
    """Return a dtype policy: its name, or a name in the place of `{"class_name": "Policy", ...}`."""
    if isinstance(value, Mapping):
        config = value.get("config") or {}
        name = config.get("name")
        if not isinstance(name, str):
            raise unknown("the dtype policy", str(value.get("class_name")), where)
        return name
    return value
