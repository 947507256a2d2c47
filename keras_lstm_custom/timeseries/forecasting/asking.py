"""Checks of what a forecaster is asked for, before it sees any data."""

from __future__ import annotations

import inspect
from collections.abc import Hashable, Iterable, Mapping
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
            expected="a list of texts",
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
    if target is None or not isinstance(target, Hashable):
        raise ArgumentError(
            "`target` is the column to forecast.",
            expected="the name of one column",
            received=shown(target),
            remedy="Pass it, such as 'load'; each target takes a forecaster of its own.",
        )
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


def check_cell(cell: Any, options: Any) -> None:
    """Raise ArgumentError unless the cell is the class of a recurrent layer, and the options are by name."""
    is_layer = isinstance(cell, type) and issubclass(cell, keras.layers.Layer)
    if not is_layer or "mask" not in inspect.signature(cell.call).parameters:
        raise ArgumentError(
            "`cell` is the class of the recurrent layer.",
            expected="LSTM, GRU, VanillaRNN, or another class of layers over time, whose `call` takes a mask",
            received=shown(cell),
            remedy="Pass the class itself, e.g. cell=keras_lstm_custom.LSTM; `units` and `options` are its arguments.",
        )
    if not isinstance(options, Mapping | None):
        raise ArgumentError(
            "`options` are more arguments of the recurrent layer.",
            expected="a dictionary by name, or None",
            received=shown(options),
            remedy="Pass e.g. options={'dropout': 0.1}.",
        )


def check_training(*, learning_rate: Any, **counts: Any) -> None:
    """Raise ArgumentError unless each count is None or a positive whole number, and the rate a positive one."""
    if isinstance(learning_rate, (int, float)) and not learning_rate > 0:
        raise ArgumentError(
            "`learning_rate` is how far a step of training goes.",
            expected="a number above 0, or a schedule of Keras",
            received=shown(learning_rate),
            remedy="Pass e.g. learning_rate=1e-3.",
        )
    for name, value in counts.items():
        if value is not None:
            check_size(name, value, f"is a number of {name.replace('batch_size', 'rows')}")
