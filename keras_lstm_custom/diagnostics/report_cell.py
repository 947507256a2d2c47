"""What the page of `report` shows of a cell: its symbols, equations, weights and colours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
from keras import ops

from keras_lstm_custom.diagnostics.plots.style import BLACK, BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILION
from keras_lstm_custom.diagnostics.records import LayerTrace
from keras_lstm_custom.diagnostics.weights import packed
from keras_lstm_custom.symbols import Description

#: What is given out is orange; the gates take the first colours in turn, states and the rest the second ones.
SHARES = (BLUE, VERMILION, GREEN, SKY, "#6A3D9A")
OTHERS = (BLACK, PURPLE, "#8C6D31", "#7F7F7F", "#1B7F79")


def of_cell(trace: LayerTrace, cell: Any, keep: Callable[[np.ndarray], str]) -> dict[str, Any]:
    """Return plain data for the page's script; `keep` puts an array into the page and returns its name there."""
    about = trace.about
    weights = {name: packed(cell, name) for name in ("kernel", "recurrent_kernel", "bias")}
    by_gate = {name: None if w is None else _weight(w, cell, keep) for name, w in weights.items()}
    vectors = {name: ops.convert_to_numpy(getattr(cell, attribute)) for name, attribute in cell.vectors.items()}
    return {
        "title": about.title,
        "states": about.states,
        "memory": about.memory,
        "keeper": about.keeper,
        "symbols": list(about.symbols),
        "about": {name: asdict(symbol) for name, symbol in about.symbols.items()},
        "colors": colors(about),
        "formulas": [formula._asdict() for formula in cell.formulas if formula.symbol in about.symbols],
        "gates": list(cell.gates),
        "columns": cell.units,
        "activation": _name(cell, "activation"),
        "recurrent_activation": _name(cell, "recurrent_activation"),
        "weights": by_gate,
        "vectors": {name: [float(f"{v:.6g}") for v in values] for name, values in vectors.items()},
    }


def colors(about: Description) -> dict[str, str]:
    """Return a colour for each symbol."""
    shares = about.names("share")
    ordered = [*about.states[1:], *(name for name in about.computed if name not in shares)]
    found = {name: SHARES[k % len(SHARES)] for k, name in enumerate(shares)}
    found |= {name: OTHERS[k % len(OTHERS)] for k, name in enumerate(ordered) if name not in found}
    return found | {about.states[0]: ORANGE}


def _weight(values: np.ndarray, cell: Any, keep: Callable) -> dict[str, Any] | None:
    """Return where the numbers are; None if they are not packed by gate."""
    if values.shape[-1] != len(cell.gates) * cell.units:
        return None
    rows = 1 if values.ndim == 1 else values.shape[0]
    return {"blob": keep(values.astype("<f4")), "rows": rows, "columns": values.shape[-1]}


def _name(cell: Any, option: str) -> str | None:
    activation = getattr(cell, option, None)
    return getattr(activation, "__name__", type(activation).__name__) if callable(activation) else None
