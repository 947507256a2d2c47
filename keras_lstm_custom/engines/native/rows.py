"""The cells that the C++ core knows: a row for each, with which of its options it knows, and how it is handed over."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from keras import ops

from keras_lstm_custom.engines import fast_path
from keras_lstm_custom.equations import gru_step, lstm_step, rnn_step
from keras_lstm_custom.structures import Tensor


class Handed(NamedTuple):
    """A cell as the core takes it; all weights in the dtype that the cell computes in."""

    cell: str  #: its name in the table of `src/core.cc`
    kernel: Tensor  #: `(features, gates * units)`
    recurrent_kernel: Tensor  #: `(units, gates * units)`
    bias: Tensor | None  #: `(gates * units,)`
    extra: Tensor | None = None  #: further weights by gate, `(gates * units,)`
    options: Mapping[str, float] = MappingProxyType({})  #: attributes of the operation


class Row(NamedTuple):
    """One of our cells."""

    hand_over: Callable[[Any], Handed]
    features: frozenset[str] = frozenset()  #: of the cell's `features` those that the core knows


def _plain(name: str) -> Callable[[Any], Handed]:
    return lambda cell: Handed(name, *fast_path.weights_of(cell))


def _gru(cell: Any) -> Handed:
    kernel, recurrent_kernel, bias = fast_path.weights_of(cell)
    of_x, of_h = (None, None) if bias is None else (bias[0], bias[1])
    return Handed("gru", kernel, recurrent_kernel, of_x, of_h)


def _lstm(cell: Any) -> Handed:
    weights = fast_path.weights_of(cell)
    if not cell.features:
        return Handed("lstm", *weights)
    peepholes = None
    if cell.peepholes:
        nothing = ops.zeros((cell.units,), dtype=cell.compute_dtype)
        by_gate = [cell.tensor(f"peephole_{gate}") if gate != "g" else nothing for gate in cell.gates]
        peepholes = ops.concatenate(by_gate)
    options = {name: float(getattr(cell, name) or 0.0) for name in ("cell_clip", "zoneout", "cell_zoneout")}
    return Handed("coupled_lstm" if cell.coupled else "lstm_options", *weights, peepholes, options)


#: By the function of `equations` that the cell names.
ROWS: dict[Callable[..., Any], Row] = {
    lstm_step: Row(_lstm, frozenset({"peepholes", "coupled", "cell_clip", "zoneout", "cell_zoneout"})),
    gru_step: Row(_gru),
    rnn_step: Row(_plain("vanilla_rnn")),
}


def refusal(cell: Any) -> str | None:
    """Return why the core does not compute what the cell does, or None."""
    row = ROWS.get(cell.equation)
    return fast_path.equations_refusal(cell, ROWS, row.features if row else frozenset())
