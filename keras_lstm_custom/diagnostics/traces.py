"""The traces of a model, by layer, and their file."""

from __future__ import annotations

import json
import os
from dataclasses import fields
from typing import Any

import numpy as np
import pandas as pd

from keras_lstm_custom.array_files import read_arrays
from keras_lstm_custom.diagnostics.records import (
    EARLIER,
    RECORDS,
    Array,
    CellTrace,
    GateTrace,
    LayerTrace,
    made,
)
from keras_lstm_custom.errors import ArgumentError, DataError
from keras_lstm_custom.symbols import Description
from keras_lstm_custom.writing import write_npz


class Traces(dict[str, Any]):
    """The traces of a model's recurrent layers by name, in the order in which the model ran them."""

    def __getattr__(self, name: str) -> Any:
        pick = f"; pick that of a layer: steps[{next(iter(self))!r}]" if self and not name.startswith("_") else ""
        raise AttributeError(f"The traces of several layers by name have no attribute {name!r}{pick}", name=name)

    def to_frame(self) -> pd.DataFrame:
        """Return the tidy tables of all layers one below the other; a symbol that a layer lacks is NaN."""
        return pd.concat([trace.to_frame() for trace in self.values()], ignore_index=True)

    def to_npz(self, path: str | os.PathLike) -> None:
        """Write all traces to one compressed file, which `from_npz` and `numpy.load` read.

        Raises:
            DataError: the file cannot be written; what stood at `path` is as it was.
        """
        arrays: dict[str, Any] = {}
        header = []
        for number, trace in enumerate(self.values()):
            values = {field.name: getattr(trace, field.name) for field in fields(trace)}
            about = values.pop("about").to_json()
            values |= values.pop("values", {})
            arrays |= {f"{number}/{name}": v for name, v in values.items() if isinstance(v, np.ndarray)}
            plain = {name: v for name, v in values.items() if not isinstance(v, np.ndarray)}
            header.append({"record": type(trace).__name__, "about": about, **plain})
        write_npz(path, {"traces": np.array(json.dumps(header)), **arrays}, DataError)

    @classmethod
    def from_npz(cls, path: str | os.PathLike) -> Traces:
        """Return what `to_npz` wrote, of cells of one's own without their class.

        Raises:
            DataError: the file is not one of `to_npz`, or is damaged.
        """
        arrays = read_arrays(path)
        try:
            header = json.loads(str(arrays.pop("traces")))
            records = [_read_back(dict(plain), _numbered(arrays, number)) for number, plain in enumerate(header)]
            if len({record.name for record in records}) < len(records):
                raise ValueError("two layers of one name")
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError, StopIteration) as error:
            raise DataError(
                f"{os.fspath(path)!r} does not hold traces.",
                expected="a file that Traces.to_npz wrote",
                received=f"{type(error).__name__}: {error}; arrays named {', '.join(list(arrays)[:5])}",
                remedy="Write the file with trace(model, x).to_npz(path).",
            ) from error
        return cls({record.name: record for record in records})

    def __missing__(self, name: str) -> Any:
        raise ArgumentError(
            "There is no trace of that name.",
            expected=", ".join(map(repr, self)),
            received=repr(name),
            remedy="Use one of the names above; they say where the layer is in the model.",
        )


def _numbered(arrays: dict[str, Array], number: int) -> dict[str, Array]:
    prefix = f"{number}/"
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def _read_back(plain: dict[str, Any], arrays: dict[str, Array]) -> LayerTrace:
    """Return the trace that a file holds in parts; raise an error of Python's if they do not belong together."""
    if plain.keys() & arrays.keys():
        raise ValueError(f"{', '.join(plain.keys() & arrays.keys())} twice")
    classes = {of_class.__name__: of_class for of_class in (*RECORDS.values(), CellTrace)}
    if "record" in plain:
        about = Description.from_json(plain.pop("about"))
        record = made(classes[plain.pop("record")], {**plain, "about": about}, arrays)
    else:
        kind = plain.pop("kind")  # of files of earlier versions, in which all traces were of these classes
        record = made(EARLIER[kind], plain, arrays)
    _check(record, arrays)
    return record


def _check(record: LayerTrace, arrays: dict[str, Array]) -> None:
    if not isinstance(record.name, str) or not isinstance(record.go_backwards, bool):
        raise ValueError(f"name {record.name!r}, go_backwards {record.go_backwards!r}")
    batch, timesteps, width = record.h.shape
    widths = {symbol: getattr(record, symbol).shape[2] for symbol in record.symbols}
    if not isinstance(record, CellTrace):  # h alone may be narrower: a projection
        units = record.i.shape[2] if isinstance(record, GateTrace) else width
        widths |= dict.fromkeys([s for s in widths if s != "h"], units)
    shapes: dict[str, tuple] = {symbol: (batch, timesteps, widths[symbol]) for symbol in record.symbols}
    shapes |= {f"initial_{s}": (batch, widths[s]) for s in record.symbols if f"initial_{s}" in arrays}
    shapes |= {"x": (batch, timesteps, record.x.shape[2])}
    shapes |= {} if record.mask is None else {"mask": (batch, timesteps)}
    for name, shape in shapes.items():
        array = getattr(record, name)
        if array.shape != shape or array.dtype.kind not in ("b" if name == "mask" else "fiub"):
            raise ValueError(f"{name} of shape {array.shape} and dtype {array.dtype}, not {shape}")
