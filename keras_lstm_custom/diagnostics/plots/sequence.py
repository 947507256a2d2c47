"""One sequence, step by step: every unit of a layer, or one unit with its gates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_lstm_custom.diagnostics.naming import Names, feature_labels, step_labels
from keras_lstm_custom.diagnostics.plots.style import (
    BLACK,
    BLUE,
    LINES,
    MOST_NAMES,
    ORANGE,
    SKY,
    TITLES,
    grey_out,
    heat_map,
    name_steps,
    share_scale,
    signed_scale,
    styled,
)
from keras_lstm_custom.diagnostics.records import GateTrace, LayerTrace
from keras_lstm_custom.errors import ArgumentError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHARES = {"i": "enters", "f": "stays", "o": "leaves"}  #: the gates, between 0 and 1, and what each is the share of
MOST_LINES = 6  #: more input columns than this are shown as a heat map


@styled
def gates(
    trace: LayerTrace,
    sequence: int = 0,
    units: Sequence[int] | None = None,
    *,
    feature_names: Names | None = None,
    step_names: Any = None,
) -> Figure:
    """Draw all that the layer computed for one sequence: heat maps of units by steps, under the input.

    Args:
        trace: of one layer, from `trace`.
        sequence: its number in the batch.
        units: which to show, in this order; None shows all.
        feature_names: of the columns of the layer's input.
        step_names: one for each step, or a list of them for each sequence.

    Returns:
        A figure with one row for the input and one for each symbol. Steps that a mask left out are grey.
    """
    import matplotlib.pyplot as plt

    check_number("sequence", sequence, trace.batch)
    chosen = list(range(trace.units)) if units is None else list(units)
    for unit in chosen:
        check_number("unit", unit, trace.units)
    symbols = trace.symbols
    height = min(2.2, max(0.9, 0.08 * len(chosen)))
    figure, axes = plt.subplots(
        1 + len(symbols), 1, sharex=True, figsize=(7.5, 1.4 + height * len(symbols)),
        height_ratios=[1.2, *[height] * len(symbols)],
    )  # fmt: skip
    draw_input(axes[0], trace.x[sequence], trace.read[sequence], feature_names)
    axes[0].set_title(f"{trace.name}, sequence {sequence}\ninput $x_t$")
    for axis, symbol in zip(axes[1:], symbols, strict=True):
        values = np.where(trace.read[sequence, :, None], getattr(trace, symbol)[sequence], np.nan)[:, chosen]
        scale = share_scale() if symbol in SHARES and isinstance(trace, GateTrace) else signed_scale(values)
        image = heat_map(axis, values.T, **scale)
        axis.set_title(TITLES[symbol])
        axis.set_ylabel("unit")
        if units is not None:
            axis.set_yticks(range(len(chosen)), labels=map(str, chosen))
        figure.colorbar(image, ax=axis, pad=0.01, aspect=8)
    name_steps(axes[-1], _of_sequence(step_names, trace, sequence), trace.timesteps)
    return figure


@styled
def unit(
    trace: GateTrace,
    unit: int,
    sequence: int = 0,
    *,
    feature_names: Names | None = None,
    step_names: Any = None,
) -> Figure:
    """Draw one unit of an LSTM over one sequence: its gates, what is forgotten and enters, and what leaves.

    Args:
        trace: of an LSTM layer.
        unit: its number.
        sequence: its number in the batch.
        feature_names, step_names: as for `gates`.

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
    check_number("sequence", sequence, trace.batch)
    check_number("unit", unit, trace.units)
    figure, axes = plt.subplots(5, 1, sharex=True, figsize=(7.5, 8))
    at = (sequence, slice(None), unit)
    steps = np.arange(trace.timesteps)
    read = trace.read[sequence]
    draw_input(axes[0], trace.x[sequence], read, feature_names)
    axes[0].set_title(f"{trace.name}, unit {unit}, sequence {sequence}\ninput $x_t$")
    for symbol, (color, dashes) in zip(SHARES, LINES, strict=False):
        label = f"{TITLES[symbol]}: {SHARES[symbol]}"
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
    axes[4].set(ylabel="value", title="short-term memory: $h_t = o_t\\,\\tanh(c_t)$")
    for axis in axes[2:]:
        axis.axhline(0, color="0.6", linewidth=0.6, zorder=0)
    for axis in axes[1:]:
        axis.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
        grey_out(axis, read)
    name_steps(axes[4], _of_sequence(step_names, trace, sequence), trace.timesteps)
    return figure


def _of_sequence(step_names: Any, trace: LayerTrace, sequence: int) -> list[str] | None:
    labels = step_labels(step_names, trace.timesteps, trace.batch)
    return None if labels is None else labels[sequence]


def _potential(trace: GateTrace, at: tuple) -> np.ndarray:
    """h_t / o_t is what could leave, whatever the layer's activation is; where o_t is 0 it cannot be told."""
    o, h = trace.o[at], trace.h[at]
    return np.divide(h, o, out=np.full_like(h, np.nan), where=np.abs(np.nan_to_num(o)) > 1e-6)


def draw_input(axis: Any, x: np.ndarray, read: np.ndarray, feature_names: Names | None = None) -> None:
    """Draw what was read, `(timesteps, features)`, and give the time axis (which rows below share) whole numbers."""
    from matplotlib.ticker import MaxNLocator

    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    labels = feature_labels(feature_names, x.shape[1])
    if x.shape[1] > MOST_LINES:
        values = np.where(read[:, None], x, np.nan)
        image = heat_map(axis, values.T, **signed_scale(values))
        axis.set_ylabel("column")
        if feature_names is not None and len(labels) <= MOST_NAMES:
            axis.set_yticks(range(len(labels)), labels=labels, fontsize="x-small")
        axis.figure.colorbar(image, ax=axis, pad=0.01, aspect=8)
        return
    for (column, label), (color, dashes) in zip(enumerate(labels), LINES, strict=False):
        axis.plot(np.arange(len(x)), x[:, column], color=color, linestyle=dashes, label=label)
    axis.set(ylabel="value", xlim=(-0.5, len(x) - 0.5))
    grey_out(axis, read)
    if x.shape[1] > 1 or feature_names is not None:
        axis.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=3, borderaxespad=0)


def check_number(what: str, number: int, count: int) -> None:
    """Raise unless there is a sequence or unit of that number."""
    if not 0 <= number < count:
        raise ArgumentError(
            f"There is no {what} of that number.",
            expected=f"0 to {count - 1}",
            received=repr(number),
            remedy=f"Counting starts at 0; there are {count}.",
        )
