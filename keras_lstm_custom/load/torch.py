"""`torch`: the recurrent modules of torch, from a module or a dict of arrays."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_lstm_custom.errors import LoadError
from keras_lstm_custom.load.stack import Weights, sequential


class Module(NamedTuple):
    """A recurrent module of torch."""

    kind: str  #: a key of `stack.LAYERS`
    order: tuple[int, ...]  #: of the blocks of rows of its kernels, those here by their number there
    adds_biases: bool = True  #: its two biases add up to one
    projects: bool = False  #: it may have a projection
    names_function: bool = False  #: it may have another function than tanh


LSTM = Module("lstm", (0, 1, 2, 3), projects=True)
GRU = Module("gru", (1, 0, 2), adds_biases=False)
RNN = Module("rnn", (0,), names_function=True)
#: By how many blocks of rows the kernels have.
MODULES = {len(module.order): module for module in (LSTM, GRU, RNN)}
#: The names of one layer's weights: those of a cell have no layer.
NAME = re.compile(
    r"(?P<prefix>(?:.*\.)?)(?P<kind>weight_ih|weight_hh|bias_ih|bias_hh|weight_hr)(?P<layer>_l\d+(?:_reverse)?)?$"
)
EXPECTED = "weight_ih_l0, weight_hh_l0, ... of nn.LSTM, nn.GRU or nn.RNN, or weight_ih, weight_hh, ... of a cell"


def torch(source: Any, prefix: str | None = None, return_sequences: bool = True) -> keras.Sequential:
    """Return the layers of a recurrent module of torch with its weights, as a Sequential of this package's layers.

    `nn.LSTM` (layers, both directions, `proj_size`), `nn.GRU`, `nn.RNN` and `nn.LSTMCell`, `GRUCell`, `RNNCell` are
    told apart by the shapes of their weights. The model reads `(batch, timesteps, features)`, whatever `batch_first`
    was; a cell becomes a layer that runs it over time. The initial state is zero. torch need not be installed for a
    dict.

    In both directions, `return_sequences=False` gives the last state of each, torch's `h_n`.

    Args:
        source: a module, or its `state_dict()`: tensors or arrays by name. Load a file by
            `torch.load(path, weights_only=True)`.
        prefix: of the names of the recurrent module inside a larger one, such as "encoder.lstm."; by default what all
            names begin with. Only what has it is loaded.
        return_sequences: whether the last layer returns all steps.

    Returns:
        A `keras.Sequential`; its output is `(batch, timesteps, directions * units)`, or `(batch, directions * units)`.

    Raises:
        LoadError: no recurrent module has such weights, or `prefix` does not say which of several is meant.
    """
    is_module = hasattr(source, "state_dict")
    arrays = _arrays(source.state_dict() if is_module else source)
    prefix, names = _named(arrays, prefix)
    module = _inner(source, prefix) if is_module else None
    layers = _layers(prefix, names, arrays)
    if MODULES[_blocks_of(layers[0][0])].names_function:
        function = getattr(module, "nonlinearity", None)
        if function is None:
            warnings.warn(
                "The weights of an nn.RNN do not say its nonlinearity: tanh is taken, which is its default. "
                "Give the module itself if it is another.",
                stacklevel=2,
            )
        layers = [
            (_with(forward, function), None if back is None else _with(back, function)) for forward, back in layers
        ]
    dropout = float(getattr(module, "dropout", 0.0) or 0.0)
    return sequential(layers, return_sequences=return_sequences, dropout=dropout)


def _with(weights: Weights, function: str | None) -> Weights:
    return weights._replace(options={**weights.options, "activation": function or "tanh"})


def _arrays(state: Any) -> dict[str, np.ndarray]:
    if not isinstance(state, Mapping):
        raise LoadError(
            "torch's weights are a dict by name.",
            expected="a module or its state_dict()",
            received=type(state).__name__,
            remedy="Of a file: load.torch(torch.load(path, weights_only=True)); a checkpoint may hold the weights "
            "under 'state_dict' or 'model'.",
        )
    found = {}
    for name, value in state.items():
        array = _array(value)
        if array is not None:
            found[str(name)] = array
    return found


def _array(value: Any) -> np.ndarray | None:
    """Return a tensor of any device and float type as an array, None for what is no array of floats."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = value.float() if value.is_floating_point() and value.element_size() < 4 else value
        value = value.numpy() if not value.is_quantized else None
    array = value if isinstance(value, (np.ndarray, list, tuple)) else None
    array = None if array is None else np.asarray(array)
    return array if array is not None and array.dtype.kind == "f" else None


def _named(arrays: Mapping[str, np.ndarray], prefix: str | None) -> tuple[str, list[str]]:
    """Return the prefix of the module that is meant, and the names of its weights."""
    found: dict[str, list[str]] = {}
    for name in arrays:
        match = NAME.match(name)
        if match:
            found.setdefault(match["prefix"], []).append(name)
    if prefix is not None:
        prefix = prefix if not prefix or prefix.endswith(".") else prefix + "."
        if prefix not in found:
            raise _no_module(arrays, f"nothing under the prefix {prefix!r}", list(found))
        others = [name for name in arrays if name.startswith(prefix) and name not in found[prefix]]
        if others:
            raise _no_module(arrays, f"weights that are no recurrent module's: {', '.join(others)[:300]}", list(found))
        return prefix, found[prefix]
    if not found:
        raise _no_module(arrays, _shapes(arrays), [])
    others = [name for name in arrays if not NAME.match(name)]
    if len(found) > 1 or others:
        raise _no_module(arrays, _shapes(arrays), list(found))
    return next(iter(found.items()))


def _no_module(arrays: Mapping[str, np.ndarray], received: str, prefixes: list[str]) -> LoadError:
    one = f"Say which: load.torch(..., prefix={next(iter(prefixes), '')!r}), and add the layers behind it to the model."
    return LoadError(
        "These are not the weights of one recurrent module."
        if prefixes
        else "These are no weights of a recurrent module.",
        expected=EXPECTED
        + (f"; here are some under the prefix(es) {', '.join(map(repr, prefixes))}" if prefixes else ""),
        received=received,
        remedy=one if prefixes else "Give the state_dict() of the nn.LSTM itself, without weight_norm or quantization.",
    )


def _shapes(arrays: Mapping[str, np.ndarray]) -> str:
    return ", ".join(f"{name} {array.shape}" for name, array in list(arrays.items())[:40]) or "no arrays"


def _inner(module: Any, prefix: str) -> Any:
    """Return the module under a prefix; wrappers such as DataParallel name theirs, too."""
    return module.get_submodule(prefix.removesuffix(".")) if prefix else module


def _layers(prefix: str, names: list[str], arrays: Mapping[str, np.ndarray]) -> list[tuple[Weights, Weights | None]]:
    by_layer: dict[str, dict[str, np.ndarray]] = {}
    for name in names:
        match = NAME.match(name)
        assert match is not None
        by_layer.setdefault(match["layer"] or "", {})[match["kind"]] = arrays[name]
    own = {name: arrays[name] for name in names}
    if set(by_layer) == {""}:
        expected: list[tuple[str, str | None]] = [("", None)]
    else:
        count = len({layer.removesuffix("_reverse") for layer in by_layer})
        both = any(layer.endswith("_reverse") for layer in by_layer)
        expected = [(f"_l{n}", f"_l{n}_reverse" if both else None) for n in range(count)]
    if {layer for pair in expected for layer in pair if layer is not None} != set(by_layer):
        raise _unfit(own, f"the layers {', '.join(sorted(by_layer))}")
    layers: list[tuple[Weights, Weights | None]] = [
        (_weights(by_layer[forward], own), None if backward is None else _weights(by_layer[backward], own))
        for forward, backward in expected
    ]
    width = layers[0][0].arrays["kernel"].shape[0]
    for pair in layers:
        given = [weights for weights in pair if weights is not None]
        if any(weights.arrays["kernel"].shape[0] != width or weights.kind != layers[0][0].kind for weights in given):
            raise _unfit(own, "layers that do not fit one another")
        width = sum(weights.arrays["recurrent_kernel"].shape[0] for weights in given)
    return layers


def _weights(parts: Mapping[str, np.ndarray], own: Mapping[str, np.ndarray]) -> Weights:
    """Return one layer in one direction from torch's arrays."""
    if not {"weight_ih", "weight_hh"} <= set(parts) or any(parts[p].ndim != 2 for p in ("weight_ih", "weight_hh")):
        raise _unfit(own, _shapes(own))
    kernel, recurrent, projection = parts["weight_ih"], parts["weight_hh"], parts.get("weight_hr")
    units = recurrent.shape[1] if projection is None else projection.shape[-1]
    known = MODULES.get(recurrent.shape[0] // units if recurrent.shape[0] % units == 0 else 0)
    biases = [parts[name] for name in ("bias_ih", "bias_hh") if name in parts]
    rows = recurrent.shape[0]
    fits = kernel.shape[0] == rows and len(biases) in (0, 2) and all(bias.shape == (rows,) for bias in biases)
    if projection is not None:
        fits = fits and known is not None and known.projects and projection.shape == (recurrent.shape[1], units)
    if known is None or not fits:
        raise _unfit(own, _shapes(own))

    def ours(array: np.ndarray) -> np.ndarray:
        blocks = np.split(array, len(known.order), axis=0)
        return np.concatenate([blocks[n] for n in known.order], axis=0).T

    arrays = {"kernel": ours(kernel), "recurrent_kernel": ours(recurrent)}
    if biases:
        both = np.stack([ours(bias) for bias in biases])
        arrays["bias"] = both.sum(axis=0) if known.adds_biases else both
    options: dict[str, Any] = {}
    if projection is not None:
        arrays["projection_kernel"], options["projection"] = projection.T, projection.shape[0]
    return Weights(known.kind, units, options, arrays)


def _blocks_of(weights: Weights) -> int:
    return weights.arrays["kernel"].shape[1] // weights.units


def _unfit(own: Mapping[str, np.ndarray], received: str) -> LoadError:
    shapes = _shapes(own)
    return LoadError(
        "The weights fit no recurrent module of torch.",
        expected="weight_hh of (4 H, H) for an LSTM, (3 H, H) for a GRU, (H, H) for an RNN, weight_ih and two biases "
        "of as many rows, layers _l0, _l1, ... each as wide as the one before gives out; weight_hr (R, H) if projected",
        received=received if received == shapes else f"{received}; {shapes}",
        remedy="Give the state_dict() of the nn.LSTM itself, whole; without weight_norm, pruning or quantization.",
    )
