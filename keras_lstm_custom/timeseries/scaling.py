"""Columns brought to mean 0 and standard deviation 1, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from keras_lstm_custom.errors import DataError
from keras_lstm_custom.timeseries.checks import check_columns, names_shown, shown


@dataclass(frozen=True)
class Scaler:
    """z = (x - mean) / std for each column, with the mean and std of the table it was fitted on.

    Fit it on the training part only: the later parts must not be known while learning.

    Attributes:
        mean, std: by column, in the data's units; std is that of the population (divided by n).
    """

    mean: Mapping[str, float]
    std: Mapping[str, float]

    @classmethod
    def fit(cls, frame: pd.DataFrame) -> Scaler:
        """Return the scaler of `frame`.

        Raises:
            DataError: a column is not finite numbers of a network's float32, or is constant; or there are no rows.
        """
        check_columns(frame, list(frame.columns))
        if not len(frame):
            raise DataError(
                "There is nothing to scale by.",
                expected="a table with rows",
                received="0 rows",
                remedy="Give the training part of the record.",
            )
        mean, std = frame.mean(), frame.std(ddof=0)
        # Rounding leaves a constant column with a std near the float's precision, not at zero.
        constant = std.index[std <= 1e-12 * frame.abs().max()]
        if len(constant):
            raise DataError(
                f"The column {shown(constant[0])} is constant, so it says nothing about time and cannot be scaled.",
                expected="at least two different values in each column of the training part",
                received=f"{frame[constant[0]].iloc[0]} in all {len(frame)} rows",
                remedy="Leave the column out.",
            )
        return cls({c: float(mean[c]) for c in frame.columns}, {c: float(std[c]) for c in frame.columns})

    def transform(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return `frame` scaled, its columns and index kept.

        Raises:
            DataError: a column is not finite numbers, or was not there when the scaler was fitted.
        """
        check_columns(frame, list(frame.columns))
        unknown = [column for column in frame.columns if column not in self.mean]
        if unknown:
            raise DataError(
                f"The scaler does not know the column {shown(unknown[0])}.",
                expected=f"columns among {names_shown(self.mean, unknown[0])}",
                received=names_shown(frame.columns),
                remedy="Fit and transform tables with the same columns.",
            )
        return (frame - pd.Series(self.mean)[frame.columns]) / pd.Series(self.std)[frame.columns]

    def inverse(self, values: Any, column: str) -> np.ndarray:
        """Return scaled `values` of one column, of any shape, in the data's units (float64): x = mean + std z.

        Raises:
            DataError: the column was not there when the scaler was fitted.
        """
        if column not in self.mean:
            raise DataError(
                f"The scaler does not know the column {shown(column)}.",
                expected=f"one of {names_shown(self.mean, column)}",
                received=shown(column),
                remedy="Check the spelling, capitals included.",
            )
        return np.asarray(values, dtype="float64") * self.std[column] + self.mean[column]

    def to_dict(self) -> dict[str, dict[str, float]]:
        """Return the scaler as plain numbers for a JSON file; `Scaler(**numbers)` restores it."""
        return {"mean": dict(self.mean), "std": dict(self.std)}
