"""Layers of Keras 3 from configurations of Keras 2, recurrent ones as ours."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import keras

from keras_lstm_custom.cells import GRUCell, LSTMCell, VanillaRNNCell
from keras_lstm_custom.errors import LoadError
from keras_lstm_custom.layers import GRU, LSTM, VanillaRNN
from keras_lstm_custom.load.keras2_objects import REGISTER, dtype, registered, value_of
from keras_lstm_custom.models.live import reason

CUDNN = {"activation": "tanh", "recurrent_activation": "sigmoid"}
#: What a class of Keras 2 is here, and the arguments that its name stands for.
CLASSES: dict[str, tuple[type, dict[str, Any]]] = {
    "LSTM": (LSTM, {}),
    "GRU": (GRU, {"reset_after": False}),  # the default of those that do not say it
    "SimpleRNN": (VanillaRNN, {}),
    "CuDNNLSTM": (LSTM, CUDNN),
    "CuDNNGRU": (GRU, {**CUDNN, "reset_after": True}),
    "LSTMCell": (LSTMCell, {}),
    "GRUCell": (GRUCell, {"reset_after": False}),
    "SimpleRNNCell": (VanillaRNNCell, {}),
    "Addons>PeepholeLSTMCell": (LSTMCell, {"peepholes": True}),
    "Addons>LayerNormLSTMCell": (LSTMCell, {"layer_normalization": "addons"}),
}
#: Layers of Keras that run code or read files that their configuration names.
CODE = ("Lambda", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer")
OPS = ("TFOpLambda", "SlicingOpLambda", "TensorFlowOpLayer", "ClassMethod", "InstanceMethod", "InstanceProperty")
#: Arguments that changed their name.
RENAMED = {("LeakyReLU", "alpha"): "negative_slope"}
#: Arguments of Keras 2 that say nothing of what a layer computes, or what its shape says already.
DROPPED = {
    *("batch_input_shape", "batch_size", "input_shape", "input_dtype", "implementation", "input_length", "fused"),
    *("optional", "build_input_shape", "query_shape", "key_shape", "value_shape", "autocast", "reverse_state_order"),
    *("virtual_batch_size", "input_spec"),
}
#: Arguments whose one value is what Keras 3 does.
ONLY = {"time_major": False, "ragged": False, "causal": False, "norm_epsilon": 1e-3, "groups": 1}
#: Arguments that every layer takes.
COMMON = ("name", "trainable", "dtype", "activity_regularizer")
REMEDIES = {
    "time_major": "The layer reads (timesteps, batch, features), which Keras 3 has not: build the same model with "
    "time_major=False where it was made (the weights are the same), and save it again.",
    "ragged": "Pad the sequences, and mask what was padded: keras.layers.Masking.",
}

Nested = Callable[[Mapping[str, Any]], Any]


def layer_of(entry: Mapping[str, Any], nested: Nested) -> Any:
    """Return the layer (or cell) of one entry `{"class_name": ..., "config": {...}}`, without weights.

    Args:
        entry: decoded JSON.
        nested: makes what is inside it: layers, cells, models.

    Raises:
        LoadError: it holds code, is of an unknown class, or has an argument that cannot be carried over.
    """
    name, config = str(entry["class_name"]), dict(entry["config"])
    where = f"The layer {config.get('name', '')!r} ({name})"
    _check_code(name, config, where)
    try:
        return _made(name, config, where, nested)
    except LoadError:
        raise
    except Exception as error:  # whatever the constructor of a layer throws
        raise LoadError(
            f"{where} cannot be made from its configuration.",
            expected="arguments that the layer of this name takes in Keras 3",
            received=f"{type(error).__name__}: {reason(error)}",
            remedy="If the file is whole, build the model in Keras 3 and give it: load.keras2(path, model).",
        ) from error


def _made(name: str, config: dict[str, Any], where: str, nested: Nested) -> Any:
    own = registered(name)
    if own is not None:
        kept = {key: value for key, value in config.items() if key not in DROPPED}
        return own.from_config({key: dtype(v, where) if key == "dtype" else v for key, v in kept.items()})
    layer_class: Any
    layer_class, implied = CLASSES.get(name, (getattr(keras.layers, name, None), {}))
    if not inspect.isclass(layer_class) or not issubclass(layer_class, keras.layers.Layer):
        raise LoadError(
            f"{where} is a custom layer, and no class is registered for it.",
            expected="layers of Keras, of TensorFlow Addons' two LSTM cells, and registered ones",
            received=f"the class {name!r}",
            remedy=REGISTER.format(name=name),
        )
    options = {**implied, **config}
    options = {RENAMED.get((name, key), key): value for key, value in options.items()}
    options = _known(layer_class, options, where)
    trainable = options.pop("trainable", True)  # some layers take no such argument
    layer: Any = layer_class(**{key: _argument(key, value, where, nested) for key, value in options.items()})
    if trainable is False:
        layer.trainable = False
    return layer


def _argument(key: str, value: Any, where: str, nested: Nested) -> Any:
    if key in ("layer", "backward_layer", "cell") and isinstance(value, Mapping):
        return nested(value)
    if key.endswith("activation") and isinstance(value, Mapping) and str(value.get("module")) == "keras.layers":
        return nested(value)  # a layer in the place of a function
    if key in ("cells", "cell") and isinstance(value, (list, tuple)):
        return [nested(cell) for cell in value]
    return value_of(key, value, where)


def _known(layer_class: type, options: dict[str, Any], where: str) -> dict[str, Any]:
    """Return the arguments that Keras 3 takes; what it does not know must be without effect."""
    taken = {*inspect.signature(layer_class).parameters, *COMMON} - {"batch_size", "input_shape"}
    if issubclass(layer_class, keras.layers.RNN):
        taken.add("zero_output_for_mask")
    kept = {}
    for key, value in options.items():
        if key in taken:
            kept[key] = value
        elif key in ONLY:
            if value != ONLY[key]:
                raise _refused(key, value, where)
        elif key not in DROPPED and not key.endswith("_initializer") and value not in (None, False):
            raise _refused(key, value, where)
    return kept


def _refused(key: str, value: Any, where: str) -> LoadError:
    return LoadError(
        f"{where} cannot be carried over.",
        expected=f"{key}={ONLY[key]!r}" if key in ONLY else f"no `{key}`, which Keras 3 does not know",
        received=f"{key}={value!r}"[:300],
        remedy=REMEDIES.get(key, "Build the layer without it where the model was made, and save the model again."),
    )


def _check_code(name: str, config: Mapping[str, Any], where: str) -> None:
    if name in OPS:
        operation = config.get("function") or config.get("name")
        raise LoadError(
            f"{where} is an operation of TensorFlow that was called on a layer's output.",
            expected="layers",
            received=f"the operation {operation!r}",
            remedy="Write a layer for it (keras.layers.Add, Multiply, Reshape, Rescaling) where the model was made, "
            "or build the model in Keras 3 and give it: load.keras2(path, model).",
        )
    if name in CODE:
        raise LoadError(
            f"{where} holds code, which is not run.",
            expected="layers without code of their own",
            received=f"a {name}",
            remedy="Put a layer of Keras, or a registered one, in its place and save the model again; or build the "
            "model in Keras 3, where the code is yours, and give it: load.keras2(path, model).",
        )
    for key in ("vocabulary", "idf_weights"):
        if isinstance(config.get(key), str):
            raise LoadError(
                f"{where} reads a file of its own, which is not opened.",
                expected="a vocabulary inside the model",
                received=f"{key}={config[key]!r}",
                remedy="Build the layer with the list itself.",
            )
