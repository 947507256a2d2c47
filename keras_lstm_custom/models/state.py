"""What a layer is beyond its configuration: variables, assets, flags, kept states; brought from one to its copy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from keras_lstm_custom.errors import ConversionError
from keras_lstm_custom.models.live import reason
from keras_lstm_custom.models.walk import children
from keras_lstm_custom.writing import scratch

#: Options of recurrent layers and cells that Keras leaves out of its configurations.
UNSAVED_OPTIONS = ("use_cudnn", "implementation", "dropout_mask_count")

Twins = dict[int, Any]  #: the variable of the copy, by the `id` of that of the source


def copy_state(source: keras.Layer, target: keras.Layer) -> Twins:
    """Give `target`, made from the configuration of `source`, all that it keeps; return which variable became which.

    Values go straight from variable to variable, seeds of random masks, the states of stateful layers and each
    variable's own `trainable` included. What Keras' saving hands to a layer's own `load_own_variables` and
    `load_assets` is handed to it here, too: a vocabulary, say, or what a `Normalization` computes from its variables.

    Raises:
        ConversionError: the copy has other variables than its source.
    """
    twins: Twins = {}
    for place, old, new in pairs(source, target, target.name):
        try:
            _hand_over(old, new)
            for theirs, ours in _own_variables(old, new):
                if ours.shape != theirs.shape:
                    raise ValueError(f"{theirs.name} of shape {tuple(theirs.shape)}, now {tuple(ours.shape)}")
                ours.assign(ops.copy(theirs))  # a copy: JAX deletes a training step's old arrays
                twins[id(theirs)] = ours
        except Exception as error:  # whatever a layer's own loading throws
            raise ConversionError(
                f"The copy of the layer {place!r} ({type(old).__name__}) cannot take over its state.",
                expected="a layer made from `get_config` that has the variables of its source",
                received=f"{type(error).__name__}: {reason(error)}",
                remedy="Let `get_config` return all that decides which variables the layer makes.",
            ) from error
        _copy_options(old, new)
    _copy_flags(source, target, twins)
    return twins


def start_again(layer: Any) -> None:
    """Set the states of a stateful layer to zeros; of several cells, too, where Keras' `reset_state` raises."""
    if all(isinstance(state, keras.Variable) for state in layer.states or ()):
        layer.reset_state()
        return
    for state in tree.flatten(layer.states):
        state.assign(ops.zeros_like(state))


def pairs(source: keras.Layer, target: keras.Layer, place: str) -> Iterator[tuple[str, Any, Any]]:
    """Yield a layer and its copy, and so all layers inside them, each with its place.

    Where a copy holds other layers than its source (it was replaced by a wrapper, say), what is inside is not paired.
    """
    seen: set[int] = set()
    pending = [(place, source, target)]
    while pending:
        place, old, new = pending.pop(0)
        if id(old) in seen:
            continue
        seen.add(id(old))
        yield place, old, new
        inside, copies = children(old), children(new)
        if inside.keys() == copies.keys():
            pending[:0] = [(f"{place}/{child.name}", child, copies[step]) for step, child in inside.items()]


def _hand_over(old: keras.Layer, new: keras.Layer) -> None:
    """Let a layer load what it saves in a way of its own."""
    kind = type(new)
    if isinstance(old, kind) and kind.load_own_variables is not keras.Layer.load_own_variables:
        store: dict[str, Any] = {}
        old.save_own_variables(store)
        if store:
            new.load_own_variables({name: _array(value) for name, value in store.items()})
    if hasattr(old, "save_assets") and hasattr(new, "load_assets"):
        with scratch(ConversionError) as folder:
            old.save_assets(str(folder))
            new.load_assets(str(folder))


def _array(value: Any) -> np.ndarray:
    return ops.convert_to_numpy(value)  # NumPy takes no torch tensor that asks for a gradient: LoRA's kernel


def _own_variables(old: keras.Layer, new: keras.Layer) -> Iterator[tuple[Any, Any]]:
    """Pair the variables that stand in no layer inside: by name, or where names come twice by their order."""
    theirs, ours = _own(old, new), _own(new, old)
    if len(theirs) != len(ours):
        raise ValueError(f"{len(theirs)} variables ({_names(theirs)}), now {len(ours)} ({_names(ours)})")
    by_name = {variable.name: variable for variable in ours}
    if by_name.keys() == {variable.name for variable in theirs} and len(by_name) == len(ours):
        return ((variable, by_name[variable.name]) for variable in theirs)
    return zip(theirs, ours, strict=True)


def _own(layer: keras.Layer, other: keras.Layer) -> list[Any]:
    inside = children(layer)
    if inside.keys() != children(other).keys():
        return list(layer.variables)
    deeper = {id(variable) for child in inside.values() for variable in child.variables}
    return [variable for variable in layer.variables if id(variable) not in deeper]


def _names(variables: list[Any]) -> str:
    return ", ".join(variable.name for variable in variables)


def _copy_options(old: Any, new: Any) -> None:
    for option in UNSAVED_OPTIONS:
        if hasattr(old, option):
            setattr(new, option, getattr(old, option))
    kept, copies = tree.flatten(getattr(old, "states", None)), tree.flatten(getattr(new, "states", None))
    if len(kept) == len(copies):  # Keras does not count what a stateful layer keeps among the variables
        for state, copy in zip(kept, copies, strict=True):
            if state is not None and copy is not None:
                copy.assign(ops.copy(state))


def _copy_flags(source: keras.Layer, target: keras.Layer, twins: Twins) -> None:
    """Freeze what is frozen: layers from the outermost inwards, since each decides for those inside, then variables."""
    for _, old, new in pairs(source, target, ""):
        if new.trainable != old.trainable:
            new.trainable = old.trainable
    for variable in source.variables:
        twin = twins.get(id(variable))
        if twin is not None and twin.trainable != variable.trainable:
            twin.trainable = variable.trainable
