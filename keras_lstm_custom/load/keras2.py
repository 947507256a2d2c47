"""`keras2`: the .h5 files of Keras 2 and tf_keras."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import keras

from keras_lstm_custom.errors import DataError, LoadError
from keras_lstm_custom.load import hdf5
from keras_lstm_custom.load.keras2_graph import made
from keras_lstm_custom.load.keras2_objects import decoded
from keras_lstm_custom.load.keras2_training import compile_as
from keras_lstm_custom.load.keras2_weights import set_weights

WEIGHTS_ONLY = "It holds weights without a model: build the model in Keras 3 and give it: load.keras2(path, model)."


def keras2(path: str | os.PathLike, model: keras.Model | None = None) -> keras.Model:
    """Return the model of an .h5 file that Keras 2 (2.0 to 2.15) or tf_keras wrote, with its numbers.

    `LSTM`, `GRU`, `SimpleRNN`, `CuDNNLSTM`, `CuDNNGRU` and their cells, and the LSTM cells of TensorFlow Addons, become
    layers of this package, all else layers of `keras.layers`. `hard_sigmoid` is the old function,
    `activations.keras2_hard_sigmoid`. The model is compiled as it was; the optimizer starts anew. A `UserWarning` says
    what of the training configuration could not be read.

    The file is read by h5py alone: no code in it is run, no other file is opened. Layers of your own are found where
    Keras finds them: registered by `keras.saving.register_keras_serializable`, or in
    `keras.saving.custom_object_scope`.

    Args:
        path: a whole model, or with `model` also weights alone (`model.save_weights("x.h5")`).
        model: a built model; it gets the weights, and is returned. Nothing of it is changed if they do not fit.

    Returns:
        A compiled or uncompiled `keras.Model`, its inputs `(batch, ...)` as they were.

    Raises:
        LoadError: the file is none of that, is damaged, or holds what cannot be carried over; the message names it.
    """
    path = Path(os.path.expanduser(path))
    with hdf5.opened(path) as file:
        if model is not None:
            _check_built(model)
            set_weights(model, _weights(path, file))
            return model
        config = hdf5.json_of(file, "model_config")
        _check_is_model(path, file, config)
        weights = _weights(path, file)
        try:
            made_model = made(decoded(config))
            _check_made(made_model)
            set_weights(made_model, weights)
        except (KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
            received = f"a configuration that is no model's: {type(error).__name__}: {str(error)[:200]}"
            raise hdf5.refused(path, received, "It is damaged: get the file again.") from error
        training = hdf5.json_of(file, "training_config")
        has_optimizer = "optimizer_weights" in file
    _tell_of_names(config)
    if training is not None:
        _compile(made_model, decoded(training), has_optimizer)
    return made_model


def is_keras2(path: Path) -> bool:
    """Say whether a file is an .h5 file that says it was written by Keras 2 or tf_keras."""
    try:
        with hdf5.opened(path) as file:
            return _version(file).startswith("2.")
    except DataError:
        return False


def _version(file: h5py.File) -> str:
    for owner in (file, file.get("model_weights")):
        version = hdf5.text(owner, "keras_version") if isinstance(owner, h5py.Group) else None
        if version:
            return version
    return ""


def _weights(path: Path, file: h5py.File) -> h5py.Group:
    """Return the group that has the weights by layer."""
    weights = hdf5.group(file, "model_weights") if "model_weights" in file else file
    if hdf5.texts(weights, "layer_names") is None:
        keras3 = "layers" in file or "_layer_checkpoint_dependencies" in file
        raise hdf5.refused(
            path,
            "weights as Keras 3 writes them" if keras3 else "an HDF5 file without weights of Keras",
            "Build the model, and call model.load_weights(path)." if keras3 else "Check the path.",
        )
    return weights


def _check_is_model(path: Path, file: h5py.File, config: Any) -> None:
    version = _version(file)
    if version.startswith("3."):
        raise hdf5.refused(path, f"a model of Keras {version}", "keras.saving.load_model(path) reads it.")
    if version.startswith(("0.", "1.")):
        remedy = "Load it in Keras 2.2, which still reads it, and save it there."
        raise hdf5.refused(path, f"a model of Keras {version}", remedy)
    if config is None:
        _weights(path, file)
        raise hdf5.refused(path, "no model_config", WEIGHTS_ONLY)
    if not isinstance(config, Mapping) or "class_name" not in config or "config" not in config:
        raise hdf5.refused(path, "a model_config that is no model's", "It is damaged: get the file again.")


def _check_built(model: Any) -> None:
    if not isinstance(model, keras.Model) or not model.built:
        raise LoadError(
            "The weights need a model that has some.",
            expected="a built keras.Model",
            received="one that is not built" if isinstance(model, keras.Model) else type(model).__name__,
            remedy="Give it a keras.Input, or call model.build(input_shape).",
        )


def _check_made(model: Any) -> None:
    if not isinstance(model, keras.Model) or not model.built:
        raise LoadError(
            "The file does not say the shape of the model's input.",
            expected="a model that was built when it was saved",
            received=f"{getattr(model, 'name', '')!r} ({type(model).__name__})",
            remedy=WEIGHTS_ONLY.partition(": ")[2].capitalize(),
        )


def _layer_names(node: Any) -> Iterator[str]:
    if isinstance(node, Mapping):
        if "class_name" in node and isinstance(node.get("config"), Mapping) and "name" in node["config"]:
            yield str(node["config"]["name"])
        node = list(node.values())
    for part in node if isinstance(node, list) else ():
        yield from _layer_names(part)


def _tell_of_names(config: Any) -> None:
    renamed = sorted({name for name in _layer_names(config) if "/" in name})
    if renamed:
        warnings.warn(
            f"Keras 3 allows no '/' in names; it is '_' now in {', '.join(map(repr, renamed[:20]))}.", stacklevel=3
        )


def _compile(model: keras.Model, training: Mapping[str, Any], has_optimizer: bool) -> None:
    missing = compile_as(model, training)
    if missing:
        warnings.warn(
            f"The model is not compiled, for its training configuration cannot be read: {missing} "
            "Call model.compile(...) to train or evaluate it.",
            stacklevel=3,
        )
    elif has_optimizer:
        warnings.warn(
            "The optimizer starts anew: its settings were read, what it had gathered (momentum, variance) was not.",
            stacklevel=3,
        )
