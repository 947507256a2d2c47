"""Pictures of traces, gradients and weights.

Every function takes plain data of the diagnostics, returns a `matplotlib.figure.Figure` and shows
nothing; save it with `figure.savefig("gates.png")`. Colours are those of Okabe & Ito 2008 and
matplotlib's cividis and PuOr, which readers with any colour vision can tell apart; lines differ in
their dashes, too, so that they survive a black-and-white print.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_lstm_custom.diagnostics.flow import GradientFlow
from keras_lstm_custom.diagnostics.records import GateTrace, LayerTrace
from keras_lstm_custom.diagnostics.summaries import GateSummary, summary
from keras_lstm_custom.diagnostics.weights import GateWeights
from keras_lstm_custom.errors import ArgumentError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLACK, ORANGE, SKY, GREEN, BLUE, VERMILION, PURPLE = (
    "#000000",
    "#E69F00",
    "#56B4E9",
    "#009E73",
    "#0072B2",
    "#D55E00",
    "#CC79A7",
)
LINES = [(BLUE, "-"), (VERMILION, "--"), (GREEN, "-."), (PURPLE, ":"), (ORANGE, (0, (5, 1))), (SKY, (0, (1, 1)))]
TITLES = {
    "i": "input gate $i_t$",
    "f": "forget gate $f_t$",
    "g": "candidate $g_t$",
    "o": "output gate $o_t$",
    "c": "cell state $c_t$",
    "h": "hidden state $h_t$",
    "z": "pre-activation $z_t$",
}
SHARES = ("i", "f", "o")  #: between 0 and 1; everything else has a sign
STYLE: dict[Any, Any] = {
    "figure.constrained_layout.use": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": "medium",
    "axes.titlelocation": "left",
    "font.size": 9,
    "legend.frameon": False,
    "savefig.dpi": 150,
}
MOST_LINES = 6  #: more input columns than this are shown as a heat map


def _styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Draw in the style of this module, whatever the user's is; the user's stays as it is."""

    @wraps(draw)
    def styled(*args: Any, **kwargs: Any) -> Figure:
        try:
            import matplotlib as mpl
        except ImportError as error:
            raise ImportError("Pictures need matplotlib: pip install 'keras_lstm_custom[plots]'") from error
        with mpl.rc_context(STYLE):
            return draw(*args, **kwargs)

    return styled


@_styled
def gates(trace: LayerTrace, sequence: int = 0, units: Sequence[int] | None = None) -> Figure:
    """Draw all that the layer computed for one sequence: heat maps of units by steps, under the input.

    Args:
        trace: of one layer, from `trace`.
        sequence: its number in the batch.
        units: which to show, in this order; None shows all.

    Returns:
        A figure with one row for the input and one for each symbol. Steps that a mask left out are grey.
    """
    import matplotlib.pyplot as plt

    _check_number("sequence", sequence, trace.batch)
    chosen = list(range(trace.units)) if units is None else list(units)
    for unit in chosen:
        _check_number("unit", unit, trace.units)
    symbols = trace.symbols
    height = min(2.2, max(0.9, 0.08 * len(chosen)))
    figure, axes = plt.subplots(
        1 + len(symbols), 1, sharex=True, figsize=(7.5, 1.4 + height * len(symbols)),
        height_ratios=[1.2, *[height] * len(symbols)],
    )  # fmt: skip
    _draw_input(axes[0], trace, sequence)
    axes[0].set_title(f"{trace.name}, sequence {sequence}\ninput $x_t$")
    for axis, symbol in zip(axes[1:], symbols, strict=True):
        values = np.where(trace.read[sequence, :, None], getattr(trace, symbol)[sequence], np.nan)[:, chosen]
        scale = _share_scale() if symbol in SHARES and isinstance(trace, GateTrace) else _signed_scale(values)
        image = _heat_map(axis, values.T, **scale)
        axis.set_title(TITLES[symbol])
        axis.set_ylabel("unit")
        if units is not None:
            axis.set_yticks(range(len(chosen)), labels=map(str, chosen))
        figure.colorbar(image, ax=axis, pad=0.01, aspect=8)
    axes[-1].set_xlabel("time step t")
    return figure


@_styled
def unit(trace: GateTrace, unit: int, sequence: int = 0) -> Figure:
    """Draw one unit of an LSTM over one sequence: its gates, what is forgotten and enters, and what leaves.

    Args:
        trace: of an LSTM layer.
        unit: its number.
        sequence: its number in the batch.

    Returns:
        A figure with five rows: input; gates; what is forgotten, -(1 - f_t) c_{t-1}, and what enters,
        i_t g_t; their sum over time, the long-term memory c_t; and what of it leaves as the
        short-term memory h_t = o_t tanh(c_t).
    """
    import matplotlib.pyplot as plt

    if not isinstance(trace, GateTrace):
        raise ArgumentError(
            "Only an LSTM has gates to draw.",
            expected="a GateTrace",
            received=repr(trace),
            remedy="Use plots.gates for a vanilla RNN.",
        )
    _check_number("sequence", sequence, trace.batch)
    _check_number("unit", unit, trace.units)
    figure, axes = plt.subplots(5, 1, sharex=True, figsize=(7.5, 8))
    at = (sequence, slice(None), unit)
    steps = np.arange(trace.timesteps)
    read = trace.read[sequence]
    _draw_input(axes[0], trace, sequence)
    axes[0].set_title(f"{trace.name}, unit {unit}, sequence {sequence}\ninput $x_t$")
    for symbol, (color, dashes) in zip(SHARES, LINES, strict=False):
        label = f"{TITLES[symbol]}: {_GATE_MEANS[symbol]}"
        axes[1].plot(steps, getattr(trace, symbol)[at], color=color, linestyle=dashes, label=label)
    axes[1].set(ylabel="share, 0 to 1", ylim=(-0.04, 1.04), title="gates")
    changes = {"forgotten: $-(1-f_t)\\,c_{t-1}$": -trace.forgotten[at], "enters: $i_t\\,g_t$": trace.entered[at]}
    for (label, values), color, shift in zip(changes.items(), (ORANGE, SKY), (-0.22, 0.22), strict=True):
        axes[2].bar(steps + shift, values, color=color, width=0.44, label=label)
    axes[2].set(ylabel="change", title="what changes the memory: $c_t - c_{t-1}$")
    axes[3].plot(steps, trace.c[at], color=BLACK, label="stays: $c_t$")
    axes[3].set(ylabel="value", title="long-term memory: $c_t = f_t\\,c_{t-1} + i_t\\,g_t$")
    axes[4].plot(steps, _potential(trace, at), color=BLUE, linestyle=":", label="could leave: $\\tanh(c_t)$")
    axes[4].plot(steps, trace.h[at], color=BLACK, label="leaves: $h_t$")
    axes[4].set(ylabel="value", xlabel="time step t", title="short-term memory: $h_t = o_t\\,\\tanh(c_t)$")
    for axis in axes[2:]:
        axis.axhline(0, color="0.6", linewidth=0.6, zorder=0)
    for axis in axes[1:]:
        axis.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
        for step in steps[~read]:
            axis.axvspan(step - 0.5, step + 0.5, color="0.9", linewidth=0, zorder=0)
    return figure


@_styled
def memory_lengths(of: GateTrace | GateSummary | Mapping[str, Any]) -> Figure:
    """Draw how long each unit remembers, -1 / log(mean f_t) steps, longest first, on a log axis.

    Args:
        of: a trace or summary of an LSTM layer, or a dict of them by name; layers without a forget
            gate are left out.
    """
    import matplotlib.pyplot as plt
    from matplotlib.ticker import LogFormatter

    layers = of if isinstance(of, Mapping) else {of.name: of}
    summaries = {
        name: summary(layer)[layer.name] if isinstance(layer, LayerTrace) else layer for name, layer in layers.items()
    }
    lengths = {name: s.memory_length for name, s in summaries.items() if isinstance(s, GateSummary)}
    if not lengths:
        raise ArgumentError(
            "Only an LSTM has a forget gate, and with it a memory length.",
            expected="a GateTrace, a GateSummary, or a dict with at least one",
            received=", ".join(map(repr, layers)),
            remedy="Pass the trace of an LSTM layer.",
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


@_styled
def gradients(flows: GradientFlow | Mapping[str, GradientFlow], symbol: str | None = None) -> Figure:
    """Draw how large the gradient is at each step, on a log axis: the mean, and 5 to 95 % of the sequences.

    Args:
        flows: of one layer, or of several by the name they get in the legend, as `gradient_flow`
            returns them. To compare models: `{"RNN": flow_a["vanilla_rnn"], "LSTM": flow_b["lstm"]}`.
        symbol: "h" or "c"; None takes the state that carries the past (c of an LSTM, h of a vanilla RNN).
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


@_styled
def weights(of: GateWeights) -> Figure:
    """Draw the weights of one layer by gate: kernel and recurrent kernel as heat maps, and all as histograms."""
    import matplotlib.pyplot as plt
    from matplotlib.ticker import MaxNLocator

    parts = of.parts()
    figure, axes = plt.subplots(3, len(of.gates), figsize=(max(4.5, 1.2 + 2.1 * len(of.gates)), 6.6), squeeze=False)
    titles = {"kernel": "kernel $W$: input", "recurrent_kernel": "recurrent kernel $U$: from unit"}
    for row, (part, ylabel) in zip(axes, titles.items(), strict=False):
        scale = _signed_scale(np.concatenate([w.reshape(-1) for w in parts[part].values()]))
        for axis, (gate, w) in zip(row, parts[part].items(), strict=True):
            image = _heat_map(axis, w, **scale)
            axis.xaxis.set_major_locator(MaxNLocator(integer=True))
            axis.set(xlabel="to unit")
            axis.set_title(TITLES[gate] if part == "kernel" else f"spectral radius {of.spectral_radius[gate]:.2f}")
        row[0].set_ylabel(ylabel)
        figure.colorbar(image, ax=list(row), pad=0.01, aspect=10)
    for part, (color, dashes) in zip(titles, LINES, strict=False):
        counts, edges = of.histogram(part, bins=15)
        for axis, gate in zip(axes[2], of.gates, strict=True):
            axis.stairs(counts[gate] / counts[gate].sum(), edges, color=color, linestyle=dashes, label=part)
    for axis, gate in zip(axes[2], of.gates, strict=True):
        if of.bias:
            b = of.bias[gate]
            axis.plot(b, np.zeros_like(b), "|", color=BLACK, markersize=14, clip_on=False, label="bias of each unit")
        axis.set(xlabel="weight", ylim=(0, None))
    axes[2, 0].set_ylabel("share of the weights")
    figure.legend(*axes[2, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    figure.suptitle(of.name)
    return figure


_GATE_MEANS = {"i": "enters", "f": "stays", "o": "leaves"}


def _potential(trace: GateTrace, at: tuple) -> np.ndarray:
    """h_t / o_t is what could leave, whatever the layer's activation is; where o_t is 0 it cannot be told."""
    o, h = trace.o[at], trace.h[at]
    return np.divide(h, o, out=np.full_like(h, np.nan), where=np.abs(np.nan_to_num(o)) > 1e-6)


def _positive(values: np.ndarray) -> np.ndarray:
    """Leave out what a log axis cannot show."""
    return np.where(values > 0, values, np.nan)


def _draw_input(axis: Any, trace: LayerTrace, sequence: int) -> None:
    """Draw what the layer read, and give the time axis (which the rows below share) whole numbers."""
    from matplotlib.ticker import MaxNLocator

    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    x = trace.x[sequence]
    if x.shape[1] > MOST_LINES:
        image = _heat_map(axis, x.T, **_signed_scale(x))
        axis.set_ylabel("column")
        axis.figure.colorbar(image, ax=axis, pad=0.01, aspect=8)
        return
    for column, (color, dashes) in zip(range(x.shape[1]), LINES, strict=False):
        axis.plot(np.arange(len(x)), x[:, column], color=color, linestyle=dashes, label=f"column {column}")
    axis.set(ylabel="value", xlim=(-0.5, len(x) - 0.5))
    if x.shape[1] > 1:
        axis.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=3, borderaxespad=0)


def _heat_map(axis: Any, values: np.ndarray, **scale: Any) -> Any:
    from matplotlib.ticker import MaxNLocator

    axis.set_facecolor("0.75")  # where there is no value
    axis.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    axis.spines[:].set_visible(False)
    return axis.imshow(values, aspect="auto", interpolation="nearest", **scale)


def _share_scale() -> dict[str, Any]:
    return {"cmap": "cividis", "vmin": 0, "vmax": 1}


def _signed_scale(values: np.ndarray) -> dict[str, Any]:
    largest = float(np.nanmax(np.abs(values), initial=1e-12))
    return {"cmap": "PuOr", "vmin": -largest, "vmax": largest}


def _check_number(what: str, number: int, count: int) -> None:
    if not 0 <= number < count:
        raise ArgumentError(
            f"There is no {what} of that number.",
            expected=f"0 to {count - 1}",
            received=repr(number),
            remedy=f"Counting starts at 0; the trace holds {count}.",
        )
