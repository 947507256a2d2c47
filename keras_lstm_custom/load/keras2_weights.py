"""The weights of an .h5 file of Keras 2 into a model of Keras 3."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import h5py
import keras
import numpy as np

from keras_lstm_custom.errors import LoadError
from keras_lstm_custom.load import hdf5
from keras_lstm_custom.load.keras2_graph import safe_name

#: What is among the weights of a layer of Keras 3, and was not in Keras 2: the state of a stateful layer.
STATES = ("rnn_state",)
#: Names that weights had in other classes.
OTHER_NAMES = {f"{word}_gate_peephole_weights": f"peephole_{word[0]}" for word in ("input", "forget", "output")}
RECURRENT = ("kernel", "recurrent_kernel", "bias")


def set_weights(model: keras.Model, weights: h5py.Group) -> None:
    """Give every layer of `model` its arrays.

    A layer gets those of the file's layer of its name, if the two have the same names; else layers with weights are
    paired in their order. Inside a layer the names decide, and where these are others, the order. All is checked before
    anything is set.

    Raises:
        LoadError: the layers, or the shapes, do not fit.
    """
    saved = [name for name in hdf5.texts(weights, "layer_names") or [] if _names(weights, name)]
    ours = {layer.name: layer for layer in model.layers if _variables(layer)}
    if {safe_name(name) for name in saved} == set(ours) and len(saved) == len(ours):
        pairs = [(ours[safe_name(name)], name) for name in saved]
    elif len(saved) == len(ours):
        pairs = list(zip(ours.values(), saved, strict=True))
    else:
        raise LoadError(
            "The file has weights for another number of layers than the model.",
            expected=f"{len(ours)} layer(s): {', '.join(ours)}",
            received=f"{len(saved)} layer(s): {', '.join(saved)}",
            remedy="Give the model whose weights they are.",
        )
    found = [pair for layer, name in pairs for pair in _of_layer(layer, name, weights)]
    for variable, value in found:
        variable.assign(value)
    for layer, _ in pairs:
        if hasattr(layer, "finalize_state"):
            layer.finalize_state()


def _names(weights: h5py.Group, layer: str) -> list[str]:
    return hdf5.texts(hdf5.group(weights, layer), "weight_names") or []


def _variables(layer: keras.Layer) -> list[Any]:
    """Return the weights of a layer in the order of Keras 2: trainable ones first."""
    both = [*layer.trainable_weights, *layer.non_trainable_weights]
    return [variable for variable in both if variable.name not in STATES]


def _of_layer(layer: keras.Layer, name: str, weights: h5py.Group) -> list[tuple[Any, np.ndarray]]:
    variables, names = _variables(layer), _names(weights, name)
    arrays = [hdf5.array(hdf5.group(weights, name), each) for each in names]
    if len(arrays) != len(variables):
        raise _mismatch(layer, name, variables, names, arrays)
    order = _order([variable.name for variable in variables], [_leaf(each) for each in names])
    names, arrays = [names[n] for n in order], [arrays[n] for n in order]
    values = _from_cudnn(variables, arrays)
    if any(tuple(variable.shape) != value.shape for variable, value in zip(variables, values, strict=True)):
        raise _mismatch(layer, name, variables, names, arrays)
    return list(zip(variables, values, strict=True))


def _leaf(name: str) -> str:
    """Return the last part of a weight's name: "lstm_1/lstm_cell/kernel_1:0" is a kernel."""
    leaf = re.sub(r"(_\d+)?(:\d+)?$", "", name.rpartition("/")[2])
    return OTHER_NAMES.get(leaf, leaf)


def _order(expected: Sequence[str], saved: Sequence[str]) -> list[int]:
    """Return which of the saved arrays belongs to each weight: the next of its name, or if names differ the next."""
    if Counter(expected) != Counter(saved):
        return list(range(len(saved)))
    places: dict[str, list[int]] = {}
    for place, name in enumerate(saved):
        places.setdefault(name, []).append(place)
    return [places[name].pop(0) for name in expected]


def _from_cudnn(variables: Sequence[Any], arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return the arrays with those of CuDNNLSTM and CuDNNGRU, known by the length of their bias, in Keras' layout."""
    values = list(arrays)
    for n in range(len(variables) - 2):
        kernel, recurrent, bias = values[n : n + 3]
        packed = recurrent.shape[-1] if recurrent.ndim == 2 else 0
        names = tuple(variable.name for variable in variables[n : n + 3])
        if names == RECURRENT and bias.shape == (2 * packed,) and kernel.ndim == 2:
            gates = packed // recurrent.shape[0]
            values[n] = np.hstack([part.T.reshape(part.shape, order="F") for part in np.hsplit(kernel, gates)])
            values[n + 1] = np.hstack([part.T for part in np.hsplit(recurrent, gates)])
            values[n + 2] = bias.reshape(2, packed)
            if variables[n + 2].shape == (packed,):
                values[n + 2] = values[n + 2].sum(axis=0)
    return values


def _mismatch(layer: Any, name: str, variables: Sequence[Any], names: Sequence[str], arrays: Sequence[np.ndarray]):
    is_gru = any(variable.name == "bias" and len(variable.shape) == 2 for variable in variables)
    return LoadError(
        f"The weights of {name!r} do not fit the layer {layer.name!r} ({type(layer).__name__}).",
        expected=", ".join(f"{variable.name} {tuple(variable.shape)}" for variable in variables),
        received=", ".join(f"{each} {array.shape}" for each, array in zip(names, arrays, strict=True)),
        remedy="Give the model whose weights they are."
        + (" A GRU of Keras 2.2 has reset_after=False." if is_gru else ""),
    )
