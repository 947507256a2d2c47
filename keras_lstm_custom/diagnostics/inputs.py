"""The data that a model is looked into with: whatever `fit` and `predict` take, as checked arrays in memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops, tree

from keras_lstm_custom.errors import ArgumentError, InputError

#: Of batches that come one by one, at most so many bytes are put together; an endless generator ends there.
MAX_BYTES = 4 * 2**30


class Data(NamedTuple):
    """Sequences in the structure that the model takes, each leaf an array; targets and weights where there are any."""

    x: Any
    y: Any
    sample_weight: Any
    size: int  #: how many sequences

    def rows(self, start: int, stop: int) -> Any:
        """Return sequences `start` to `stop` of every input."""
        return tree.map_structure(lambda leaf: leaf[start:stop], self.x)


def gathered(model: keras.Model, x: Any, y: Any = None, sample_weight: Any = None) -> Data:
    """Return what a user passes as arrays.

    Args:
        model: what it is for.
        x: an array, tensor or DataFrame; a list, tuple or dict of them for several inputs; nested lists of numbers; or
            batches as `fit` takes them: a `tf.data.Dataset`, a `keras.utils.PyDataset`, a torch `DataLoader`, a
            generator. Batches may hold targets and sample weights, too.
        y: targets, if `x` does not hold them.
        sample_weight: one weight for each sequence (or step), likewise.

    Raises:
        ArgumentError: batches come with targets beside them.
        InputError: there is no sequence, inputs differ in how many they hold, batches do not fit together, or a value
            is no number or not finite.
    """
    if isinstance(x, Data):
        return x
    if _comes_in_batches(x):
        if y is not None or sample_weight is not None:
            raise ArgumentError(
                "Targets and weights come with the batches.",
                expected="batches of (x, y) or (x, y, sample_weight), and nothing beside them",
                received=f"{type(x).__name__} with {'y' if y is not None else 'sample_weight'}",
                remedy="Put them into the batches, as for `fit`, or pass arrays.",
            )
        x, y, sample_weight = _joined(x)
    inputs = getattr(model, "inputs", None) or [None]
    x = _arrays(model, x, "input", len(inputs))
    if inputs[0] is not None and isinstance(x, (list, tuple)) and len(tree.flatten(x)) != len(inputs):
        raise InputError(
            f"A list of arrays holds one for each input of {model.name!r}.",
            expected=f"{len(inputs)} array(s)",
            received=f"a list of {len(tree.flatten(x))}",
            remedy="Make one array of sequences of one length: np.stack(x).",
        )
    size = _size(model, x, "input")
    parts = {"target": y, "sample weight": sample_weight}
    for role, values in parts.items():
        if values is None:
            continue
        parts[role] = _arrays(model, values, role, len(getattr(model, "outputs", None) or [None]))
        count = _size(model, parts[role], role)
        if count != size:
            raise InputError(
                f"Every sequence needs a {role}.",
                expected=f"{size} {role}s, as many as there are sequences",
                received=f"{count} {role}s",
                remedy="Pass x and y of the same rows.",
            )
    return Data(x, parts["target"], parts["sample weight"], size)


def _comes_in_batches(x: Any) -> bool:
    if isinstance(x, keras.utils.PyDataset):
        return True
    at_once = isinstance(x, (list, tuple, dict, str, bytes)) or hasattr(x, "__array__") or ops.is_tensor(x)
    return hasattr(x, "__iter__") and not at_once and not hasattr(x, "row_splits")


def _batches(x: Any) -> Iterator[Any]:
    if isinstance(x, keras.utils.PyDataset):
        count = x.num_batches
        if count is None:
            raise _endless(x)
        return (x[number] for number in range(count))
    if hasattr(x, "cardinality") and int(x.cardinality()) == -1:  # tf.data.INFINITE_CARDINALITY
        raise _endless(x)
    return iter(x)


def _joined(x: Any) -> tuple[Any, Any, Any]:
    """Put batches together."""
    parts, held = [], 0
    for batch in _batches(x):
        part = keras.utils.unpack_x_y_sample_weight(batch)
        parts.append(tree.map_structure(lambda leaf: None if leaf is None else _array(leaf), part))
        held += sum(leaf.nbytes for leaf in tree.flatten(parts[-1]) if leaf is not None)
        if held > MAX_BYTES:
            raise _endless(x)
    if not parts:
        raise InputError(
            "There are no batches.",
            expected="at least one sequence",
            received=f"{type(x).__name__} that is empty, or was read to its end before",
            remedy="Pass a new generator, or a dataset that can be read again.",
        )
    try:
        return tree.map_structure(lambda *leaves: None if leaves[0] is None else np.concatenate(leaves), *parts)
    except (ValueError, TypeError) as error:
        raise InputError(
            "The batches do not fit together.",
            expected="batches that differ in their number of sequences alone",
            received=str(error).splitlines()[0],
            remedy="Pass the batches of one length of sequences at a time, or pad them to one length.",
        ) from error


def _endless(x: Any) -> InputError:
    return InputError(
        "All batches are looked into at once, and these do not end, or need too much memory.",
        expected=f"a known number of batches, of at most {MAX_BYTES / 2**30:.0f} GiB together",
        received=type(x).__name__,
        remedy="Pass a few batches: dataset.take(4), or itertools.islice(generator, 4).",
    )


def _arrays(model: keras.Model, values: Any, role: str, count: int) -> Any:
    """Return arrays in the structure of `values`; nested lists of numbers are one array, or one for each input."""
    if isinstance(values, dict):
        return {name: _arrays(model, value, role, 1) for name, value in values.items()}
    if isinstance(values, (list, tuple)) and not _is_one_array(values, count):
        return type(values)(_arrays(model, value, role, 1) for value in values)
    try:
        array = _array(values)
        if array.dtype.kind in "OSU" and not _takes_text(model):
            array = array.astype("float64")
    except (ValueError, TypeError) as error:
        raise InputError(
            f"The {role} of {model.name!r} is no array of numbers.",
            expected="an array, nested lists whose rows are equally long, or a list of arrays for several inputs",
            received=f"{type(values).__name__}: {str(error).splitlines()[0]}",
            remedy="Convert it: np.asarray(x, 'float32'); pad sequences of different lengths first.",
        ) from error
    return array


def _is_one_array(values: Any, count: int) -> bool:
    """Say whether lists hold plain numbers or strings, and not an array for each of `count` inputs."""
    first = values
    while isinstance(first, (list, tuple)) and first:
        first = first[0]
    is_plain = np.isscalar(first) or isinstance(first, (list, tuple))
    return is_plain and not (count > 1 and len(values) == count)


def _takes_text(model: keras.Model) -> bool:
    """Say whether an input of the model takes strings; a subclassed model's inputs are not known."""
    return any(str(tensor.dtype) == "string" for tensor in getattr(model, "inputs", None) or []) or not hasattr(
        model, "inputs"
    )


def _array(leaf: Any) -> np.ndarray:
    if hasattr(leaf, "row_splits"):
        raise TypeError("a ragged tensor, whose sequences differ in length")
    if ops.is_tensor(leaf):
        return ops.convert_to_numpy(leaf)
    if hasattr(leaf, "detach"):  # of torch, under another backend
        leaf = leaf.detach().cpu()
    return np.asarray(leaf)


def _size(model: keras.Model, values: Any, role: str) -> int:
    """Return how many sequences the arrays hold, which must be finite and equally long."""
    leaves = tree.flatten(values)
    sizes = {leaf.shape[:1] for leaf in leaves}
    if len(sizes) != 1 or sizes <= {(), (0,)}:
        raise InputError(
            f"The {role} must hold at least one sequence, and as many in each of its arrays.",
            expected="arrays of shape (batch, ...) with the same batch",
            received=f"shapes {', '.join(str(leaf.shape) for leaf in leaves[:10])}",
            remedy="For a single sequence add a batch axis: x[None]. A list of arrays is one for each input; "
            "np.stack makes one array of sequences of one length.",
        )
    for leaf in leaves:
        _check_finite(model, leaf, role)
    return leaves[0].shape[0]


def _check_finite(model: keras.Model, leaf: np.ndarray, role: str) -> None:
    if not np.issubdtype(leaf.dtype, np.floating) or np.isfinite(leaf).all():
        return
    bad = np.argwhere(~np.isfinite(leaf))
    place = tuple(int(n) for n in bad[0])
    raise InputError(
        f"The {role} of {model.name!r} holds values that are not finite; everything after one would be NaN.",
        expected="finite numbers",
        received=f"{len(bad)} of {leaf.size} values, the first {leaf[place]} at {place}",
        remedy="Fill or drop them first, or mark the steps with keras.layers.Masking.",
    )
