"""The traces of a model, by layer, and their file."""

from __future__ import annotations

import json
import os
from dataclasses import fields
from typing import Any

import numpy as np
import pandas as pd

from keras_lstm_custom.diagnostics.records import RECORDS, Array, CellTrace, LayerTrace, made
from keras_lstm_custom.errors import ArgumentError, DataError
from keras_lstm_custom.symbols import Description


class Traces(dict[str, Any]):
    """The traces of a model's recurrent layers by name, in the order in which the model ran them."""

    def to_frame(self) -> pd.DataFrame:
        """Return the tidy tables of all layers one below the other; a symbol that a layer lacks is NaN."""
        return pd.concat([trace.to_frame() for trace in self.values()], ignore_index=True)

    def to_npz(self, path: str | os.PathLike) -> None:
        """Write all traces to one compressed file, which `from_npz` and `numpy.load` read."""
        arrays: dict[str, Any] = {}
        header = []
        for number, trace in enumerate(self.values()):
            values = {field.name: getattr(trace, field.name) for field in fields(trace)}
            about = values.pop("about").to_json()
            values |= values.pop("values", {})
            arrays |= {f"{number}/{name}": v for name, v in values.items() if isinstance(v, np.ndarray)}
            plain = {name: v for name, v in values.items() if not isinstance(v, np.ndarray)}
            header.append({"record": type(trace).__name__, "about": about, **plain})
        with open(path, "wb") as file:  # given a path, NumPy would append ".npz" to another ending
            np.savez_compressed(file, traces=np.array(json.dumps(header)), **arrays)

    @classmethod
    def from_npz(cls, path: str | os.PathLike) -> Traces:
        """Return what `to_npz` wrote, of cells of one's own without their class.

        Raises:
            DataError: the file is not one of `to_npz`.
        """
        with np.load(path) as file:
            if "traces" not in file:
                raise DataError(
                    f"{os.fspath(path)!r} does not hold traces.",
                    expected="a file that Traces.to_npz wrote",
                    received=f"arrays named {', '.join(file.files[:5])}",
                    remedy="Write the file with trace(model, x).to_npz(path).",
                )
            traces = cls()
            for number, plain in enumerate(json.loads(str(file["traces"]))):
                prefix = f"{number}/"
                arrays = {key.removeprefix(prefix): file[key] for key in file.files if key.startswith(prefix)}
                traces[plain["name"]] = _read_back(plain, arrays)
        return traces

    def __missing__(self, name: str) -> Any:
        raise ArgumentError(
            "There is no trace of that name.",
            expected=", ".join(map(repr, self)),
            received=repr(name),
            remedy="Use one of the names above; they say where the layer is in the model.",
        )


def _read_back(plain: dict[str, Any], arrays: dict[str, Array]) -> LayerTrace:
    classes = {of_class.__name__: of_class for of_class in (*RECORDS.values(), CellTrace)}
    if "record" in plain:
        about = Description.from_json(plain.pop("about"))
        return made(classes[plain.pop("record")], {**plain, "about": about}, arrays)
    del plain["kind"]  # of files of earlier versions, in which traces were of two classes
    return made(next(c for c in RECORDS.values() if {field.name for field in fields(c)} >= set(arrays)), plain, arrays)
