"""How a model of Keras 2 was compiled, for Keras 3."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import keras

from keras_lstm_custom.errors import LoadError, RecurrentError
from keras_lstm_custom.load.keras2_objects import plain_object, registered, unknown
from keras_lstm_custom.models.live import reason

#: Options of optimizers that say nothing of what they do, or that Keras 3 knows by another name.
DROPPED = ("name", "jit_compile", "is_legacy_optimizer", "schedule_decay", "dtype")
RENAMED = {"lr": "learning_rate"}
SPELLINGS = {"adam": "Adam", "sgd": "SGD", "rmsprop": "RMSprop", "adagrad": "Adagrad", "nadam": "Nadam"}


def compile_as(model: keras.Model, training: Mapping[str, Any]) -> str:
    """Compile `model` as the decoded training configuration says; "" if that could be read, else why not.

    The optimizer starts anew: what it had gathered (momentum, variance) is in another order in each version.
    """
    try:
        arguments = {
            "optimizer": _optimizer(training["optimizer_config"]),
            "loss": _each(training.get("loss"), _loss),
            "metrics": _metrics(model, training.get("metrics")),
            "weighted_metrics": _metrics(model, training.get("weighted_metrics")),
            "loss_weights": training.get("loss_weights") or None,
        }
        model.compile(**arguments)
    except RecurrentError as error:
        return str(error).partition("\n")[0]
    except Exception as error:  # whatever a constructor of Keras throws
        return f"{type(error).__name__}: {reason(error)}"
    return ""


def _optimizer(entry: Mapping[str, Any]) -> Any:
    name = str(entry["class_name"]).removeprefix("Custom>")
    found = getattr(keras.optimizers, SPELLINGS.get(name, name), None) or registered(str(entry["class_name"]))
    if not inspect.isclass(found) or name == "LossScaleOptimizer":
        raise unknown("the optimizer", name, "The training configuration")
    taken = inspect.signature(found).parameters
    options = {RENAMED.get(key, key): value for key, value in entry["config"].items() if key not in DROPPED}
    decay, rate = options.pop("decay", 0.0), options.get("learning_rate")
    if decay and isinstance(rate, float):  # up to 2.10: learning_rate / (1 + decay * iterations)
        options["learning_rate"] = keras.optimizers.schedules.InverseTimeDecay(rate, 1, decay)
    left = [key for key, value in options.items() if key not in taken and value not in (None, False, 0, 0.0)]
    if left:
        raise LoadError(
            f"The optimizer {name} has options that Keras 3 does not have: {', '.join(left)}.",
            expected=", ".join(taken),
            received=", ".join(f"{key}={options[key]!r}" for key in left),
            remedy="Compile the model yourself.",
        )
    options = {key: value for key, value in options.items() if key in taken and value is not None}
    if isinstance(options.get("learning_rate"), Mapping):
        options["learning_rate"] = plain_object(keras.optimizers.schedules, options["learning_rate"], "The optimizer")
    return found(**options)


def _each(value: Any, one: Any) -> Any:
    """Apply `one` to each loss in lists and dicts by the names of outputs."""
    if isinstance(value, (list, tuple)):
        return [_each(part, one) for part in value]
    if isinstance(value, Mapping) and "class_name" not in value:
        return {key: _each(part, one) for key, part in value.items()}
    return one(value)


def _loss(value: Any) -> Any:
    if isinstance(value, Mapping):
        config = dict(value.get("config") or {})
        if config.get("reduction") == "auto":  # as Keras 3 takes it by default
            del config["reduction"]
        if value["class_name"] == "LossFunctionWrapper" or isinstance(config.get("fn"), str):
            return _loss(config["fn"])
        value = {**value, "config": config}
    return plain_object(keras.losses, value, "The loss")


def _metrics(model: keras.Model, value: Any) -> Any:
    if not value:
        return None
    if isinstance(value, (list, tuple)) and len(model.outputs) == 1 and isinstance(value[0], (list, tuple)):
        (value,) = value
    return _each(value, _metric)


def _metric(value: Any) -> Any:
    if value is None or value in ("accuracy", "acc", "crossentropy", "ce"):
        return value
    if isinstance(value, Mapping):
        config = dict(value.get("config") or {})
        if isinstance(config.get("fn"), str):
            function = plain_object(keras.metrics, config["fn"], "A metric")
            return keras.metrics.MeanMetricWrapper(fn=function, name=config.get("name"))
        value = {**value, "config": config}
    return plain_object(keras.metrics, value, "A metric")
