"""What the export functions let a user choose from, as types; the checks at run time read the same."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Real
from typing import Any, Literal, TypeAlias

from keras_lstm_custom.errors import ArgumentError

Integers: TypeAlias = Literal["int8", "int16x8"]  #: what computes in integers, and needs a calibration
Quantize: TypeAlias = Literal["float16", "dynamic", "int8", "int16x8"]  #: and None for float32
Runtime: TypeAlias = Literal["litert", "micro", "both"]  #: where a file must run
State: TypeAlias = Literal["kept", "explicit"]  #: where a streaming file has its states
FloatIO: TypeAlias = Literal["float32"]  #: inputs and outputs of a file that computes in integers
Kernels: TypeAlias = Literal["reference", "cmsis-nn"]  #: of the microcontroller runtime: its own, or for Cortex-M


def check_choice(name: str, value: Any, known: Iterable[Any]) -> None:
    """Raise `ArgumentError` unless an argument is one of its choices."""
    choices = tuple(known)
    if value not in choices:
        raise ArgumentError(
            f"`{name}` is unknown.",
            expected=", ".join(map(repr, choices)),
            received=repr(value),
            remedy="Use one of these.",
        )


def checked_bound(bound: Any) -> float | None:
    """Return the largest accepted error as a plain number; None stays None.

    Raises:
        ArgumentError: it is no number, or below 0.
    """
    if bound is None:
        return None
    if not isinstance(bound, Real) or isinstance(bound, bool) or not float(bound) >= 0:
        raise ArgumentError(
            "`bound` is the largest error that is accepted.",
            expected="a number from 0 on, as a share of the standard deviation of the model's output; or None",
            received=repr(bound),
            remedy="Leave it out, or pass e.g. bound=0.05 for 5 %.",
        )
    return float(bound)
