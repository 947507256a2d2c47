"""Files of arrays: read as NumPy reads them, or refused with a DataError, whatever is in them."""

from __future__ import annotations

import os
import struct
import zipfile

import numpy as np
import pytest

from keras_lstm_custom import array_files
from keras_lstm_custom.array_files import read_arrays
from keras_lstm_custom.errors import DataError
from tests.damage import damaged


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_an_archive_is_read_as_numpy_reads_it(tmp_path, rng, save):
    arrays = {
        "x": rng.normal(size=(3, 4)).astype("float32"),
        "0/h": np.asfortranarray(rng.normal(size=(2, 5))),
        "none": np.zeros((0, 7)),
        "scalar": np.array("text ü"),
        "mask": np.ones((2, 3), bool),
        "zeros": np.zeros((1000, 1000)),  # packs to a thousandth
    }
    save(tmp_path / "x.npz", **arrays)
    got = read_arrays(tmp_path / "x.npz")
    assert got.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(got[name], array)
        assert got[name].dtype == array.dtype


def test_one_array(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    np.save(tmp_path / "x.npy", np.arange(6).reshape(2, 3))
    np.testing.assert_array_equal(read_arrays("~/x.npy")[""], [[0, 1, 2], [3, 4, 5]])


def header(shape, dtype="<f4", version=1):
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H", len(text)) + text


def archive(path, members, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as file:
        for name, content in members.items():
            file.writestr(name, content)


HOSTILE = {
    "more rows than there are": header((1 << 40, 8)) + bytes(64),
    "a product beyond 64 bits": header((1 << 40, 1 << 40)) + bytes(64),
    "negative": header((-1, 4)) + bytes(64),
    "two negative": header((-4, -4)) + bytes(64),
    "less than there is": header((1,)) + bytes(64),
    "no tuple": header("3") + bytes(64),
    "code": header("__import__('os').system('true')") + bytes(64),
    "deep": header("(" * 5000 + ")" * 5000),
    "objects": header((1,), "|O") + bytes(8),
    "no type": header((1,), "what") + bytes(4),
    "another version": header((1,), version=9) + bytes(4),
    "only the mark": b"\x93NUMPY",
    "nothing": b"",
    "text": b"hello",
    "zeros": bytes(999),
}


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("form", ["npy", "npz"])
def test_hostile_files_are_refused(tmp_path, kind, form):
    path = tmp_path / f"x.{form}"
    if form == "npz":
        archive(path, {"x.npy": HOSTILE[kind]})
    else:
        path.write_bytes(HOSTILE[kind])
    with pytest.raises(DataError, match="does not hold arrays that can be read"):
        read_arrays(path)


def test_an_array_of_objects_is_not_unpickled(tmp_path):
    class Runs:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    np.save(tmp_path / "x.npy", np.array([Runs()], object), allow_pickle=True)
    with pytest.raises(DataError, match="objects"):
        read_arrays(tmp_path / "x.npy")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["none.npz", "folder", "nul\0.npz", "n" * 300])
def test_no_file(tmp_path, name):
    (tmp_path / "folder").mkdir()
    with pytest.raises(DataError):
        read_arrays(tmp_path / name)


def test_what_unpacks_to_more_than_there_is(tmp_path, monkeypatch):
    """A thousandth of it on the disk; nothing is unpacked to find out."""
    archive(tmp_path / "x.npz", {"x.npy": header((1 << 20,)) + bytes(4 << 20)})
    assert (tmp_path / "x.npz").stat().st_size < 10_000
    assert read_arrays(tmp_path / "x.npz")["x"].shape == (1 << 20,)
    monkeypatch.setattr(array_files.os, "sysconf", lambda name: 1 << 10)  # a computer of 1 MiB
    with pytest.raises(DataError, match="this computer has 1,048,576"):
        read_arrays(tmp_path / "x.npz")


def test_an_archive_of_something_else(tmp_path):
    archive(tmp_path / "x.npz", {"readme.txt": b"hello"})
    with pytest.raises(DataError):
        read_arrays(tmp_path / "x.npz")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed, np.save])
def test_damaged_files_are_read_or_refused(tmp_path, rng, save):
    path = tmp_path / ("x.npy" if save is np.save else "x.npz")
    save(path, rng.normal(size=(5, 7, 3)).astype("float32"))
    refused = 0
    for content in damaged(path.read_bytes(), 120):
        path.write_bytes(content)
        try:
            read_arrays(path)
        except DataError:
            refused += 1
    assert refused > 50
