"""Files of NumPy arrays that may be damaged or made to harm: read whole, or refused with the reason.

A header may ask for more memory than there is, a small archive may unpack to a large one, and an array of objects would
run what it holds. So the headers are compared with the sizes of what they stand for before anything is read.
"""

from __future__ import annotations

import math
import os
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np

from keras_lstm_custom.errors import DataError

ZIP, NPY = b"PK\x03\x04", b"\x93NUMPY"

#: By version of the format; the third is for names of fields that are not Latin.
_HEADERS: dict[tuple[int, int], Any] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def read_arrays(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Return the arrays of an .npz file by their names, or the one of an .npy file under the name "".

    Raises:
        DataError: there is no such file, it holds something else, it is damaged, or it needs more memory than there is.
    """
    try:
        return _read(Path(os.path.expanduser(path)))
    except Exception as error:  # the readers raise errors of many classes
        raise DataError(
            f"{str(path)!r} does not hold arrays that can be read.",
            expected="an .npz file, or an .npy file of one array, whole and without pickled objects",
            received=f"{type(error).__name__}: {' '.join(str(error).split())[:300]}",
            remedy="Check the path, or write the file again with np.save or np.savez.",
        ) from error


def _read(path: Path) -> dict[str, np.ndarray]:
    with path.open("rb") as file:
        magic = file.read(len(NPY))
        file.seek(0)
        if magic.startswith(NPY):
            size = os.fstat(file.fileno()).st_size
            check_memory(size)
            _check_header(file, size)
            file.seek(0)
            return {"": np.lib.format.read_array(file, allow_pickle=False)}
        if not magic.startswith(ZIP):
            raise ValueError("a file of another format" if magic else "an empty file")
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            check_memory(sum(member.file_size for member in members))
            return {member.filename.removesuffix(".npy"): _member(archive, member) for member in members}


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    with archive.open(member) as file:
        _check_header(file, member.file_size)
    with archive.open(member) as file:
        array = np.lib.format.read_array(file, allow_pickle=False)
        file.read()  # to its end, where the check sum is compared
        return array


def _check_header(file: IO[bytes], size: int) -> None:
    """Raise `ValueError` unless a header says what fills a file of that size."""
    version = np.lib.format.read_magic(file)
    if version not in _HEADERS:
        raise ValueError(f"an array in version {version} of the format")
    shape, _, dtype = _HEADERS[version](file)
    if dtype.hasobject:
        raise ValueError("an array of objects, which would run what the file holds")
    needed = math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or needed != size - file.tell():
        raise ValueError(f"{size - file.tell():,} bytes for an array of shape {shape} that takes {needed:,}")


def check_memory(size: int) -> None:
    """Raise `ValueError` if that many bytes are more than this computer has."""
    if hasattr(os, "sysconf"):
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        if size > memory:
            raise ValueError(f"a content of {size:,} bytes; this computer has {memory:,}")
