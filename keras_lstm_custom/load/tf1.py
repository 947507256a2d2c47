"""`tf1`: the recurrent cells of TensorFlow 1 from a checkpoint."""

from __future__ import annotations

import math
import os
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_lstm_custom.array_files import check_memory
from keras_lstm_custom.errors import LoadError
from keras_lstm_custom.load.stack import Weights, sequential

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
#: Names that variables had before TensorFlow 1.2.
OLD_NAMES = {"weights": "kernel", "biases": "bias"}
#: Parts of a scope that say where in a stack a cell is.
STRUCTURE = re.compile(r"(multi_rnn_cell|cell_\d+|fw|bw|bidirectional_rnn|stack_bidirectional_rnn)$")
VARIABLES = {
    *("kernel", "bias", "w_i_diag", "w_f_diag", "w_o_diag", "projection/kernel"),
    *("gates/kernel", "gates/bias", "candidate/kernel", "candidate/bias"),
    *(f"candidate/{part}_projection/{name}" for part in ("input", "hidden") for name in ("kernel", "bias")),
}
EXPECTED = "variables of a " + ", ".join(CELLS)


class _Cell(NamedTuple):
    root: str  #: the scope of the stack that it belongs to
    layer: int
    backward: bool
    name: str  #: a key of `CELLS`
    scope: str  #: the whole of it


def tf1(
    checkpoint: str | os.PathLike,
    prefix: str | None = None,
    return_sequences: bool = True,
    *,
    forget_bias: float = 1.0,
    **options: Any,
) -> keras.Sequential:
    """Return the recurrent cells of a TensorFlow 1 checkpoint, as a Sequential model of this package's layers.

    `BasicLSTMCell`, `LSTMCell` (peepholes, projection), `GRUCell`, `BasicRNNCell`, and the cells that are compatible
    with cuDNN, in `MultiRNNCell` and in both directions. The model reads `(batch, timesteps, features)`.

    A checkpoint does not hold what was an argument of the cell. TensorFlow added `forget_bias` at every step; here it
    is part of the bias. `cell_clip`, `projection_clip` and `activation` are given as `options`.

    Args:
        checkpoint: what `tf.train.load_checkpoint` takes: "model.ckpt-1000", one of its files, or a folder.
        prefix: of the names of the variables, such as "encoder/rnn"; by default the only stack of cells there is.
        return_sequences: whether the last layer returns all steps.
        forget_bias: that of the LSTM cells; 1.0 is their default. The cells compatible with cuDNN have none.
        options: of every layer.

    Returns:
        A `keras.Sequential`; its output is `(batch, timesteps, directions * units)`, or `(batch, directions * units)`.

    Raises:
        LoadError: TensorFlow is not installed, there is no checkpoint, or no such cells are in it.
    """
    reader = _reader(checkpoint)
    shapes = reader.get_variable_to_shape_map()
    cells = _cells(shapes)
    chosen = _chosen(cells, shapes, prefix, str(checkpoint))
    size = sum(4 * math.prod(shapes[name]) for cell in chosen for name in shapes if name.startswith(cell.scope + "/"))
    check_memory(size)
    by_place: dict[tuple[int, bool], Weights] = {}
    for cell in chosen:
        variables = _variables(cell.scope, shapes, reader)
        weights = _WEIGHTS[CELLS[cell.name]](cell, variables, forget_bias)
        by_place[cell.layer, cell.backward] = weights._replace(options={**weights.options, **options})
    count, both = max(layer for layer, _ in by_place) + 1, any(backward for _, backward in by_place)
    wanted = {(layer, backward) for layer in range(count) for backward in (False, True)[: 1 + both]}
    if set(by_place) != wanted or (both and count > 1 and any("/fw/multi_rnn_cell/" in cell.scope for cell in chosen)):
        raise _refused(
            f"the cells {', '.join(cell.scope for cell in chosen)}, which are no stack of layers",
            "Load one direction after the other by `prefix`.",
        )
    if prefix is None:
        _tell_of_the_rest(shapes, chosen)
    stack = [(by_place[layer, False], by_place.get((layer, True))) for layer in range(count)]
    return sequential(stack, return_sequences=return_sequences)


def _reader(checkpoint: str | os.PathLike) -> Any:
    try:
        import tensorflow as tf
    except ImportError as error:
        raise LoadError(
            "TensorFlow reads its checkpoints, and is not installed.",
            expected="tensorflow",
            received=str(error),
            remedy="pip install tensorflow",
        ) from error
    path = os.path.expanduser(os.fspath(checkpoint))
    path = re.sub(r"\.(index|meta|data-\d+-of-\d+)$", "", path)
    try:
        return tf.train.load_checkpoint(path)
    except Exception as error:  # TensorFlow raises errors of many classes
        files = [file.name for file in sorted(Path(path).parent.glob(Path(path).name + "*"))[:10]]
        raise LoadError(
            f"{path!r} cannot be read as a checkpoint of TensorFlow.",
            expected="the files of one: model.ckpt-1000.index and model.ckpt-1000.data-00000-of-00001",
            received=f"{type(error).__name__}: {' '.join(str(error).split())[:200]}; here are {files}",
            remedy="Give what stands before '.index', and keep all files of the checkpoint in one folder.",
        ) from error


def _cells(shapes: Mapping[str, Any]) -> list[_Cell]:
    found = {}
    for name in shapes:
        parts = name.split("/")
        for at, part in enumerate(parts[:-1]):
            cell = re.sub(r"_\d+$", "", part)
            if cell in CELLS:
                before = parts[:at]
                first = next((n for n, each in enumerate(before) if STRUCTURE.match(each)), len(before))
                structure = before[first:]
                layers = [int(each[5:]) for each in structure if re.match(r"cell_\d+$", each)]
                scope = "/".join(parts[: at + 1])
                root = "/".join(before[:first]) or "/"
                found[scope] = _Cell(root, layers[-1] if layers else 0, "bw" in structure, cell, scope)
                break
    return list(found.values())


def _chosen(cells: list[_Cell], shapes: Mapping[str, Any], prefix: str | None, path: str) -> list[_Cell]:
    if "_CHECKPOINTABLE_OBJECT_GRAPH" in shapes:
        raise _refused(
            f"{path!r}, a checkpoint of objects, as Keras 2 and TensorFlow 2 write them",
            "Load it where it was made, by model.load_weights(...), save the model there as .h5, and load that by "
            "load.keras2.",
        )
    if any(name.endswith("opaque_kernel") for name in shapes):
        raise _refused("opaque_kernel, weights in cuDNN's own order", "Save them by the canonical saver of CudnnLSTM.")
    chosen = [cell for cell in cells if prefix is None or cell.scope.startswith(prefix.strip("/"))]
    names = ", ".join(f"{name} {tuple(shape)}" for name, shape in list(shapes.items())[:40])
    if not chosen:
        prefixes = f" under {prefix!r}" if prefix else ""
        raise _refused(f"no such cell{prefixes} among {names}", "Other cells cannot be told by their names.")
    roots = sorted({cell.root for cell in chosen})
    if len(roots) > 1 or len({(cell.layer, cell.backward) for cell in chosen}) < len(chosen):
        scopes = ", ".join(cell.scope for cell in chosen)
        raise _refused(f"several stacks: {scopes}", f"Say which: load.tf1(..., prefix={chosen[0].root!r}).")
    return chosen


def _variables(scope: str, shapes: Mapping[str, Any], reader: Any) -> dict[str, np.ndarray]:
    """Return the arrays of a cell by their names in its scope, without what optimizers keep for each."""
    found = {}
    for name in shapes:
        if name.startswith(scope + "/"):
            inside = name[len(scope) + 1 :]
            inside = OLD_NAMES.get(inside, inside)
            if inside in VARIABLES:
                found[inside] = np.asarray(reader.get_tensor(name), np.float32)
    return found


def _lstm(cell: _Cell, v: Mapping[str, np.ndarray], forget_bias: float) -> Weights:
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


def _gru(cell: _Cell, v: Mapping[str, np.ndarray], forget_bias: float) -> Weights:
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


def _rnn(cell: _Cell, v: Mapping[str, np.ndarray], forget_bias: float) -> Weights:
    kernel, bias = _needed(cell, v, "kernel"), _needed(cell, v, "bias")
    units = kernel.shape[1]
    if kernel.shape[0] <= units or bias.shape != (units,):
        raise _unfit(cell, v)
    return Weights("rnn", units, {}, {"kernel": kernel[:-units], "recurrent_kernel": kernel[-units:], "bias": bias})


_WEIGHTS = {"lstm": _lstm, "gru": _gru, "rnn": _rnn}


def _needed(cell: _Cell, variables: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    if name not in variables:
        raise _unfit(cell, variables)
    return variables[name]


def _unfit(cell: _Cell, variables: Mapping[str, np.ndarray]) -> LoadError:
    shapes = ", ".join(f"{name} {array.shape}" for name, array in variables.items()) or "nothing"
    return _refused(f"{cell.scope}: {shapes}", "The checkpoint is of a cell with other weights, or not whole.")


def _refused(received: str, remedy: str) -> LoadError:
    return LoadError("The checkpoint cannot be loaded.", expected=EXPECTED, received=received, remedy=remedy)


def _tell_of_the_rest(shapes: Mapping[str, Any], chosen: list[_Cell]) -> None:
    slots = re.compile(
        r"/(Adam|Adam_1|RMSProp|RMSProp_1|Momentum|Adagrad|ExponentialMovingAverage)$|_power$|global_step$"
    )
    rest = [n for n in shapes if not slots.search(n) and not any(n.startswith(c.scope + "/") for c in chosen)]
    if rest:
        warnings.warn(
            f"Only the recurrent cells were loaded, not {', '.join(sorted(rest)[:20])}"
            + (f" and {len(rest) - 20} more" if len(rest) > 20 else "")
            + ". A `prefix` says that this is meant.",
            stacklevel=3,
        )
