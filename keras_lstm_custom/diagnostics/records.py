"""What a trace holds: plain NumPy arrays named by the symbols of the equations, and where they came from.

Convention, everywhere in the diagnostics: axis 1 is the order of time of the sequence. A layer with
`go_backwards=True` reads it from the end, so its "step before" t is t + 1.

At a masked step nothing was computed: gates, candidate and pre-activation are NaN, and the states (h, c) are
those that the layer kept. (The layer's own output there is Keras': the output before it, or zeros.)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from importlib import import_module
from typing import Any

import numpy as np
import pandas as pd

from keras_lstm_custom.cells import LSTMCell, VanillaRNNCell, lstm_symbols
from keras_lstm_custom.errors import ArgumentError
from keras_lstm_custom.structures import LSTMStep, RNNStep
from keras_lstm_custom.symbols import Description, described

Array = np.ndarray


@dataclass(frozen=True, eq=False, kw_only=True)
class LayerTrace:
    """One call of one recurrent layer; subclasses add what their equations compute.

    Every symbol is an attribute by its name, `(batch, timesteps, its width)`; of a state s there is `initial_s`, too.
    """

    name: str  #: where the layer is in its model; a shared layer's second call ends in "#2"
    x: Array  #: `(batch, timesteps, features)`, what the layer was given
    h: Array  #: `(batch, timesteps, width of h)`, hidden state after each step
    initial_h: Array  #: `(batch, width of h)`, hidden state before the first step
    mask: Array | None = None  #: `(batch, timesteps)`, False where the layer skipped the step
    go_backwards: bool = False  #: whether the layer read the sequence from its end
    about: Description  #: what the cell says of its symbols

    @property
    def kind(self) -> str:
        """Which equations, as `EquationCell.kind` says."""
        return self.about.kind

    @property
    def symbols(self) -> tuple[str, ...]:
        """The names of what each step computes, the states last."""
        return tuple(self.about.symbols)

    @property
    def states(self) -> tuple[str, ...]:
        """The names of the states; the first is what the layer gives out."""
        return self.about.states

    @property
    def batch(self) -> int:
        return self.h.shape[0]

    @property
    def timesteps(self) -> int:
        return self.h.shape[1]

    @property
    def units(self) -> int:
        """How many units the widest symbol has; `h.shape[2]` is less with a projection."""
        return max(getattr(self, symbol).shape[2] for symbol in self.symbols)

    @property
    def read(self) -> Array:
        """`(batch, timesteps)`, True where the layer read the step."""
        return np.ones(self.h.shape[:2], bool) if self.mask is None else self.mask

    def before(self, state: str) -> Array:
        """Return the state that each step found: that of the step before, `(batch, timesteps, width)`."""
        return _shift(getattr(self, state), getattr(self, f"initial_{state}"), self.go_backwards)

    @property
    def h_before(self) -> Array:
        """h_{t-1}: the hidden state that each step found."""
        return self.before("h")

    def to_frame(self) -> pd.DataFrame:
        """Return a tidy table: one row for each sequence, step and unit, one column for each symbol.

        Where a symbol has fewer units than another it is NaN.
        """
        size = (self.batch, self.timesteps, self.units)
        index = pd.MultiIndex.from_product([range(n) for n in size], names=["sequence", "step", "unit"])
        columns = {symbol: _widened(getattr(self, symbol), self.units).reshape(-1) for symbol in self.symbols}
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

    (With a projection h is `(batch, timesteps, projection)`; `cell_clip` and zoneout change c and h after that.)
    """

    i: Array  #: input gate: how much of the candidate enters
    f: Array  #: forget gate: which share of the cell state stays
    g: Array  #: candidate: how each element of the cell state should change
    o: Array  #: output gate: which share of the memory leaves
    c: Array  #: cell state after each step
    initial_c: Array  #: `(batch, units)`, cell state before the first step
    about: Description = field(default=described(LSTMCell, lstm_symbols.SYMBOLS))

    @property
    def c_before(self) -> Array:
        """c_{t-1}: the cell state that each step found."""
        return self.before("c")

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

    z: Array  #: `(batch, timesteps, units)`, pre-activation
    about: Description = field(default=described(VanillaRNNCell))


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class CellTrace(LayerTrace):
    """What any other cell computed at every step: `trace.f`, `trace.initial_c`, ... by the names its step declares."""

    values: Mapping[str, Array]  #: all but h: every symbol, and "initial_c" and the like of every state

    def __getattr__(self, name: str) -> Any:
        values = self.__dict__.get("values", {})
        if name in values:
            return values[name]
        raise AttributeError(f"A trace of {', '.join(['x', 'h', *values])} has no {name!r}.")


#: The record that has a name for each thing that a step computes, by the step's type.
RECORDS: dict[type, type[LayerTrace]] = {LSTMStep: GateTrace, RNNStep: RNNTrace}
#: The records of files of earlier versions, by the kind that stands in them.
EARLIER: dict[str, type[LayerTrace]] = {LSTMCell.kind: GateTrace, VanillaRNNCell.kind: RNNTrace}


def record(step_type: type, plain: Mapping[str, Any], arrays: Mapping[str, Array]) -> LayerTrace:
    """Return the trace of a cell with that step; `arrays` by the names of the symbols."""
    return made(RECORDS.get(step_type, CellTrace), plain, arrays)


def check_names(cell: Any) -> None:
    """Raise unless a trace can have an attribute for everything that a step of the cell computes.

    Raises:
        ArgumentError: a name is taken.
    """
    fields_ = {field.name for field in fields(LayerTrace)} - {"h", "initial_h"}
    taken = {*fields_, *(name for name in vars(LayerTrace) if not name.startswith("_")), "values"}
    clashes = [name for name in cell.step_type._fields if name in taken or name.startswith(("initial_", "_"))]
    if clashes:
        raise ArgumentError(
            f"What a step of {type(cell).__name__} computes has a name that a trace needs itself.",
            expected=f"names other than {', '.join(sorted(taken))}",
            received=", ".join(clashes),
            remedy="Give these fields of `step_type` other names, e.g. the letters of the equations.",
        )


def made(of_class: type[LayerTrace], plain: Mapping[str, Any], arrays: Mapping[str, Array]) -> LayerTrace:
    """Return a record of that class; arrays that it has no field for are those of its `values`."""
    named = {field.name for field in fields(of_class)}
    values = {name: array for name, array in arrays.items() if name not in named}
    own = {name: array for name, array in arrays.items() if name in named}
    known: dict[str, Any] = {**plain, **own, **({"values": values} if of_class is CellTrace else {})}
    return of_class(**known)


def _widened(values: Array, width: int) -> Array:
    """Return the units of a symbol, and NaN up to `width` units."""
    missing = width - values.shape[2]
    return np.pad(values, ((0, 0), (0, 0), (0, missing)), constant_values=np.nan) if missing else values


def _shift(states: Array, initial: Array, go_backwards: bool) -> Array:
    """Return for each step the state before it, in the order of time."""
    first = initial[:, None]
    if go_backwards:
        return np.concatenate([states[:, 1:], first], axis=1)
    return np.concatenate([first, states[:, :-1]], axis=1)


def __getattr__(name: str) -> Any:
    """`Traces` stood here before it had a module of its own, which imports this one."""
    if name == "Traces":
        return import_module("keras_lstm_custom.diagnostics.traces").Traces
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
