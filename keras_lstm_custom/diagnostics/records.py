"""What a trace holds: plain NumPy arrays named by the symbols of the equations, and where they came from.

Convention, everywhere in the diagnostics: axis 1 is the order of time of the sequence. A layer with
`go_backwards=True` reads it from the end, so its "step before" t is t + 1.

At a masked step nothing was computed: gates, candidate and pre-activation are NaN, and h and c are
the state that the layer kept. (The layer's own output there is Keras': the output before it, or zeros.)
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from keras_lstm_custom.array_files import read_arrays
from keras_lstm_custom.errors import ArgumentError, DataError
from keras_lstm_custom.writing import write_npz

Array = np.ndarray


@dataclass(frozen=True, eq=False, kw_only=True)
class LayerTrace:
    """One call of one recurrent layer; `GateTrace` and `RNNTrace` add what their equations compute."""

    #: What each step computes, each `(batch, timesteps, units)`.
    symbols: ClassVar[tuple[str, ...]]
    kind: ClassVar[str]  #: which equations, as `EquationCell.kind` says

    name: str  #: where the layer is in its model; a shared layer's second call ends in "#2"
    x: Array  #: `(batch, timesteps, features)`, what the layer was given
    h: Array  #: `(batch, timesteps, units)`, hidden state after each step
    initial_h: Array  #: `(batch, units)`, hidden state before the first step
    mask: Array | None = None  #: `(batch, timesteps)`, False where the layer skipped the step
    go_backwards: bool = False  #: whether the layer read the sequence from its end

    @property
    def batch(self) -> int:
        return self.h.shape[0]

    @property
    def timesteps(self) -> int:
        return self.h.shape[1]

    @property
    def units(self) -> int:
        return self.h.shape[2]

    @property
    def read(self) -> Array:
        """`(batch, timesteps)`, True where the layer read the step."""
        return np.ones(self.h.shape[:2], bool) if self.mask is None else self.mask

    @property
    def h_before(self) -> Array:
        """h_{t-1}: the hidden state that each step found, `(batch, timesteps, units)`."""
        return _shift(self.h, self.initial_h, self.go_backwards)

    def to_frame(self) -> pd.DataFrame:
        """Return a tidy table: one row for each sequence, step and unit, one column for each symbol."""
        index = pd.MultiIndex.from_product(
            [range(self.batch), range(self.timesteps), range(self.units)], names=["sequence", "step", "unit"]
        )
        columns = {symbol: getattr(self, symbol).reshape(-1) for symbol in self.symbols}
        frame = pd.DataFrame(columns, index=index).reset_index()
        frame.insert(0, "layer", self.name)
        return frame

    def __repr__(self) -> str:
        size = f"{self.batch} sequences x {self.timesteps} steps x {self.units} units"
        return f"{type(self).__name__}({self.name!r}: {', '.join(self.symbols)}; {size})"


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class GateTrace(LayerTrace):
    r"""The gates and states of an LSTM layer at every step, each `(batch, timesteps, units)`.

    $$ c_t = f_t \odot c_{t-1} + i_t \odot g_t, \qquad h_t = o_t \odot \tanh(c_t) $$
    """

    symbols = ("i", "f", "g", "o", "c", "h")
    kind = "lstm"

    i: Array  #: input gate: how much of the candidate enters
    f: Array  #: forget gate: which share of the cell state stays
    g: Array  #: candidate: how each element of the cell state should change
    o: Array  #: output gate: which share of the memory leaves
    c: Array  #: cell state after each step
    initial_c: Array  #: `(batch, units)`, cell state before the first step

    @property
    def c_before(self) -> Array:
        """c_{t-1}: the cell state that each step found."""
        return _shift(self.c, self.initial_c, self.go_backwards)

    @property
    def forgotten(self) -> Array:
        """(1 - f_t) ⊙ c_{t-1}: what is dropped from the memory."""
        return (1 - self.f) * self.c_before

    @property
    def kept(self) -> Array:
        """f_t ⊙ c_{t-1}: what stays in the memory."""
        return self.f * self.c_before

    @property
    def entered(self) -> Array:
        """i_t ⊙ g_t: what is added to the memory."""
        return self.i * self.g


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class RNNTrace(LayerTrace):
    r"""The pre-activation and state of a vanilla RNN layer at every step: $h_t = \tanh(z_t)$."""

    symbols = ("z", "h")
    kind = "vanilla_rnn"

    z: Array  #: `(batch, timesteps, units)`, pre-activation


#: The trace of each kind of cell.
TRACES: dict[str, type[LayerTrace]] = {record.kind: record for record in (GateTrace, RNNTrace)}


class Traces(dict[str, Any]):
    """The traces of a model's recurrent layers by name, in the order in which the model ran them."""

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
            arrays |= {f"{number}/{name}": v for name, v in values.items() if isinstance(v, np.ndarray)}
            plain = {name: v for name, v in values.items() if not isinstance(v, np.ndarray)}
            header.append({"kind": trace.kind, **plain})
        write_npz(path, {"traces": np.array(json.dumps(header)), **arrays}, DataError)

    @classmethod
    def from_npz(cls, path: str | os.PathLike) -> Traces:
        """Return what `to_npz` wrote.

        Raises:
            DataError: the file is not one of `to_npz`, or is damaged.
        """
        arrays = read_arrays(path)
        try:
            header = json.loads(str(arrays.pop("traces")))
            records = [_rebuilt(plain, _numbered(arrays, number)) for number, plain in enumerate(header)]
            if len({record.name for record in records}) < len(records):
                raise ValueError("two layers of one name")
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError) as error:
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


def _shift(states: Array, initial: Array, go_backwards: bool) -> Array:
    """Return for each step the state before it, in the order of time."""
    first = initial[:, None]
    if go_backwards:
        return np.concatenate([states[:, 1:], first], axis=1)
    return np.concatenate([first, states[:, :-1]], axis=1)


def _numbered(arrays: dict[str, Array], number: int) -> dict[str, Array]:
    prefix = f"{number}/"
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def _rebuilt(plain: dict[str, Any], arrays: dict[str, Any]) -> LayerTrace:
    """Return the trace that a file holds in parts; raise an error of Python's if they do not belong together."""
    values: dict[str, Any] = dict(plain)
    record = TRACES[values.pop("kind")](**values, **arrays)
    if not isinstance(record.name, str) or not isinstance(record.go_backwards, bool):
        raise ValueError(f"name {record.name!r}, go_backwards {record.go_backwards!r}")
    batch, timesteps, units = record.h.shape
    shapes: dict[str, tuple] = dict.fromkeys(record.symbols, (batch, timesteps, units))
    shapes |= {name: (batch, units) for name in arrays if name.startswith("initial_")}
    shapes |= {"x": (batch, timesteps, record.x.shape[-1])}
    shapes |= {} if record.mask is None else {"mask": (batch, timesteps)}
    for name, shape in shapes.items():
        array = getattr(record, name)
        if array.shape != shape or array.dtype.kind not in ("b" if name == "mask" else "fiub"):
            raise ValueError(f"{name} of shape {array.shape} and dtype {array.dtype}, not {shape}")
    return record
