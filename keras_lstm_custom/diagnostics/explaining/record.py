"""What `attribute` returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from keras import tree

from keras_lstm_custom.errors import ArgumentError

Array = np.ndarray


@dataclass(frozen=True, eq=False, kw_only=True)
class Attribution:
    """How much each number of the input contributed to one number of the output, for each row."""

    values: Any  #: in the form of x: `(batch, timesteps, features)`, or `(batch, timesteps)` for tokens
    x: Any  #: what was explained, as the model reads it
    names: tuple[str, ...]  #: of the inputs
    prediction: Array  #: `(batch,)`, F(x)
    reference: Array  #: `(batch,)`, F at the baseline with the masks of x; the mean where that is a sample
    target: str  #: which number of the output F is
    baseline: str  #: what x was compared with
    method: str  #: "integrated_gradients", "expected_gradients" or "occlusion"
    points: Array  #: `(batch,)`, how many points between x and each row of the baseline; 0 for occlusion
    mask: Any  #: in the form of x: `(batch, timesteps)`, False where the step was skipped, or None

    @property
    def delta(self) -> Array:
        """`(batch,)`, F(x) - F(x'): the change that is explained."""
        return self.prediction - self.reference

    @property
    def total(self) -> Array:
        """`(batch,)`, the sum of all values of a row."""
        return np.sum([values.reshape(len(values), -1).sum(1) for values in tree.flatten(self.values)], axis=0)

    @property
    def gap(self) -> Array:
        """`(batch,)`, total - delta: 0 but for rounding where the attributions are complete."""
        return self.total - self.delta

    @property
    def by_step(self) -> Array:
        """`(batch, timesteps)`, the sums over the features of the one input."""
        values = self.of()
        return values if values.ndim < 3 else values.reshape(*values.shape[:2], -1).sum(-1)

    @property
    def by_feature(self) -> Array:
        """`(batch, features)`, the sums over the steps of the one input."""
        values = self.of()
        return values.sum(1) if values.ndim > 2 else values.sum(1, keepdims=True)

    def of(self, name: str | None = None) -> Array:
        """Return the values of the input of that name; None where there is only one.

        Raises:
            ArgumentError: there is no such input, or several to choose from.
        """
        return tree.flatten(self.values)[self._number(name)]

    def input(self, name: str | None = None) -> Array:
        """Return the input of that name as the model read it."""
        return tree.flatten(self.x)[self._number(name)]

    def mask_of(self, name: str | None = None) -> Array | None:
        """Return the mask of the input of that name, or None."""
        return tree.flatten(self.mask)[self._number(name)]

    def to_frame(self) -> pd.DataFrame:
        """Return a tidy table: one row for each sequence, input, step and feature; tokens are feature 0."""
        return pd.concat([_frame(*pair) for pair in zip(self.names, tree.flatten(self.values), strict=True)])

    def _number(self, name: str | None) -> int:
        if name is None and len(self.names) == 1:
            return 0
        if name not in self.names:
            raise ArgumentError(
                "There is no input of that name." if name is not None else "There are several inputs to choose from.",
                expected=", ".join(map(repr, self.names)),
                received=repr(name),
                remedy="Name one of those above.",
            )
        return self.names.index(name)

    def __str__(self) -> str:
        rows = len(self.prediction)
        lines = [f"{self.method.replace('_', ' ')} of {self.target} against {self.baseline}, {rows} rows"]
        largest = np.abs(self.delta).max()
        lines.append(
            f"  largest change of the output: {largest:.4g}; largest gap of a sum: {np.abs(self.gap).max():.2g}"
        )
        if self.method != "occlusion":
            lines.append(f"  points between x and a row of the baseline: {self.points.min()} to {self.points.max()}")
        for name, values in zip(self.names, tree.flatten(self.values), strict=True):
            if values.ndim > 1 and values.size:
                mean = np.abs(values).mean(0)
                place = np.unravel_index(np.argmax(mean), mean.shape)
                where = f"step {place[0]}" + (f", feature {', '.join(map(str, place[1:]))}" if len(place) > 1 else "")
                lines.append(f"  {name}: strongest on average at {where} (mean |value| {mean.max():.3g})")
        return "\n".join(lines)

    def __repr__(self) -> str:
        shapes = ", ".join(f"{n} {v.shape}" for n, v in zip(self.names, tree.flatten(self.values), strict=True))
        return f"Attribution({self.method} of {self.target}: {shapes})"


def _frame(name: str, values: Array) -> pd.DataFrame:
    cube = values.reshape(*values.shape[:2], -1) if values.ndim > 1 else values.reshape(-1, 1, 1)
    levels = [range(length) for length in cube.shape]
    index = pd.MultiIndex.from_product(levels, names=["sequence", "step", "feature"])
    frame = pd.DataFrame({"value": cube.reshape(-1)}, index=index).reset_index()
    frame.insert(0, "input", name)
    return frame
