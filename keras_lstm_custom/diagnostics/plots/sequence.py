"""One sequence, step by step: every unit of a layer, or one unit with its gates."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
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
    colour_scale,
    grey_out,
    heat_map,
    name_steps,
    share_scale,
    signed_scale,
    styled,
    whole_numbers,
)
from keras_lstm_custom.diagnostics.records import GateTrace, LayerTrace
from keras_lstm_custom.errors import ArgumentError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

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

    Raises:
        ArgumentError: there is no such sequence or unit, or names are too few or too many.
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
        values = np.where(trace.read[sequence, :, None], getattr(trace, symbol)[sequence], np.nan)
        missing = trace.units - values.shape[1]  # a projected h has fewer units than the rest
        values = np.pad(values, ((0, 0), (0, missing)), constant_values=np.nan)[:, chosen]
        about = trace.about.symbols[symbol]
        scale = share_scale() if about.range == "share" else signed_scale(values)
        image = heat_map(axis, values.T, **scale)
        axis.set_title(about.latex(symbol))
        axis.set_ylabel("unit")
        if units is not None:
            axis.set_yticks(range(len(chosen)), labels=map(str, chosen))
        colour_scale(axis, image)
    name_steps(axes[-1], _of_sequence(step_names, trace, sequence), trace.timesteps)
    return figure


@styled
def unit(
    trace: LayerTrace,
    unit: int,
    sequence: int = 0,
    *,
    feature_names: Names | None = None,
    step_names: Any = None,
) -> Figure:
    """Draw one unit of a layer with gates over one sequence: its gates, what is forgotten and enters, and what leaves.

    Args:
        trace: of an LSTM, a GRU, an sLSTM, or a cell of one's own that says which symbols are shares.
        unit: its number.
        sequence: its number in the batch.
        feature_names, step_names: as for `gates`.

    Returns:
        A figure with a row for each of: input; gates; what is forgotten, -(1 - f_t) c_{t-1}, and what enters,
        i_t g_t; their sum over time, the long-term memory c_t; and what of it leaves as the
        short-term memory h_t = o_t tanh(c_t). Other cells have the rows that their equations have.

    Raises:
        ArgumentError: the cell has no gates, there is no such sequence or unit, or names are too few or too many.
    """
    import matplotlib.pyplot as plt

    about = trace.about
    shares = about.names("share")
    if not shares:
        raise ArgumentError(
            "Only a cell that has gates can be drawn unit by unit.",
            expected="the trace of a cell with gates: LSTM, GRU, sLSTM, or one whose `symbols` say 'share'",
            received=repr(trace),
            remedy="Use plots.gates, which draws any cell.",
        )
    check_number("sequence", sequence, trace.batch)
    check_number("unit", unit, trace.units)
    one = _Unit(trace, unit, sequence)
    rows = [one.gates, *([one.changes] if about.keeper else [])]
    rows += [partial(one.state, state) for state in about.states[1:]] + [one.output]
    figure, axes = plt.subplots(1 + len(rows), 1, sharex=True, figsize=(7.5, 1.6 * (1 + len(rows))))
    read = trace.read[sequence]
    draw_input(axes[0], trace.x[sequence], read, feature_names)
    axes[0].set_title(f"{trace.name}, unit {unit}, sequence {sequence}\ninput $x_t$")
    for axis, draw in zip(axes[1:], rows, strict=True):
        draw(axis)
    for axis in axes[2:]:
        axis.axhline(0, color="0.6", linewidth=0.6, zorder=0)
    for axis in axes[1:]:
        axis.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
        grey_out(axis, read)
    name_steps(axes[-1], _of_sequence(step_names, trace, sequence), trace.timesteps)
    return figure


class _Unit:
    """Draws rows of one unit over one sequence."""

    def __init__(self, trace: LayerTrace, unit: int, sequence: int):
        self._trace, self._about, self._number, self._sequence = trace, trace.about, unit, sequence
        self._steps = np.arange(trace.timesteps)
        keeper = self._about.keeper
        if keeper:
            self._memory, gate = self._about.memory, f"{keeper}_t"
            enters = self._about.symbols[keeper].enters or f"{self._memory}_t - {gate} {self._memory}_{{t-1}}"
            self._enters = enters.replace(" ", "\\,")
            self._stays = f"{gate}\\,{self._memory}_{{t-1}}"

    def of(self, values: np.ndarray) -> np.ndarray:
        """Return the unit's numbers; NaN where a projected h has none for it."""
        if self._number >= values.shape[2]:
            return np.full(len(self._steps), np.nan)
        return values[self._sequence, :, self._number]

    def gates(self, axis: Any) -> None:
        for gate, (color, dashes) in zip(self._about.names("share"), LINES * 2, strict=False):
            symbol = self._about.symbols[gate]
            label = symbol.latex(gate) + (f": {symbol.does}" if symbol.does else "")
            axis.plot(self._steps, self.of(getattr(self._trace, gate)), color=color, linestyle=dashes, label=label)
        axis.set(ylabel="share, 0 to 1", ylim=(-0.04, 1.04), title="gates")

    def changes(self, axis: Any) -> None:
        memory, keeper = self._memory, str(self._about.keeper)
        state, before = self.of(getattr(self._trace, memory)), self.of(self._trace.before(memory))
        stays = self.of(getattr(self._trace, keeper))
        lost = f"forgotten: $-(1-{keeper}_t)\\,{memory}_{{t-1}}$"
        changes = {lost: -(1 - stays) * before, f"enters: ${self._enters}$": state - stays * before}
        for (label, values), color, shift in zip(changes.items(), (ORANGE, SKY), (-0.22, 0.22), strict=True):
            axis.bar(self._steps + shift, values, color=color, width=0.44, label=label)
        axis.set(ylabel="change", title=f"what changes the memory: ${memory}_t - {memory}_{{t-1}}$")

    def state(self, state: str, axis: Any) -> None:
        title = self._about.symbols[state].latex(state)
        if self._about.keeper and state == self._memory:
            title = f"long-term memory: ${state}_t = {self._stays} + {self._enters}$"
        axis.plot(self._steps, self.of(getattr(self._trace, state)), color=BLACK, label=f"stays: ${state}_t$")
        axis.set(ylabel="value", title=title)

    def output(self, axis: Any) -> None:
        if self._about.memory == "h":
            return self.state("h", axis)
        title = "short-term memory: $h_t$"
        if isinstance(self._trace, GateTrace) and self._trace.h.shape == self._trace.c.shape:
            title = "short-term memory: $h_t = o_t\\,\\tanh(c_t)$"
            potential = self.of(_potential(self._trace))
            axis.plot(self._steps, potential, color=BLUE, linestyle=":", label="could leave: $\\tanh(c_t)$")
        axis.plot(self._steps, self.of(self._trace.h), color=BLACK, label="leaves: $h_t$")
        axis.set(ylabel="value", title=title)


def _of_sequence(step_names: Any, trace: LayerTrace, sequence: int) -> list[str] | None:
    labels = step_labels(step_names, trace.timesteps, trace.batch)
    return None if labels is None else labels[sequence]


def _potential(trace: GateTrace) -> np.ndarray:
    """h_t / o_t is what could leave, whatever the layer's activation is; where o_t is 0 it cannot be told."""
    o, h = trace.o, trace.h
    return np.divide(h, o, out=np.full_like(h, np.nan), where=np.abs(np.nan_to_num(o)) > 1e-6)


def draw_input(axis: Any, x: np.ndarray, read: np.ndarray, feature_names: Names | None = None) -> None:
    """Draw what was read, `(timesteps, features)`, and give the time axis (which rows below share) whole numbers."""
    axis.xaxis.set_major_locator(whole_numbers())
    labels = feature_labels(feature_names, x.shape[1])
    if x.shape[1] > MOST_LINES:
        values = np.where(read[:, None], x, np.nan)
        image = heat_map(axis, values.T, **signed_scale(values))
        axis.set_ylabel("column")
        if feature_names is not None and len(labels) <= MOST_NAMES:
            axis.set_yticks(range(len(labels)), labels=labels, fontsize="x-small")
        colour_scale(axis, image)
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
