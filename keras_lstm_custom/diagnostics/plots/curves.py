"""Whole layers, and layers beside each other, on log axes: how long units remember, how the gradient comes back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_lstm_custom.diagnostics.flow import GradientFlow
from keras_lstm_custom.diagnostics.plots.style import LINES, styled
from keras_lstm_custom.diagnostics.records import LayerTrace
from keras_lstm_custom.diagnostics.summaries import GateSummary, summary
from keras_lstm_custom.errors import ArgumentError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@styled
def memory_lengths(of: LayerTrace | GateSummary | Mapping[str, Any]) -> Figure:
    """Draw how long each unit remembers, -1 / log(mean f_t) steps, longest first, on a log axis.

    Args:
        of: a trace or summary of a layer, or a dict of them by name; layers without a gate that says which
            share of the memory stays (f of an LSTM, z of a GRU) are left out.

    Raises:
        ArgumentError: no layer has such a gate.
    """
    import matplotlib.pyplot as plt
    from matplotlib.ticker import LogFormatter

    layers = of if isinstance(of, Mapping) else {of.name: of}
    summaries = {
        name: summary(layer)[layer.name] if isinstance(layer, LayerTrace) else layer for name, layer in layers.items()
    }
    gated = {name: s for name, s in summaries.items() if isinstance(s, GateSummary)}
    lengths = {name: s.memory_length for name, s in gated.items() if s.memory_length is not None}
    if not lengths:
        raise ArgumentError(
            "No layer here has a forget gate, or another that says what stays, and with it a memory length.",
            expected="the trace or summary of an LSTM, GRU or sLSTM, or a dict with at least one",
            received=", ".join(map(repr, layers)),
            remedy="A cell of one's own says so with Symbol(..., 'share', keeps='h').",
        )
    figure, axis = plt.subplots(figsize=(6, 3.5))
    for (name, steps), (color, dashes) in zip(lengths.items(), LINES * len(lengths), strict=False):
        finite = np.sort(steps[np.isfinite(steps)])[::-1]
        forever = len(steps) - len(finite)
        label = name if not forever else f"{name} (and {forever} units that never forget)"
        axis.plot(np.arange(len(finite)) + 1, finite, color=color, linestyle=dashes, marker=".", label=label)
    axis.set_yscale("log")
    axis.yaxis.set_major_formatter(LogFormatter())
    axis.yaxis.set_minor_formatter(LogFormatter())
    axis.set(xlabel="units, longest memory first", ylabel="memory length / steps")
    axis.set_title("after so many steps, 1/e of what $c$ held is left: $-1/\\log\\,\\bar{f}$")
    axis.legend()
    return figure


@styled
def gradients(flows: GradientFlow | Mapping[str, GradientFlow], symbol: str | None = None) -> Figure:
    """Draw how large the gradient is at each step, on a log axis: the mean, and 5 to 95 % of the sequences.

    Args:
        flows: of one layer, or of several by the name they get in the legend, as `gradient_flow`
            returns them. To compare models: `{"RNN": flow_a["rnn"], "LSTM": flow_b["encoder"]}`.
        symbol: a state, "h" or "c"; None takes the one that carries the past (c of an LSTM, h of a GRU or vanilla RNN).
    """
    import matplotlib.pyplot as plt

    named = flows if isinstance(flows, Mapping) else {flows.name: flows}
    figure, axis = plt.subplots(figsize=(7, 3.8))
    lost = False
    for (name, flow), (color, dashes) in zip(named.items(), LINES * len(named), strict=False):
        steps = np.arange(flow.h.shape[1])
        mean, (low, high) = flow.mean(symbol), flow.quantiles((0.05, 0.95), symbol)
        lost |= bool((mean == 0).any())
        label = f"{name}: ‖∂L/∂{symbol or flow.memory}ₜ‖ ({flow.verdict.name})"
        axis.plot(steps, _positive(mean), color=color, linestyle=dashes, label=label)
        axis.fill_between(steps, _positive(low), _positive(high), color=color, alpha=0.2, linewidth=0)
    axis.set_yscale("log")
    axis.set(xlabel="time step t", ylabel="norm of the gradient")
    note = "; no line: exactly zero" if lost else ""
    axis.set_title(f"gradient by step: mean, and 5 to 95 % of the sequences{note}")
    axis.legend()
    return figure


def _positive(values: np.ndarray) -> np.ndarray:
    """Leave out what a log axis cannot show."""
    return np.where(values > 0, values, np.nan)
