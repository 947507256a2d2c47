"""What the page of `report` shows, as JSON and as compact binary numbers."""

from __future__ import annotations

import base64
import textwrap
from collections.abc import Mapping
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_lstm_custom.cells.as_ours import as_ours
from keras_lstm_custom.diagnostics.flow import GradientFlow
from keras_lstm_custom.diagnostics.plots.style import BLUE
from keras_lstm_custom.diagnostics.records import LayerTrace
from keras_lstm_custom.diagnostics.recurrent_layers import cells
from keras_lstm_custom.diagnostics.report_cell import of_cell
from keras_lstm_custom.diagnostics.report_outcome import Shown
from keras_lstm_custom.diagnostics.summaries import GateSummary, LayerSummary, RNNSummary, summary
from keras_lstm_custom.diagnostics.traces import Traces
from keras_lstm_custom.errors import InputError

FEATURE_COLORS = ["#56B4E9", "#6A3D9A", "#8C6D31", "#7F7F7F", "#1B7F79", "#B8A9C9"]


def page_data(
    traces: Traces, flows: Mapping[str, GradientFlow], model: keras.Model, shown: Shown, gate_bits: int
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return what the page's script reads: plain data for JSON, and the numbers in base64 by name.

    Args:
        traces: at least one layer.
        flows: gradient flow of the same layers, or nothing.
        model: the model that was traced; its weights are shown.
        shown: prediction, target, attribution and names.
        gate_bits: 8 or 16, for each number of a gate, candidate or pre-activation. Inputs and states, from which
            sums are computed, always have 16.

    Raises:
        InputError: a value that a layer computed is not finite.
    """
    blobs = Blobs()
    weights = {name: as_ours(cell) for name, cell in cells(model).items()}
    layers = [
        _layer(trace, flows.get(name), weights[name.split("#")[0]], blobs, gate_bits, shown, first=number == 0)
        for number, (name, trace) in enumerate(traces.items())
    ]
    page = {
        "layers": layers,
        "features": FEATURE_COLORS,
        "accent": BLUE,
        "outcomes": shown.outcomes,
        "explained": _explained(shown),
        "step_names": shown.step_names,
        "no_gradient": "No targets were given, so there is no loss whose gradient could be shown.",
    }
    return page, blobs.texts


class Blobs:
    """Binary data by name. What comes twice, as the output of one layer and the input of the next, is kept once."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self._names: dict[bytes, str] = {}

    def add(self, values: np.ndarray) -> str:
        """Return the name under which the bytes of `values` are kept."""
        content = np.ascontiguousarray(values).tobytes()
        if content not in self._names:
            self._names[content] = name = f"blob-{len(self._names)}"
            self.texts[name] = base64.b64encode(content).decode()
        return self._names[content]


class Codes(NamedTuple):
    """Numbers as whole numbers of few bits: `low + (code - 1) * unit` for each row; 0 stands for what is not finite."""

    codes: np.ndarray  #: `(sequences, rows, steps)`
    low: np.ndarray  #: `(rows,)`, the smallest value of each row
    unit: np.ndarray  #: `(rows,)`, the distance of neighbouring values; no number is off by more than half of it


def encode(values: np.ndarray, bits: int) -> Codes:
    """Return `values` `(sequences, steps, rows)` with `bits` bits each, spread evenly over the range of each row."""
    values = np.moveaxis(values.astype(np.float64), 2, 1)
    missing = ~np.isfinite(values)
    low = np.where(missing, np.inf, values).min(axis=(0, 2), initial=np.inf)
    high = np.where(missing, -np.inf, values).max(axis=(0, 2), initial=-np.inf)
    low, high = (np.where(np.isfinite(end), end, 0) for end in (low, high))  # rows without any value
    unit = (high - low) / (2**bits - 2)
    steps = (values - low[:, None]) / np.where(unit > 0, unit, 1)[:, None]
    codes = np.where(missing, 0, np.rint(steps) + 1).astype(f"<u{bits // 8}")
    return Codes(codes, low, unit)


def _layer(
    trace: LayerTrace, flow: GradientFlow | None, cell: Any, blobs: Blobs, gate_bits: int, shown: Shown, first: bool
) -> dict[str, Any]:
    _check_finite(trace)
    states = trace.states
    encoded = {symbol: encode(getattr(trace, symbol), gate_bits) for symbol in trace.about.computed}
    encoded |= {symbol: encode(getattr(trace, symbol), 16) for symbol in ("x", *states)}
    encoded["read"] = encode(np.where(trace.read, 1.0, np.nan)[..., None], 8)
    encoded |= {f"initial_{symbol}": encode(getattr(trace, f"initial_{symbol}")[:, None], 16) for symbol in states}
    contributions = shown.attribution_of(trace)
    if contributions is not None:
        encoded["attribution"] = encode(contributions[0], 16)
    names = shown.step_names
    return {
        **of_cell(trace, cell, blobs.add),
        "name": trace.name,
        "sequences": trace.batch,
        "units": trace.units,
        "steps": trace.timesteps,
        "go_backwards": trace.go_backwards,
        "features": shown.features_of(trace, first),
        "contributors": None if contributions is None else contributions[1],
        "has_step_names": names is not None and (len(names), len(names[0])) == trace.h.shape[:2],
        "arrays": {
            symbol: {
                "blob": blobs.add(codes),
                "bits": 8 * codes.itemsize,
                "rows": codes.shape[1],
                "steps": codes.shape[2],
                "low": low.tolist(),
                "unit": unit.tolist(),
            }
            for symbol, (codes, low, unit) in encoded.items()
        },
        "digits": 4 if gate_bits == 16 else 2,
        "note": _note(trace),
        "precision": _precision(encoded, trace.symbols),
        "gradient": None if flow is None else _gradient(flow),
        "summary": _summary(summary(trace)[trace.name]),
    }


def _explained(shown: Shown) -> dict[str, Any] | str:
    """Return how the contributions belong to the prediction, for each sequence; or why there are none."""
    found = shown.attribution
    if found is None:
        return shown.no_attribution
    ends = {"prediction": found.prediction, "reference": found.reference, "total": found.total}
    text = {"target": found.target, "baseline": found.baseline, "method": found.method.replace("_", " ")}
    return {**text, **{name: _plain(values) for name, values in ends.items()}}


def _note(trace: LayerTrace) -> str:
    size = f"{trace.batch} sequences of {trace.timesteps} steps with {trace.x.shape[2]} inputs."
    backwards = " This layer reads the sequence from its end: for it, the step before t is t + 1."
    masked = " Steps that the mask made it skip are grey."
    return size + backwards * trace.go_backwards + masked * (trace.mask is not None and not trace.mask.all())


def _precision(encoded: Mapping[str, Codes], symbols: tuple[str, ...]) -> str:
    bounds = ", ".join(f"{symbol} ±{encoded[symbol].unit.max() / 2:.1g}" for symbol in symbols)
    return (
        "Numbers are stored with 8 or 16 bits, spread over the range of their unit, and differ from the traced ones "
        f"by at most: {bounds}. The sums W x + U h + b are computed from them."
    )


def _gradient(flow: GradientFlow) -> dict[str, Any]:
    curves = []
    for symbol in reversed(flow.by_state):
        low, high = flow.quantiles((0.05, 0.95), symbol)
        ends = {"low": _plain(low), "mean": _plain(flow.mean(symbol)), "high": _plain(high)}
        curves.append({"symbol": symbol, **ends})
    return {"verdict": str(flow.verdict), "states": curves}


def _summary(found: LayerSummary) -> dict[str, Any]:
    shown: dict[str, Any] = {"text": _text(found), "peak": _plain(found.peak)}
    if isinstance(found, GateSummary):
        for share in ("closed", "open"):
            shown[share] = {gate: _plain(values) for gate, values in getattr(found, share).items()}
        if found.memory_length is not None:
            shown["memory_length"] = _plain(found.memory_length)
    if isinstance(found, RNNSummary):
        shown["saturated"] = _plain(found.saturated)
    return shown


def _text(found: LayerSummary) -> str:
    """Return the summary's table without its title, which the page shows in another place."""
    return textwrap.dedent(str(found).partition("\n")[2])


def _plain(values: np.ndarray) -> list[float | None]:
    """Return numbers for JSON, four digits each; None where there is nothing to draw."""
    return [float(f"{v:.4g}") if np.isfinite(v) else None for v in values]


def _check_finite(trace: LayerTrace) -> None:
    read = trace.read
    for symbol in trace.symbols:
        finite = np.isfinite(getattr(trace, symbol)[read])
        if not finite.all():
            raise InputError(
                f"The layer {trace.name!r} itself computes values that are not finite.",
                expected=f"finite {symbol} at every step",
                received=f"{np.count_nonzero(~finite)} values of {symbol} that are NaN or infinite",
                remedy="The model has diverged: train it again with a lower learning rate or clipnorm=1.0.",
            )
