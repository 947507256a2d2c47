"""Training, validation and test part of a series, in time order."""

from __future__ import annotations

from numbers import Real
from typing import Any, NamedTuple

import pandas as pd

from keras_lstm_custom.errors import ArgumentError, DataError
from keras_lstm_custom.timeseries.checks import check_size, check_table


class Parts(NamedTuple):
    """Consecutive rows of one table: what is learnt from, what decides when to stop, what is held out."""

    train: pd.DataFrame
    validation: pd.DataFrame
    test: pd.DataFrame


def split(frame: pd.DataFrame, *, validation: float = 0.15, test: float = 0.15, at_least: int = 1) -> Parts:
    """Cut a table into three consecutive parts; no row is in two of them.

    Windows are then cut inside each part, so that no value of a later part is seen, not even as input,
    while learning from an earlier one.

    Args:
        frame: one row per time step, in time order.
        validation, test: the share of the rows, in (0, 1); the rest is for training.
        at_least: how many rows each part needs, usually window + horizon.

    Raises:
        ArgumentError: the shares leave nothing for training, or `at_least` is no positive integer.
        DataError: `frame` is no table, or a part would have fewer than `at_least` rows.
    """
    check_shares(validation, test)
    check_size("at_least", at_least, "counts rows")
    check_table(frame)
    rows = len(frame)
    first_test = rows - round(rows * test)
    first_validation = first_test - round(rows * validation)
    parts = Parts(frame.iloc[:first_validation], frame.iloc[first_validation:first_test], frame.iloc[first_test:])
    shortest = min(range(3), key=lambda k: len(parts[k]))
    if len(parts[shortest]) < at_least:
        share = (1 - validation - test, validation, test)[shortest]
        raise DataError(
            f"The series is too short for a {Parts._fields[shortest]} part of its own.",
            expected=f"at least {at_least} rows in each part, so about {round(at_least / share) + 1} in all",
            received=f"{rows} rows, cut into {len(parts.train)}, {len(parts.validation)} and {len(parts.test)}",
            remedy="Use a longer record, a shorter window and horizon, or larger shares.",
        )
    return parts


def check_shares(validation: Any, test: Any) -> None:
    """Raise ArgumentError unless both shares of a record, and what is left for training, are above zero."""
    shares = isinstance(validation, Real) and isinstance(test, Real)
    if not (shares and 0 < validation < 1 and 0 < test < 1 and validation + test < 1):
        raise ArgumentError(
            "The shares of validation and test leave nothing for training.",
            expected="two numbers in (0, 1) with a sum below 1",
            received=f"validation={validation!r}, test={test!r}",
            remedy="Pass e.g. validation=0.15, test=0.15.",
        )
