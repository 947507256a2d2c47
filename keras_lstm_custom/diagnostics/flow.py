"""How large the gradient is at each step on its way back through time, and what to make of it: plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from keras_lstm_custom.errors import ArgumentError

Array = np.ndarray

#: Below this share the first step hardly counts beside the last: its part in the weight update is a thousandth.
VANISHING_BELOW = 1e-3
#: Above it the first step outweighs the last by as much.
EXPLODING_ABOVE = 1e3

CLIP = "clip the gradient's norm: keras.optimizers.Adam(clipnorm=1.0) (Pascanu et al. 2013)"
SHORTER = "shorten the windows, or let the loss see more than the last step"
CHRONO = (
    "raise the {}'s bias: chrono initialisation draws it from log(uniform(1, T - 1)) for lags up to T "
    "(Tallec & Ollivier 2018)"
)
GATED = "use an LSTM, whose cell state is carried on by a gate instead of a matrix"
ORTHOGONAL = "start from an orthogonal recurrent kernel, so that its spectral radius is 1"
NORMALISE = "normalise the inputs, and the activations between layers (keras.layers.LayerNormalization)"

#: What usually helps, by verdict, the likeliest first: where a gate carries the past on, and where none does.
ADVICE: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "vanishing": ((CHRONO, SHORTER, NORMALISE), (GATED, ORTHOGONAL, SHORTER)),
    "exploding": ((CLIP, SHORTER, NORMALISE), (CLIP, GATED, ORTHOGONAL, SHORTER)),
    "not finite": (("look for NaN or huge values in x and y", CLIP, "lower the learning rate"),) * 2,
    "no gradient": (("make sure that the loss depends on this layer's output",),) * 2,
}

OWN_GRADIENTS = (
    "With care: what follows reads this layer at every step, so each step has a gradient of its own beside what is "
    "carried back to it."
)


class Verdict(NamedTuple):
    """What the gradient does in one layer, with the numbers that say so. `str()` is a sentence or two."""

    name: str  #: "vanishing", "exploding", "healthy", "no gradient" or "not finite"
    symbol: str  #: of which state: "c" for an LSTM, "h" for a GRU or a vanilla RNN
    retained: float  #: norm at the first step read / norm at the last one, median over the sequences
    decay: float  #: the same for one step back: geometric mean of the ratio of neighbouring steps
    steps: float  #: how many steps back that is, median over the sequences
    advice: tuple[str, ...]  #: what usually helps, the likeliest first
    every_step: bool = False  #: whether what comes after the layer reads its output at every step

    def __str__(self) -> str:
        numbers = (
            f"{self.name}: ‖∂L/∂{self.symbol}‖ at the first step is {self.retained:.2g} times that at the last, "
            f"{self.steps:.0f} steps later (x {self.decay:.3g} for each step back; healthy is "
            f"{VANISHING_BELOW:g} to {EXPLODING_ABOVE:g})."
        )
        sentence = numbers if np.isfinite(self.retained) else f"{self.name}."
        helps = f"What usually helps: {'; '.join(self.advice)}." if self.advice else ""
        return " ".join(filter(None, [sentence, OWN_GRADIENTS if self.every_step else "", helps]))


@dataclass(frozen=True, eq=False, kw_only=True)
class GradientFlow:
    """Norms of the gradient with respect to one layer's states, `(batch, timesteps)`, in the order of time.

    NaN where a mask made the layer skip the step.
    """

    name: str  #: as in the traces
    kind: str  #: which equations, as `EquationCell.kind` says
    h: Array  #: ‖∂L/∂h_t‖, Euclidean norm over the units
    c: Array | None = None  #: ‖∂L/∂c_t‖, of a cell with a cell state
    more: Mapping[str, Array] = field(default_factory=dict)  #: the same of further states by name
    loss: float  #: the loss L
    go_backwards: bool = False  #: whether the layer read the sequence from its end
    every_step: bool = False  #: whether what comes after the layer reads its output at every step

    memory: str = ""  #: the state that carries the past, of which the verdict speaks; "c" if there is one, else "h"
    keeper: str | None = None  #: the gate that carries it on, in words; None where none does

    def __post_init__(self) -> None:
        if not self.memory:
            object.__setattr__(self, "memory", "h" if self.c is None else "c")
            object.__setattr__(self, "keeper", self.keeper or (None if self.c is None else "forget gate"))

    @property
    def by_state(self) -> dict[str, Array]:
        """The norms by the name of the state, h first."""
        return {"h": self.h, **({} if self.c is None else {"c": self.c}), **self.more}

    def norms(self, symbol: str | None = None) -> Array:
        """Return the norms `(batch, timesteps)` for a state by name: "h", "c"; None means `memory`.

        Raises:
            ArgumentError: the layer has no such state.
        """
        if (symbol or self.memory) not in self.by_state:
            raise ArgumentError(
                f"The layer {self.name!r} has no such state.",
                expected=" or ".join(map(repr, self.by_state)),
                received=repr(symbol),
                remedy="Leave the symbol out for the state that carries the past.",
            )
        return self.by_state[symbol or self.memory]

    def mean(self, symbol: str | None = None) -> Array:
        """Return the mean over the sequences, `(timesteps,)`; NaN where none was read."""
        norms = self.norms(symbol)
        read = np.isfinite(norms)
        count = read.sum(axis=0)
        total = np.where(read, norms, 0).sum(axis=0)
        return np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0)

    def quantiles(self, q: Any = (0.05, 0.5, 0.95), symbol: str | None = None) -> Array:
        """Return quantiles over the sequences, `(len(q), timesteps)`; NaN where none was read."""
        norms = self.norms(symbol)
        quantiles = np.full((len(q), norms.shape[1]), np.nan)
        some = np.isfinite(norms).any(axis=0)
        if some.any():
            quantiles[:, some] = np.nanquantile(norms[:, some], q, axis=0)
        return quantiles

    @property
    def verdict(self) -> Verdict:
        """Say whether the gradient vanishes, explodes or reaches the first step.

        Of the state that carries the past; if that has no gradient (a step counter, say), of the first that has one.
        """
        states = [self.memory, *self.by_state]
        state = next((s for s in states if np.nan_to_num(self.norms(s)).any()), self.memory)
        norms = self.norms(state).astype(np.float64)
        if np.isinf(norms).any() or np.isnan(self.loss):
            return self._verdict(state, "not finite")
        ends = [_ends(row[::-1] if self.go_backwards else row) for row in norms]
        retained, decay, steps = (np.array(values) for values in zip(*ends, strict=True))
        if not np.isfinite(retained).any():
            return self._verdict(state, "no gradient")
        share = float(np.nanmedian(retained))
        name = "vanishing" if share < VANISHING_BELOW else "exploding" if share > EXPLODING_ABOVE else "healthy"
        return self._verdict(state, name, share, float(np.nanmedian(decay)), float(np.nanmedian(steps)))

    def _verdict(self, state: str, name: str, retained=float("nan"), decay=float("nan"), steps=float("nan")) -> Verdict:
        gated, plain = ADVICE.get(name, ((), ()))
        carried = self.keeper is not None and state == self.memory
        advice = tuple(text.format(self.keeper) for text in gated) if carried else plain
        return Verdict(name, state, retained, decay, steps, advice, self.every_step)

    def to_frame(self) -> pd.DataFrame:
        """Return a tidy table: one row for each sequence and step, with the norms."""
        batch, timesteps = self.h.shape
        index = pd.MultiIndex.from_product([range(batch), range(timesteps)], names=["sequence", "step"])
        columns = {state: norms.reshape(-1) for state, norms in self.by_state.items()}
        frame = pd.DataFrame(columns, index=index).reset_index()
        frame.insert(0, "layer", self.name)
        return frame


class GradientFlows(dict[str, GradientFlow]):
    """The gradient flow of a model's recurrent layers by name. `str()` gives every verdict."""

    def __str__(self) -> str:
        return "\n".join(f"{name}: {flow.verdict}" for name, flow in self.items())

    def to_frame(self) -> pd.DataFrame:
        """Return the tidy tables of all layers one below the other."""
        return pd.concat([flow.to_frame() for flow in self.values()], ignore_index=True)


def _ends(norms: Array) -> tuple[float, float, float]:
    """Return for one sequence, in the order it was read: the share retained, its decay for each step, and the steps.

    The last step is the last one that the loss depends on. A gradient that fell to zero on its way
    has a share of zero; its decay is that over the steps where it can still be seen.
    """
    read = np.flatnonzero(np.isfinite(norms))
    seen = np.flatnonzero(np.nan_to_num(norms) > 0)
    if len(seen) == 0:
        return (np.nan, np.nan, np.nan)
    first, last = read[0], seen[-1]
    retained = norms[first] / norms[last]
    visible = np.count_nonzero((read > seen[0]) & (read <= last))
    decay = (norms[seen[0]] / norms[last]) ** (1 / visible) if visible else np.nan
    return retained, decay, float(np.count_nonzero((read > first) & (read <= last)))
