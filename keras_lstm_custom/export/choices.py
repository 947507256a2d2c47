"""What the export functions let a user choose from, as types; the checks at run time read the same."""

from __future__ import annotations

from collections.abc import Iterable
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
