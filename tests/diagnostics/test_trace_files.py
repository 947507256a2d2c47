"""Traces on the disk: what is damaged or foreign is a DataError, and what cannot be written leaves what was there."""

from __future__ import annotations

import io
import json
import zipfile

import numpy as np
import pytest

from keras_lstm_custom import writing
from keras_lstm_custom.diagnostics import GateTrace, RNNTrace, Traces
from keras_lstm_custom.errors import DataError
from tests.damage import damaged

B, T, F, U = 2, 5, 3, 4


@pytest.fixture
def traces(rng):
    def array(*shape):
        return rng.normal(size=shape).astype("float32")

    sizes = {"x": (B, T, F), "initial_h": (B, U), "h": (B, T, U)}
    gates = {name: array(B, T, U) for name in "ifgoc"}
    lstm = GateTrace(name="a/lstm", initial_c=array(B, U), **gates, **{name: array(*s) for name, s in sizes.items()})
    mask = rng.random((B, T)) > 0.5
    arrays = {name: array(*shape) for name, shape in sizes.items()}
    rnn = RNNTrace(name="rnn#2", z=array(B, T, U), mask=mask, go_backwards=True, **arrays)
    return Traces({trace.name: trace for trace in (lstm, rnn)})


@pytest.fixture
def parts(traces, tmp_path):
    """What is in a good file: the header as JSON holds it, and the arrays."""
    traces.to_npz(tmp_path / "good.npz")
    with np.load(tmp_path / "good.npz") as file:
        arrays = dict(file)
    return json.loads(str(arrays.pop("traces"))), arrays


def refused(path, header, arrays):
    text = header if isinstance(header, str) else json.dumps(header)
    np.savez(path, traces=np.array(text), **arrays)
    with pytest.raises(DataError, match="does not hold traces"):
        Traces.from_npz(path)


def test_parts_that_are_whole_are_read(parts, traces, tmp_path):
    np.savez(tmp_path / "x.npz", traces=np.array(json.dumps(parts[0])), **parts[1])
    again = Traces.from_npz(tmp_path / "x.npz")
    assert list(again) == ["a/lstm", "rnn#2"]
    np.testing.assert_array_equal(again["rnn#2"].z, traces["rnn#2"].z)
    np.testing.assert_array_equal(again["rnn#2"].mask, traces["rnn#2"].mask)
    assert again["rnn#2"].go_backwards is True
    assert again["a/lstm"].mask is None


HEADERS = {
    "no JSON": "{[",
    "no list": 3,
    "a dict": {"kind": "lstm"},
    "numbers": [1, 2],
    "deep": "[" * 100_000,
    "an unknown kind": [{"kind": "gru", "name": "x"}],
    "a kind that is a list": [{"kind": ["lstm"], "name": "x"}],
    "no arrays": [{"kind": "lstm", "name": "x"}] * 5,
    "nothing": [{}],
}


@pytest.mark.parametrize("kind", HEADERS)
def test_a_header_of_something_else(parts, tmp_path, kind):
    refused(tmp_path / "x.npz", HEADERS[kind], parts[1])


@pytest.mark.parametrize(
    "change",
    [{"name": 3}, {"name": None}, {"go_backwards": "yes"}, {"other": 1}, {"x": [1, 2]}, {"h": "text"}, {"mask": True}],
    ids=str,
)
def test_a_header_with_a_field_of_another_kind(parts, tmp_path, change):
    header, arrays = parts
    header[0] |= change
    refused(tmp_path / "x.npz", header, arrays)


def test_a_name_twice(parts, tmp_path):
    header, arrays = parts
    header[1]["name"] = header[0]["name"]
    refused(tmp_path / "x.npz", header, arrays)


@pytest.mark.parametrize("name", ["0/h", "0/x", "0/f", "0/initial_c", "1/mask", "1/z"])
def test_arrays_that_do_not_belong_together(parts, tmp_path, name):
    header, arrays = parts
    array = arrays[name]
    others = [None, array[:1], array[..., None], array.astype("U3"), np.array(3.0)]
    if name != "1/mask":
        others.append(array.astype(complex))
    for other in others:
        if other is None and name == "1/mask":
            continue  # a trace without a mask
        changed = {key: value for key, value in arrays.items() if key != name} | (
            {} if other is None else {name: other}
        )
        refused(tmp_path / "x.npz", header, changed)


def test_damaged_files(traces, tmp_path):
    path = tmp_path / "x.npz"
    traces.to_npz(path)
    with zipfile.ZipFile(path) as packed, zipfile.ZipFile(plain := io.BytesIO(), "w") as stored:
        for member in packed.infolist():  # not compressed, so that the damage comes into the arrays
            stored.writestr(member.filename, packed.read(member))
    read = 0
    for content in [*damaged(path.read_bytes(), 120), *damaged(plain.getvalue(), 120, seed=1)]:
        path.write_bytes(content)
        try:
            Traces.from_npz(path)
            read += 1
        except DataError:
            pass
    assert read < 100


@pytest.mark.parametrize("name", ["none.npz", ".", "n" * 300])
def test_no_file(tmp_path, name):
    with pytest.raises(DataError):
        Traces.from_npz(tmp_path / name)


def test_what_cannot_be_written_leaves_what_was_there(traces, tmp_path, monkeypatch):
    traces.to_npz(tmp_path / "x.npz")
    before = (tmp_path / "x.npz").read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(writing.os, "fsync", full)
        with pytest.raises(DataError, match="No space left"):
            Traces(list(traces.items())[:1]).to_npz(tmp_path / "x.npz")
    with pytest.raises(DataError, match="the name of a folder"):
        traces.to_npz(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["x.npz"]
    assert (tmp_path / "x.npz").read_bytes() == before
