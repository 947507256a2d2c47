"""`tf1`: the recurrent cells of TensorFlow 1 from a checkpoint."""

from __future__ import annotations

import math
import os
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_lstm_custom.array_files import check_memory
from keras_lstm_custom.errors import LoadError
from keras_lstm_custom.load.stack import Weights, sequential
from keras_lstm_custom.load.tf1_cells import CELLS, WEIGHTS, Cell, refused

#: Names that variables had before TensorFlow 1.2.
OLD_NAMES = {"weights": "kernel", "biases": "bias"}
#: Parts of a scope that say where in a stack a cell is.
STRUCTURE = re.compile(r"(multi_rnn_cell|cell_\d+|fw|bw|bidirectional_rnn|stack_bidirectional_rnn)$")
VARIABLES = {
    *("kernel", "bias", "w_i_diag", "w_f_diag", "w_o_diag", "projection/kernel"),
    *("gates/kernel", "gates/bias", "candidate/kernel", "candidate/bias"),
    *(f"candidate/{part}_projection/{name}" for part in ("input", "hidden") for name in ("kernel", "bias")),
}


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
        weights = WEIGHTS[CELLS[cell.name]](cell, variables, forget_bias)
        by_place[cell.layer, cell.backward] = weights._replace(options={**weights.options, **options})
    count, both = max(layer for layer, _ in by_place) + 1, any(backward for _, backward in by_place)
    wanted = {(layer, backward) for layer in range(count) for backward in (False, True)[: 1 + both]}
    if set(by_place) != wanted or (both and count > 1 and any("/fw/multi_rnn_cell/" in cell.scope for cell in chosen)):
        raise refused(
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


def _cells(shapes: Mapping[str, Any]) -> list[Cell]:
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
                found[scope] = Cell(root, layers[-1] if layers else 0, "bw" in structure, cell, scope)
                break
    return list(found.values())


def _chosen(cells: list[Cell], shapes: Mapping[str, Any], prefix: str | None, path: str) -> list[Cell]:
    if "_CHECKPOINTABLE_OBJECT_GRAPH" in shapes:
        raise refused(
            f"{path!r}, a checkpoint of objects, as Keras 2 and TensorFlow 2 write them",
            "Load it where it was made, by model.load_weights(...), save the model there as .h5, and load that by "
            "load.keras2.",
        )
    if any(name.endswith("opaque_kernel") for name in shapes):
        raise refused("opaque_kernel, weights in cuDNN's own order", "Save them by the canonical saver of CudnnLSTM.")
    chosen = [cell for cell in cells if prefix is None or cell.scope.startswith(prefix.strip("/"))]
    names = ", ".join(f"{name} {tuple(shape)}" for name, shape in list(shapes.items())[:40])
    if not chosen:
        prefixes = f" under {prefix!r}" if prefix else ""
        raise refused(f"no such cell{prefixes} among {names}", "Other cells cannot be told by their names.")
    roots = sorted({cell.root for cell in chosen})
    if len(roots) > 1 or len({(cell.layer, cell.backward) for cell in chosen}) < len(chosen):
        scopes = ", ".join(cell.scope for cell in chosen)
        raise refused(f"several stacks: {scopes}", f"Say which: load.tf1(..., prefix={chosen[0].root!r}).")
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


def _tell_of_the_rest(shapes: Mapping[str, Any], chosen: list[Cell]) -> None:
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
