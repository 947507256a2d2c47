"""What an .h5 file holds, by h5py alone: arrays and texts of the file itself, of sizes that it bears out.

HDF5 can point to other files (external links, external and virtual datasets), and say sizes that nothing stands for.
Both are refused, and so is what is no array of numbers.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from keras_lstm_custom.array_files import ZIP, check_memory
from keras_lstm_custom.errors import LoadError, RecurrentError

EXPECTED = "an .h5 file that Keras 2 or tf_keras wrote by model.save or model.save_weights"
#: How many times its place in the file an array may be: what gzip makes of zeros is about a thousandth of them.
MOST_COMPRESSED = 2000
#: Names are many and short, a configuration is one text; the largest of real models have some MB.
LONGEST_TEXT = 1 << 28
HDF5, LFS = b"\x89HDF", b"version https://git-lfs"


def refused(path: Any, received: str, remedy: str) -> LoadError:
    """Return the error for a file that cannot be read."""
    return LoadError(
        f"{str(path)!r} cannot be loaded as a model of Keras 2.", expected=EXPECTED, received=received, remedy=remedy
    )


@contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """Open a file to read; whatever h5py raises inside becomes a `LoadError` that names the file."""
    try:
        with h5py.File(path, "r") as file:
            yield file
    except RecurrentError:
        raise
    except Exception as error:  # h5py raises errors of many classes where a file is damaged
        raise refused(path, f"{type(error).__name__}: {' '.join(str(error).split())[:300]}", _remedy(path)) from error


def _remedy(path: Path) -> str:
    """Return what to do about a file that h5py cannot read."""
    if (path / "saved_model.pb").is_file():
        return "It is a SavedModel: load it where it was made, in Keras 2, and save it there as model.h5."
    if not path.is_file():
        return "Check the path."
    with path.open("rb") as file:
        start = file.read(len(LFS))
    if start == LFS:
        return "It only says where Git LFS has the file: git lfs pull."
    if start.startswith(ZIP):
        return "It is no HDF5 file; a .keras file is read by keras.saving.load_model(path)."
    is_hdf5 = start.startswith(HDF5)
    return "It is cut off or damaged: get the file again." if is_hdf5 else "Check the path: it is no HDF5 file."


def text(owner: h5py.Group, name: str) -> str | None:
    """Return an attribute that is a text, or None if there is none."""
    if name not in owner.attrs:
        return None
    _check_attribute(owner, name)
    value = owner.attrs[name]
    return value.decode("utf8") if isinstance(value, bytes) else str(value)


def texts(owner: h5py.Group, name: str) -> list[str] | None:
    """Return an attribute that is a list of texts, or None; a long one is stored in parts, name0, name1, ..."""
    parts = [name] if name in owner.attrs else []
    while parts[:1] != [name] and f"{name}{len(parts)}" in owner.attrs:
        parts.append(f"{name}{len(parts)}")
    if not parts:
        return None
    for part in parts:
        _check_attribute(owner, part)
    return [
        value.decode("utf8") if isinstance(value, bytes) else str(value)
        for part in parts
        for value in np.atleast_1d(owner.attrs[part])
    ]


def json_of(owner: h5py.Group, name: str) -> Any:
    """Return what an attribute of JSON says, or None if there is none."""
    written = text(owner, name)
    if written is None:
        return None
    try:
        return json.loads(written)
    except (ValueError, RecursionError) as error:
        raise refused(
            owner.file.filename,
            f"{name} that is no JSON: {type(error).__name__}: {str(error)[:200]}",
            "It is damaged: get the file again.",
        ) from error


def group(owner: h5py.Group, name: str) -> h5py.Group:
    """Return a group inside `owner`, which must be in this file itself."""
    found = _inside(owner, name)
    if not isinstance(found, h5py.Group):
        raise refused(owner.file.filename, f"an array under {name!r}, where a group of weights belongs", _AGAIN)
    return found


def array(owner: h5py.Group, name: str) -> np.ndarray:
    """Return the array of numbers under a name."""
    found = _inside(owner, name)
    where = f"{owner.name}/{name}"
    if not isinstance(found, h5py.Dataset):
        raise refused(owner.file.filename, f"a group under {where!r}, where an array belongs", _AGAIN)
    if found.external or found.is_virtual:
        raise refused(owner.file.filename, f"the array {where!r}, whose numbers are in another file", _OWN_FILE)
    if found.dtype.kind not in "fiub":
        raise refused(owner.file.filename, f"the array {where!r} of {found.dtype}", "Weights are numbers.")
    stored = found.id.get_storage_size()
    if found.nbytes > MOST_COMPRESSED * stored:
        received = f"the array {where!r} of shape {found.shape}, {found.nbytes:,} bytes, of which {stored:,} are there"
        raise refused(owner.file.filename, received, _AGAIN)
    check_memory(found.nbytes)
    return np.asarray(found[()])


_AGAIN = "It is damaged: get the file again, or save the model again."
_OWN_FILE = "Nothing outside of it is opened. Put all into one file: load it where it was made, and save it again."


def _inside(owner: h5py.Group, path: str) -> Any:
    """Return what is under a path, each step of which must be a link inside this file."""
    found: Any = owner
    for step in [part for part in path.split("/") if part]:
        if not isinstance(found, h5py.Group):
            raise refused(owner.file.filename, f"nothing under {owner.name}/{path}", _AGAIN)
        link = found.get(step, getlink=True)
        if link is None:
            raise refused(owner.file.filename, f"nothing under {owner.name}/{path}", _AGAIN)
        if not isinstance(link, h5py.HardLink):
            target = f" to {link.filename!r}" if isinstance(link, h5py.ExternalLink) else ""
            received = (
                f"an external link{target} under {owner.name}/{path}" if target else f"a soft link under {path!r}"
            )
            raise refused(owner.file.filename, received, _OWN_FILE)
        found = found[step]
    return found


def _check_attribute(owner: h5py.Group, name: str) -> None:
    attribute = owner.attrs.get_id(name)
    size = math.prod(attribute.shape or ()) * attribute.dtype.itemsize
    if size > LONGEST_TEXT:
        raise refused(owner.file.filename, f"an attribute {name!r} of {size:,} bytes", _AGAIN)
