"""The weights of TensorFlow 1's cells, from the variables that each has in its scope."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from keras_lstm_custom.errors import LoadError
from keras_lstm_custom.load.stack import Weights

#: The scopes of TensorFlow's cells, and what they are here. Those of cuDNN had no forget_bias.
CELLS = {
    "basic_lstm_cell": "lstm",
    "lstm_cell": "lstm",
    "lstm_fused_cell": "lstm",
    "cudnn_compatible_lstm_cell": "lstm",
    "gru_cell": "gru",
    "gru_block_cell": "gru",
    "cudnn_compatible_gru_cell": "gru",
    "basic_rnn_cell": "rnn",
}
EXPECTED = "variables of a " + ", ".join(CELLS)


class Cell(NamedTuple):
    """Where a cell stands in a checkpoint."""

    root: str  #: the scope of the stack that it belongs to
    layer: int
    backward: bool
    name: str  #: a key of `CELLS`
    scope: str  #: the whole of it


def _lstm(cell: Cell, v: Mapping[str, np.ndarray], forget_bias: float) -> Weights:
    kernel = _needed(cell, v, "kernel")
    units = kernel.shape[1] // 4
    projection = v.get("projection/kernel")
    width = units if projection is None else projection.shape[1]
    bias = v.get("bias", np.zeros(4 * units, np.float32))
    if kernel.shape[1] != 4 * units or kernel.shape[0] <= width or bias.shape != (4 * units,):
        raise _unfit(cell, v)

    def ours(array: np.ndarray) -> np.ndarray:  # i, g, f, o
        i, g, f, o = np.split(array, 4, axis=-1)
        return np.concatenate([i, f, g, o], axis=-1)

    bias = ours(bias)
    if not cell.name.startswith("cudnn"):
        bias[units : 2 * units] += forget_bias
    arrays = {"kernel": ours(kernel[:-width]), "recurrent_kernel": ours(kernel[-width:]), "bias": bias}
    options: dict[str, Any] = {}
    if "w_i_diag" in v:
        options["peepholes"] = True
        arrays |= {f"peephole_{gate}": v[f"w_{gate}_diag"] for gate in "ifo"}
    if projection is not None:
        options["projection"] = width
        arrays["projection_kernel"] = projection
    return Weights("lstm", units, options, arrays)


def _gru(cell: Cell, v: Mapping[str, np.ndarray], forget_bias: float) -> Weights:
    gates, gates_bias = _needed(cell, v, "gates/kernel"), _needed(cell, v, "gates/bias")
    units = gates.shape[1] // 2
    reset_after = "candidate/hidden_projection/kernel" in v
    if reset_after:
        of_x, of_h = (_needed(cell, v, f"candidate/{part}_projection/kernel") for part in ("input", "hidden"))
        b_x, b_h = (_needed(cell, v, f"candidate/{part}_projection/bias") for part in ("input", "hidden"))
    else:
        candidate = _needed(cell, v, "candidate/kernel")
        of_x, of_h, b_x = candidate[:-units], candidate[-units:], _needed(cell, v, "candidate/bias")
    if gates.shape[0] != of_x.shape[0] + units or of_h.shape != (units, units):
        raise _unfit(cell, v)
    r, z = np.split(gates, 2, axis=-1)
    b_r, b_z = np.split(gates_bias, 2)
    bias = np.concatenate([b_z, b_r, b_x])
    arrays = {
        "kernel": np.concatenate([z[:-units], r[:-units], of_x], axis=-1),
        "recurrent_kernel": np.concatenate([z[-units:], r[-units:], of_h], axis=-1),
        "bias": np.stack([bias, np.concatenate([0 * b_z, 0 * b_r, b_h])]) if reset_after else bias,
    }
    return Weights("gru", units, {"reset_after": reset_after}, arrays)


def _rnn(cell: Cell, v: Mapping[str, np.ndarray], forget_bias: float) -> Weights:
    kernel, bias = _needed(cell, v, "kernel"), _needed(cell, v, "bias")
    units = kernel.shape[1]
    if kernel.shape[0] <= units or bias.shape != (units,):
        raise _unfit(cell, v)
    return Weights("rnn", units, {}, {"kernel": kernel[:-units], "recurrent_kernel": kernel[-units:], "bias": bias})


WEIGHTS = {"lstm": _lstm, "gru": _gru, "rnn": _rnn}


def _needed(cell: Cell, variables: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    if name not in variables:
        raise _unfit(cell, variables)
    return variables[name]


def _unfit(cell: Cell, variables: Mapping[str, np.ndarray]) -> LoadError:
    shapes = ", ".join(f"{name} {array.shape}" for name, array in variables.items()) or "nothing"
    return refused(f"{cell.scope}: {shapes}", "The checkpoint is of a cell with other weights, or not whole.")


def refused(received: str, remedy: str) -> LoadError:
    """Return the error for a checkpoint that cannot be loaded."""
    return LoadError("The checkpoint cannot be loaded.", expected=EXPECTED, received=received, remedy=remedy)
