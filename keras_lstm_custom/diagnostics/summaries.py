"""`summary`: what a trace says about each unit, as plain numbers and as a table.

Saturation after Karpathy, Johnson & Fei-Fei 2015, *Visualizing and Understanding Recurrent Networks*:
a gate is left-saturated at a step where it is below 0.1, and right-saturated where it is above 0.9.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from keras_lstm_custom.diagnostics.records import LayerTrace
from keras_lstm_custom.errors import ArgumentError

Array = np.ndarray

CLOSED_BELOW = 0.1  #: a gate lets (almost) nothing through
OPEN_ABOVE = 0.9  #: a gate lets (almost) all through
DEAD_BELOW = 0.01  #: a unit whose |h| never gets larger says nothing


@dataclass(frozen=True, eq=False, kw_only=True)
class LayerSummary:
    """What one layer's units do, over all sequences and steps that it read. `str()` is a table."""

    name: str
    size: dict[str, Array]  #: by state beside h, `(its width,)`: median |value|
    peak: Array  #: `(units,)`, largest |h|
    input_correlation: Array  #: `(features, units)`, Pearson's r of each input column with h; NaN where one is constant

    @property
    def dead(self) -> Array:
        """Numbers of the units whose |h| stays below 0.01: nothing of them is ever seen outside."""
        return np.flatnonzero(self.peak < DEAD_BELOW)

    def strongest_input(self) -> tuple[int, int, float]:
        """Return the input column and unit that go together most closely, and their correlation."""
        strength = np.nan_to_num(np.abs(self.input_correlation))
        column, unit = np.unravel_index(strength.argmax(), strength.shape)
        return int(column), int(unit), float(self.input_correlation[column, unit])

    def to_frame(self) -> pd.DataFrame:
        """Return one row for each unit."""
        units = pd.RangeIndex(self.units, name="unit")
        columns = {f"r_input_{n}": r for n, r in enumerate(self.input_correlation)}
        sizes = {f"size_{state}": size for state, size in self.size.items()}
        named = {"layer": self.name, **self._columns(), **sizes, "peak_h": self.peak, **columns}
        # A projected h has fewer units than the gates behind it.
        return pd.DataFrame({n: v if n == "layer" else pd.Series(v) for n, v in named.items()}, index=units)

    def _columns(self) -> dict[str, Array]:
        return {}

    def _lines(self) -> list[str]:
        column, unit, r = self.strongest_input()
        sizes = [
            f"{state}: median |{state}| {np.median(size):.3g}, unit by unit from {size.min():.3g} to {size.max():.3g}"
            for state, size in self.size.items()
        ]
        return [
            *sizes,
            f"dead units (|h| < {DEAD_BELOW} throughout): {_listed(self.dead)}",
            f"closest to an input: h of unit {unit} and input column {column}, r = {r:.2f}",
        ]

    @property
    def units(self) -> int:
        """How many units there are; a projection gives out fewer."""
        return max(map(len, [self.peak, *self.size.values()]))

    def __str__(self) -> str:
        return "\n".join([f"{self.name} ({self.units} units)", *(f"  {line}" for line in self._lines())])


@dataclass(frozen=True, eq=False, kw_only=True)
class GateSummary(LayerSummary):
    """What the gates of a layer do."""

    gates: dict[str, str]  #: what lies between 0 and 1, and what it is called: {"f": "forget gate"}
    keeper: str | None  #: which of them is the share of the memory that stays: "f" of an LSTM, "z" of a GRU
    mean: dict[str, Array]  #: by gate, `(units,)`: mean
    closed: dict[str, Array]  #: by gate, `(units,)`: share of the steps at which it is below 0.1
    open: dict[str, Array]  #: by gate, `(units,)`: share of the steps at which it is above 0.9

    @property
    def always_open(self) -> dict[str, Array]:
        """By gate: numbers of the units where it is above 0.9 at every step. An `f` never forgets."""
        return {gate: np.flatnonzero(share == 1) for gate, share in self.open.items()}

    @property
    def always_closed(self) -> dict[str, Array]:
        """By gate: numbers of the units where it is below 0.1 at every step. An `i` never learns anything new."""
        return {gate: np.flatnonzero(share == 1) for gate, share in self.closed.items()}

    @property
    def memory_length(self) -> Array | None:
        r"""$-1 / \log \bar f$ of each unit, `(units,)`, in steps: after so many, 1/e of what the memory held is left.

        $\bar f$ is the mean of the gate that says what stays (`keeper`); infinite where it is 1 or more, 0 where it is
        0. None where no gate says so.
        """
        if self.keeper is None:
            return None
        f = np.clip(self.mean[self.keeper].astype(np.float64), 0, 1)
        with np.errstate(divide="ignore"):
            return np.where(f < 1, -1 / np.log(f), np.inf)

    def _columns(self) -> dict[str, Array]:
        shares = {"mean": self.mean, "closed": self.closed, "open": self.open}
        columns = {f"{gate}_{what}": values[gate] for gate in self.gates for what, values in shares.items()}
        return columns if self.memory_length is None else {**columns, "memory_length": self.memory_length}

    def _lines(self) -> list[str]:
        rows = [f"{'':<12}  {'mean':>5}  {'< 0.1':>5}  {'> 0.9':>5}  always < 0.1  always > 0.9"]
        for gate, title in self.gates.items():
            mean, closed, opened = (values[gate].mean() for values in (self.mean, self.closed, self.open))
            title = title or gate
            never, ever = len(self.always_closed[gate]), len(self.always_open[gate])
            rows.append(f"{title:<12}  {mean:>5.2f}  {closed:>5.0%}  {opened:>5.0%}  {never:>6} units  {ever:>6} units")
        if self.memory_length is not None:
            low, middle, high = np.quantile(self.memory_length, (0, 0.5, 1), method="nearest")
            formula = f"-1/log(mean {self.keeper})"
            rows.append(f"memory length {formula}: median {middle:.3g} steps, from {low:.3g} to {high:.3g}")
        return [*rows, *super()._lines()]


@dataclass(frozen=True, eq=False, kw_only=True)
class RNNSummary(LayerSummary):
    """What the units of a layer without gates do, whose h lies between -1 and 1."""

    saturated: Array  #: `(units,)`, share of the steps at which |h| is above 0.9, where tanh is flat

    def _columns(self) -> dict[str, Array]:
        return {"saturated": self.saturated}

    def _lines(self) -> list[str]:
        return [f"saturated, |h| > {OPEN_ABOVE}: {self.saturated.mean():.0%} of the steps", *super()._lines()]


class Summary(dict[str, LayerSummary]):
    """The summaries of a model's layers by name. `str()` gives their tables."""

    def __str__(self) -> str:
        return "\n\n".join(map(str, self.values()))

    def to_frame(self) -> pd.DataFrame:
        """Return one row for each layer and unit; what a layer lacks is NaN."""
        return pd.concat([layer.to_frame().reset_index() for layer in self.values()], ignore_index=True)


def summary(traces: LayerTrace | Mapping[str, LayerTrace]) -> Summary:
    """Summarise what `trace` returned, or one layer's trace. Masked steps do not count.

    ```python
    print(summary(trace(model, x)))
    summary(trace(model, x))["encoder"].memory_length  # (units,), in steps
    ```

    Args:
        traces: from `trace`, `(batch, timesteps, units)` each, or that of one layer.

    Returns:
        A `Summary`, a dict by layer that prints as a table: of each gate its mean and how often it is closed and open,
        the memory length of the units in steps, dead units.

    Raises:
        ArgumentError: these are no traces.
    """
    layers = {traces.name: traces} if isinstance(traces, LayerTrace) else traces
    if not (isinstance(layers, Mapping) and all(isinstance(trace, LayerTrace) for trace in layers.values())):
        raise ArgumentError(
            "Only traces can be summarised.",
            expected="what `trace` returned, or the trace of one layer",
            received=type(traces).__name__,
            remedy="Trace the model first: summary(trace(model, x)).",
        )
    return Summary({name: _of_layer(trace) for name, trace in layers.items()})


def _of_layer(trace: LayerTrace) -> LayerSummary:
    about, h, x = trace.about, trace.h[trace.read], trace.x[trace.read]
    common = {
        "name": trace.name,
        "size": {state: np.median(np.abs(getattr(trace, state)[trace.read]), axis=0) for state in about.states[1:]},
        "peak": np.abs(h).max(axis=0),
        "input_correlation": _correlation(x, h),
    }
    gates = {gate: getattr(trace, gate)[trace.read] for gate in about.names("share")}
    if gates:
        return GateSummary(
            **common,
            gates={gate: about.symbols[gate].title for gate in gates},
            keeper=about.keeper,
            mean={gate: values.mean(axis=0) for gate, values in gates.items()},
            closed={gate: (values < CLOSED_BELOW).mean(axis=0) for gate, values in gates.items()},
            open={gate: (values > OPEN_ABOVE).mean(axis=0) for gate, values in gates.items()},
        )
    if about.symbols["h"].range == "signed":
        return RNNSummary(**common, saturated=(np.abs(h) > OPEN_ABOVE).mean(axis=0))
    return LayerSummary(**common)


def _correlation(x: Array, h: Array) -> Array:
    """Return Pearson's r of every column of `x` with every column of `h`."""
    x, h = _centred(x), _centred(h)
    scale = np.outer(np.linalg.norm(x, axis=0), np.linalg.norm(h, axis=0))
    return np.divide(x.T @ h, scale, out=np.full(scale.shape, np.nan), where=scale > 0)


def _centred(values: Array) -> Array:
    """Take the mean off each column; one that only rounding makes vary becomes zero."""
    values = values.astype(np.float64)
    centred = values - values.mean(axis=0)
    varies = np.linalg.norm(centred, axis=0) > 1e-6 * np.linalg.norm(values, axis=0)
    return np.where(varies, centred, 0.0)


def _listed(units: Array, most: int = 12) -> str:
    if len(units) == 0:
        return "none"
    shown = ", ".join(map(str, units[:most]))
    return f"{len(units)} ({shown}{', ...' if len(units) > most else ''})"
