"""`to_torch`: recurrent layers as modules of torch, with their weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_lstm_custom.cells.as_ours import as_ours
from keras_lstm_custom.cells.equations_of import changed_methods
from keras_lstm_custom.equations import gru_step, lstm_step, rnn_step
from keras_lstm_custom.errors import ConversionError, LoadError
from keras_lstm_custom.load.torch import GRU, LSTM, RNN, Module


class Row(NamedTuple):
    """A cell that torch has."""

    layer: str  #: the module of a layer
    cell: str  #: and that of the cell alone
    module: Module


#: By the function of `equations` that the cell names.
ROWS = {
    lstm_step: Row("LSTM", "LSTMCell", LSTM),
    gru_step: Row("GRU", "GRUCell", GRU),
    rnn_step: Row("RNN", "RNNCell", RNN),
}
EXPECTED = (
    "an LSTM (plain or with a projection), a GRU with reset_after=True or a vanilla RNN of this package or of Keras, "
    "its cell, a Bidirectional with merge_mode='concat' of two of them, or a Sequential of such layers of one size"
)


def to_torch(layer: keras.Layer) -> Any:
    """Return a torch module with the weights of recurrent layers: the inverse of `load.torch`.

    A layer becomes `nn.LSTM`, `nn.GRU` or `nn.RNN` with `batch_first=True`, which returns all steps and the state,
    whatever `return_sequences` says; a Sequential becomes one with as many layers, its `Dropout` between layers the
    module's; a cell becomes `nn.LSTMCell`, `GRUCell` or `RNNCell`.

    Args:
        layer: built; it is left as it is.

    Returns:
        A module whose layers read `(batch, timesteps, features)`, and whose cells read `(batch, features)`.

    Raises:
        ConversionError: torch has no module that computes the same; the message says what is in the way.
        LoadError: torch is not installed.
    """
    try:
        from torch import nn
    except ImportError as error:
        raise LoadError(
            "torch is not installed.", expected="torch", received=str(error), remedy="pip install torch"
        ) from error
    _check_built(layer)
    if not isinstance(layer, (keras.Sequential, keras.layers.RNN, keras.layers.Bidirectional)):
        row, options, weights = _cell(layer, layer.name)
        if "proj_size" in options:
            raise _refused(layer.name, "a cell with a projection, which torch's LSTMCell has not")
        module = getattr(nn, row.cell)(**options)
        return _filled(module, weights)
    stack, dropout = _stack(layer)
    cells = [[_cell(one.cell, one.name) for one in pair] for pair in stack]
    row, options, _ = cells[0][0]
    width = len(stack[0])
    for number, pair in enumerate(cells):
        for name, (row_here, here, _) in zip((one.name for one in stack[number]), pair, strict=True):
            size = options["input_size"] if number == 0 else options.get("proj_size", options["hidden_size"]) * width
            if (row_here, here) != (row, {**options, "input_size": size}) or len(pair) != width:
                raise _refused(name, f"{row_here.layer} {here} behind {row.layer} {options}")
    module = getattr(nn, row.layer)(
        **options, num_layers=len(stack), bidirectional=width == 2, batch_first=True, dropout=dropout
    )
    weights = {
        f"{name}_l{number}{end}": array
        for number, pair in enumerate(cells)
        for end, (_, _, arrays) in zip(("", "_reverse"), pair, strict=False)
        for name, array in arrays.items()
    }
    return _filled(module, weights)


def _stack(layer: keras.Layer) -> tuple[list[list[Any]], float]:
    """Return the layers, each of one or two directions, and the rate of the dropout between them."""
    layers = list(layer.layers) if isinstance(layer, keras.Sequential) else [layer]
    between = [one for one in layers[1:-1] if type(one) is keras.layers.Dropout]
    rates = {one.rate for one in between}
    recurrent = [one for one in layers if one not in between]
    if len(rates) > 1 or (rates and len(between) != len(recurrent) - 1):
        raise _refused(layer.name, "Dropout that is not the same between any two layers")
    for one in recurrent[:-1]:
        if not getattr(one, "return_sequences", False):
            raise _refused(one.name, f"{type(one).__name__} without return_sequences=True before another layer")
    return [_directions(one) for one in recurrent], float(next(iter(rates), 0.0))


def _directions(layer: keras.Layer) -> list[Any]:
    if isinstance(layer, keras.layers.Bidirectional):
        if layer.merge_mode != "concat":
            raise _refused(layer.name, f"merge_mode={layer.merge_mode!r}")
        pair = [layer.forward_layer, layer.backward_layer]
    else:
        pair = [layer]
    for one, backwards in zip(pair, (False, True), strict=False):
        if not isinstance(one, keras.layers.RNN):
            raise _refused(one.name, f"a {type(one).__name__}")
        if one.go_backwards is not backwards:
            raise _refused(one.name, f"go_backwards={one.go_backwards}")
    return pair


def _cell(cell: Any, name: str) -> tuple[Row, dict[str, Any], dict[str, np.ndarray]]:
    """Return the row of a cell, the arguments of torch's module, and its weights by torch's names."""
    ours = as_ours(cell)
    row = ROWS.get(ours.equation) if ours is not None and ours.equation else None
    if ours is None or row is None or changed_methods(ours):
        raise _refused(name, f"a {type(cell).__name__}")
    options: dict[str, Any] = {"input_size": ours.kernel.shape[0], "hidden_size": ours.units}
    options["bias"] = ours.bias is not None
    features = ours.features - {"projection"}
    if features:
        raise _refused(name, ", ".join(o if "=" in o else f"{o}={getattr(ours, o)!r}" for o in sorted(features)))
    if "projection" in ours.features:
        options["proj_size"] = ours.projection
        if ours.projection == ours.units:
            raise _refused(name, "a projection as wide as the units")
    _check_functions(ours, row.module, name, options)
    return row, options, _arrays(ours, row.module.order)


def _check_functions(cell: Any, module: Module, name: str, options: dict[str, Any]) -> None:
    known = {option: keras.activations.get(option) for option in ("tanh", "relu", "sigmoid")}
    if module.names_function and cell.activation is known["relu"]:
        options["nonlinearity"] = "relu"
    elif cell.activation is not known["tanh"]:
        raise _refused(name, f"activation={keras.activations.serialize(cell.activation)!r}")
    gate = getattr(cell, "recurrent_activation", known["sigmoid"])
    if gate is not known["sigmoid"]:
        raise _refused(name, f"recurrent_activation={keras.activations.serialize(gate)!r}")


def _arrays(cell: Any, blocks: Sequence[int]) -> dict[str, np.ndarray]:
    def theirs(weight: Any) -> np.ndarray:
        parts = np.split(ops.convert_to_numpy(weight), len(blocks), axis=-1)
        return np.concatenate([parts[blocks.index(n)] for n in range(len(blocks))], axis=-1).T

    arrays = {"weight_ih": theirs(cell.kernel), "weight_hh": theirs(cell.recurrent_kernel)}
    if cell.bias is not None:
        bias = theirs(cell.bias).T
        arrays["bias_ih"], arrays["bias_hh"] = bias if bias.ndim == 2 else (bias, np.zeros_like(bias))
    if cell.output_kernel is not None:
        arrays["weight_hr"] = ops.convert_to_numpy(cell.output_kernel).T
    return arrays


def _filled(module: Any, weights: Mapping[str, np.ndarray]) -> Any:
    import torch

    module.load_state_dict({name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in weights.items()})
    return module


def _check_built(layer: Any) -> None:
    if not isinstance(layer, keras.Layer) or not layer.built:
        raise ConversionError(
            "Only what has weights can be given to torch.",
            expected=EXPECTED,
            received="a layer that is not built" if isinstance(layer, keras.Layer) else type(layer).__name__,
            remedy="Call it once on data, or layer.build((None, None, features)).",
        )


def _refused(name: str, received: str) -> ConversionError:
    return ConversionError(
        f"torch has no module that computes what {name!r} does.",
        expected=EXPECTED,
        received=received,
        remedy="Write the model for ONNX (export.onnx), or give its recurrent layers one by one.",
    )
