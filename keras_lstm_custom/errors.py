"""The package's errors, and the one shape of their messages.

Every message has four parts: what is wrong, what was expected, what came, and what to do about it.
"""

from __future__ import annotations

from typing import Any


def message(what: str, *, expected: object, received: object, remedy: str) -> str:
    """Return the four-part text of an error."""
    return f"{what}\n  Expected: {expected}\n  Received: {received}\n  What to do: {remedy}"


class RecurrentError(Exception):
    """Base of every error this package raises on purpose."""

    def __init__(self, what: str, **parts: Any):
        # Keras raises an error from a layer's `call` again as `type(error)(text)`, so a bare text must do.
        super().__init__(message(what, **parts) if parts else what)


class RequirementError(RecurrentError, ImportError):
    """What the package stands on is too old for it."""


class ArgumentError(RecurrentError, ValueError):
    """An argument of a layer, a cell or a function is not usable."""


class InputError(RecurrentError, ValueError):
    """A tensor given to a layer has the wrong shape, dtype or content."""


class EngineError(RecurrentError, ValueError):
    """The engine asked for is unknown, or cannot serve this call."""


class ConversionError(RecurrentError, ValueError):
    """A model cannot be rebuilt with other recurrent layers."""


class ExportError(RecurrentError, RuntimeError):
    """A model cannot be exported, or the exported file does not give the model's numbers."""


class DataError(RecurrentError, ValueError):
    """A time series, a table or a file of data is not usable."""


class LoadError(DataError):
    """What was trained elsewhere cannot be carried over into a model of Keras 3."""
