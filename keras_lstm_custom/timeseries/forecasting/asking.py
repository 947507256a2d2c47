"""Checks of what a forecaster is asked for, before it sees any data."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras

from keras_lstm_custom.errors import ArgumentError
from keras_lstm_custom.timeseries.checks import check_size, shown


def names_of(argument: str, value: Any) -> tuple[Any, ...]:
    """Return several names as a tuple.

    Raises:
        ArgumentError: it is one text, which would be taken for a list of letters, or no list at all.
    """
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise ArgumentError(
            f"`{argument}` takes a list of names.",
            expected="a list, such as ['temperature']",
            received=shown(value),
            remedy=f"Pass {argument}=[{shown(value)}]." if isinstance(value, str) else "Pass a list.",
        )
    return tuple(value)


def check_roles(target: Any, **roles: Any) -> None:
    """Check that no column is asked for twice: what is known in advance must not hold what is to be forecast.

    Args:
        target: the column to forecast.
        roles: by the name of the argument, columns, or None.

    Raises:
        ArgumentError: a role is no list of names, or a column has two roles.
    """
    taken = {target: "target"}
    for argument, value in roles.items():
        for column in () if value is None else names_of(argument, value):
            if column in taken:
                raise ArgumentError(
                    f"The column {shown(column)} is asked for twice.",
                    expected="each column once: as target (whose past is always seen), past, future or static",
                    received=f"{taken[column]} and {argument}",
                    remedy=f"Leave it out of `{argument}`.",
                )
            taken[column] = argument


def check_calendar(calendar: Any, holidays: Any) -> None:
    """Raise ArgumentError unless calendar is a bool or a list, and holidays a text or None."""
    if not isinstance(calendar, bool):
        names_of("calendar", calendar)
    if holidays is not None and not isinstance(holidays, str):
        raise ArgumentError(
            "`holidays` says whose public holidays are seen.",
            expected="a country code, such as 'US' or 'US-NY', or None",
            received=shown(holidays),
            remedy="Pass e.g. holidays='DE'.",
        )


def check_cell(cell: Any) -> None:
    """Raise ArgumentError unless the cell is the class of a layer."""
    if not (isinstance(cell, type) and issubclass(cell, keras.layers.Layer)):
        raise ArgumentError(
            "`cell` is the class of the recurrent layer.",
            expected="LSTM, GRU, VanillaRNN, or another class of layers",
            received=shown(cell),
            remedy="Pass the class itself, e.g. cell=keras_lstm_custom.LSTM; `units` and `options` are its arguments.",
        )


def check_training(**counts: Any) -> None:
    """Raise ArgumentError unless each count is None or a positive whole number."""
    for name, value in counts.items():
        if value is not None:
            check_size(name, value, f"is a number of {name.replace('batch_size', 'rows')}")
