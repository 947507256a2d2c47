"""Whole models between Keras' recurrent layers and ours: the same graph, names and weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import keras
from keras import ops

from keras_lstm_custom.cells import LSTMCell, VanillaRNNCell
from keras_lstm_custom.cells.equations_of import lost_by_rebuilding
from keras_lstm_custom.errors import ConversionError
from keras_lstm_custom.layers.lstm import LSTM
from keras_lstm_custom.layers.recurrent import OWN_OPTIONS
from keras_lstm_custom.layers.vanilla_rnn import VanillaRNN

#: Ours and Keras', class by class.
COUNTERPARTS: dict[type, type] = {
    LSTM: keras.layers.LSTM,
    LSTMCell: keras.layers.LSTMCell,
    VanillaRNN: keras.layers.SimpleRNN,
    VanillaRNNCell: keras.layers.SimpleRNNCell,
}
#: The cells that Keras' layers make for themselves.
CELLS: dict[type, type] = {keras.layers.LSTM: keras.layers.LSTMCell, keras.layers.SimpleRNN: keras.layers.SimpleRNNCell}


def from_keras(model: keras.Model) -> keras.Model:
    """Return a copy of `model` with Keras' LSTM and SimpleRNN layers and cells replaced by ours.

    Layers inside `Bidirectional`, `TimeDistributed`, `RNN`, `StackedRNNCells` and nested models are
    replaced too. Graph, names, weights, the states of stateful layers, and the compiled loss,
    metrics and optimizer (with its state) are kept: predictions and the next training step are the
    same.

    Args:
        model: a built Sequential or functional model; it is left as it is.

    Returns:
        A new model of the same kind.

    Raises:
        ConversionError: the model is subclassed, is not built, or holds what cannot be serialised.
    """
    return _convert(model, {theirs: ours for ours, theirs in COUNTERPARTS.items()})


def to_keras(model: keras.Model) -> keras.Model:
    """Return a copy of `model` with our layers and cells replaced by Keras' own; the inverse of `from_keras`.

    The option `engine` has no counterpart and is dropped.

    Args:
        model: a built Sequential or functional model; it is left as it is.

    Returns:
        A new model of the same kind.

    Raises:
        ConversionError: the model is subclassed, is not built, or holds what cannot be serialised.
    """
    return _convert(model, COUNTERPARTS)


def rebuild(model: keras.Model, rewrite: Callable[[dict], dict]) -> keras.Model:
    """Return a copy of `model` made from its serialised form, with `rewrite` applied to every object in it.

    Args:
        model: a built Sequential or functional model.
        rewrite: takes and returns the serialised form of one object (`class_name`, `config`, ...);
            it must not change which weights the object has, nor their order.

    Raises:
        ConversionError: the model is subclassed, is not built, or holds what cannot be serialised.
    """
    _check(model)
    try:
        serialised = _walk(keras.saving.serialize_keras_object(model), rewrite)
        # Safe mode guards against code in a foreign file; this code is the live model's own (a Lambda layer, say).
        copy = keras.saving.deserialize_keras_object(serialised, safe_mode=False)
    except (NotImplementedError, TypeError, ValueError) as error:
        raise ConversionError(
            f"The model {model.name!r} cannot be rebuilt from its configuration.",
            expected="layers and options that Keras can serialise",
            received=f"{type(error).__name__}: {error}",
            remedy="Register custom classes and functions with keras.saving.register_keras_serializable.",
        ) from error
    copy.set_weights(model.get_weights())
    _copy_optimizer(model, copy)
    return copy


def parts(layer: Any) -> Iterator[Any]:
    """Yield a layer or model and all that it holds in the public attributes of Keras' models, wrappers and RNNs."""
    yield layer
    for name in ("layers", "layer", "forward_layer", "backward_layer", "cell", "cells"):
        held = getattr(layer, name, ())
        for part in held if isinstance(held, (list, tuple)) else [held]:
            yield from parts(part)


def _convert(model: keras.Model, counterparts: dict[type, type]) -> keras.Model:
    """Exchange the layers, and bring along what Keras leaves out of configs and weights."""
    copy = rebuild(model, _exchange(counterparts))
    for source, target in zip(parts(model), parts(copy), strict=True):
        for option in ("use_cudnn", "implementation", "dropout_mask_count"):
            if hasattr(source, option):
                setattr(target, option, getattr(source, option))
        if getattr(source, "seed_generator", None) is not None:
            target.seed_generator.state.assign(ops.copy(source.seed_generator.state))
        for new, old in zip(getattr(target, "states", None) or (), getattr(source, "states", None) or (), strict=True):
            new.assign(ops.copy(old))
    return copy


def _exchange(counterparts: dict[type, type]) -> Callable[[dict], dict]:
    """Return a rewrite that turns objects of each class into objects of its counterpart."""
    table = {_identity(_address(source)): target for source, target in counterparts.items()}

    def rewrite(entry: dict) -> dict:
        target = table.get(_identity(entry))
        if target is None:
            return entry
        config = entry["config"]
        if target in COUNTERPARTS.values():
            config = {name: value for name, value in config.items() if name not in OWN_OPTIONS}
        return {**entry, **_address(target), "config": config}

    return rewrite


def _address(keras_class: type) -> dict:
    """Return the part of a serialised object that says which class it is."""
    if keras_class in COUNTERPARTS:
        registered = keras.saving.get_registered_name(keras_class)
        return {"module": keras_class.__module__, "class_name": keras_class.__name__, "registered_name": registered}
    return {"module": "keras.layers", "class_name": keras_class.__name__, "registered_name": None}


def _identity(entry: dict) -> tuple:
    return entry.get("registered_name") or (entry.get("module"), entry.get("class_name"))


def _walk(node: Any, rewrite: Callable[[dict], dict]) -> Any:
    """Apply `rewrite` to every serialised object in `node`, inner ones first."""
    if isinstance(node, dict):
        node = {key: _walk(value, rewrite) for key, value in node.items()}
        return rewrite(node) if "class_name" in node and "config" in node else node
    if isinstance(node, (list, tuple)):
        return type(node)(_walk(value, rewrite) for value in node)
    return node


def _copy_optimizer(model: keras.Model, copy: keras.Model) -> None:
    optimizer = getattr(model, "optimizer", None)
    if optimizer is not None and optimizer.built and getattr(copy, "optimizer", None) is not None:
        copy.optimizer.build(copy.trainable_variables)
        for target, source in zip(copy.optimizer.variables, optimizer.variables, strict=True):
            target.assign(ops.copy(source))  # a copy: JAX deletes a training step's old arrays


def _check(model: Any) -> None:
    if not isinstance(model, keras.Model) or (
        not isinstance(model, keras.Sequential) and not hasattr(model, "operations")
    ):
        raise ConversionError(
            "Only a model that is a graph of layers can be rebuilt; what a subclassed model does stands in its `call`.",
            expected="a keras.Sequential or a functional keras.Model",
            received=f"{type(model).__name__} ({type(model).__module__})",
            remedy="Use the layers of keras_lstm_custom in the model's own code.",
        )
    if not model.built:
        raise ConversionError(
            f"The model {model.name!r} has no weights yet.",
            expected="a built model",
            received="an unbuilt one",
            remedy="Give it an Input, call it once on data, or call model.build(input_shape).",
        )
    for part in parts(model):
        lost = lost_by_rebuilding(part)
        cell_class = CELLS.get(type(part)) or getattr(part, "cell_class", None)
        if cell_class is not None and type(part.cell) is not cell_class:
            lost = [f"cell ({type(part.cell).__name__})"]
        if lost:
            raise ConversionError(
                f"{part.name!r} was changed after it was made, and a copy of the model would not have the change.",
                expected="layers and cells that compute what their class says",
                received=f"{type(part).__name__} with its own {' and '.join(lost)}",
                remedy="Write a subclass that overrides the method (or names the `cell_class`), and register it with "
                "keras.saving.register_keras_serializable.",
            )
