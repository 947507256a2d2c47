"""A copy of a whole model, with other layers in it."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import keras

from keras_lstm_custom.errors import ConversionError
from keras_lstm_custom.models.live import copied
from keras_lstm_custom.models.state import copy_state, pairs
from keras_lstm_custom.models.training import copy_training


def rebuild(
    model: keras.Model, rewrite: Callable[[dict], dict] | None = None, *, training: bool = False
) -> keras.Model:
    """Return a copy of `model` with `rewrite` applied to the serialised form of every object in it.

    The copy has all that its source keeps (see `copy_state`), and shares nothing with it that training changes. No
    class or function of the model needs to be registered.

    Args:
        model: a built Sequential or functional model.
        rewrite: takes and returns the serialised form of one object (`class_name`, `config`, ...), inner ones first;
            it must not change which variables the object has, nor their order.
        training: whether the copy is compiled as its source is, with the optimizer in the same state.

    Raises:
        ConversionError: the model is subclassed, is not built, or holds what cannot be made from its configuration.
    """
    check(model)
    copy = copied(model, rewrite)
    twins = copy_state(model, copy)
    if training:
        for _, old, new in pairs(model, copy, model.name):
            if isinstance(old, keras.Model):
                copy_training(old, new, twins)
    return copy


def plain_graph(model: keras.Model) -> keras.Model:
    """Return the `keras.Model` of the same layers for a functional model whose class makes them itself."""
    if is_graph(model) and _makes_its_layers(model):
        return keras.Model(model.inputs, model.outputs, name=model.name)
    return model


def is_graph(model: Any) -> bool:
    """Say whether what a model computes stands in its graph of layers, and not in a `call` of its own."""
    return isinstance(model, keras.Sequential) or (isinstance(model, keras.Model) and hasattr(model, "operations"))


def _makes_its_layers(model: keras.Model) -> bool:
    """Say whether it is a functional model whose class takes other arguments than inputs and outputs."""
    if isinstance(model, keras.Sequential) or type(model).__module__.startswith("keras."):
        return False
    try:
        return "layers" not in model.get_config()
    except NotImplementedError:  # Keras' own of a subclass, where an argument cannot be serialised
        return True


def _remedy(model: Any) -> str:
    if isinstance(model, str | os.PathLike):
        return "Load it first: model = keras.saving.load_model(path)."
    if isinstance(model, keras.layers.Layer) and not isinstance(model, keras.Model):
        return "Wrap it: keras.Sequential([keras.Input((timesteps, features)), layer])."
    return "Use the layers of keras_lstm_custom in the model's own code."


def check(model: Any) -> None:
    """Raise `ConversionError` unless the model can be rebuilt."""
    if not is_graph(model):
        raise ConversionError(
            "Only a model that is a graph of layers can be rebuilt; what a subclassed model does stands in its `call`.",
            expected="a keras.Sequential or a functional keras.Model",
            received=f"{type(model).__name__} ({type(model).__module__})",
            remedy=_remedy(model),
        )
    if not model.built:
        raise ConversionError(
            f"The model {model.name!r} has no weights yet.",
            expected="a built model",
            received="an unbuilt one",
            remedy="Give it an Input, call it once on data, or call model.build(input_shape).",
        )
    if _makes_its_layers(model):
        raise ConversionError(
            f"The layers of {model.name!r} are made by the constructor of its class, {type(model).__name__}, which "
            "would make the same ones again.",
            expected="a model that is made from its inputs and outputs",
            received=f"{type(model).__name__} ({type(model).__module__})",
            remedy="Convert its graph, keras.Model(model.inputs, model.outputs), or use other layers in that class.",
        )
