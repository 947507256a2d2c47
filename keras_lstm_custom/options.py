"""Checks of the options that cells and layers share.

The argument lists are Keras' own: a cell or layer of ours takes what its Keras counterpart takes.
They are read from Keras' signatures, so each name has one home.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from numbers import Real
from typing import Any

import keras

from keras_lstm_custom.arguments import BY_KEYWORD_OVER_TIME
from keras_lstm_custom.errors import ArgumentError, RecurrentError


def parameters_of(keras_class: type) -> list[str]:
    """Return the names of the arguments that `keras_class` takes, in order."""
    return [p.name for p in inspect.signature(keras_class).parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]


class ClassSignature:
    """The arguments of a class whose `__init__` takes `*args, **kwargs`, as `__signature__` for `inspect.signature`.

    Only the class shows it: an instance is called with other arguments, and a subclass may have its own `__init__`.
    """

    def __init__(self, signature: inspect.Signature):
        self._signature = signature
        self._init: Any = None

    def __set_name__(self, owner: type, name: str) -> None:
        self._init = owner.__init__  # type: ignore[misc]

    def __get__(self, instance: Any, owner: type) -> inspect.Signature:
        if instance is not None or owner.__init__ is not self._init:  # type: ignore[misc]
            raise AttributeError("__signature__")
        return self._signature


def own_options(of_class: type) -> dict[str, inspect.Parameter]:
    """Return what a class of ours takes and its Keras counterpart does not: the keyword-only arguments, by name."""
    ours = [c for c in reversed(of_class.__mro__) if "__init__" in vars(c) and not c.__module__.startswith("keras.")]
    inits = [vars(c)["__init__"] for c in ours]
    found = [inspect.signature(init).parameters for init in inits if inspect.isfunction(init)]
    return {name: p for parameters in found for name, p in parameters.items() if p.kind is p.KEYWORD_ONLY}


def signature_with(keras_class: type, own: Mapping[str, inspect.Parameter]) -> inspect.Signature:
    """Return the signature of a Keras class with more keyword-only parameters."""
    signature = inspect.signature(keras_class)
    *named, kwargs = signature.parameters.values()
    named = [p for p in named if p.name not in own]
    return signature.replace(parameters=[*named, *own.values(), kwargs])


@contextmanager
def spelling_checked(cls: type, given: Mapping[str, Any]) -> Iterator[None]:
    """Where Keras refuses a name among the arguments given, say which ones may be meant.

    Raises:
        ArgumentError: Keras raised ValueError about a name that the class does not have.
    """
    try:
        yield
    except ValueError as error:
        known = {*inspect.signature(cls).parameters, *BY_KEYWORD_OVER_TIME} - {"args", "kwargs"}
        wrong = [name for name in given if name not in known and repr(name) in str(error)]
        if isinstance(error, RecurrentError) or not wrong:
            raise
        near = difflib.get_close_matches(wrong[0], known) or sorted(known)
        raise ArgumentError(
            f"Unrecognized keyword arguments passed to {cls.__name__}: {', '.join(map(repr, wrong))}.",
            expected=" or ".join(map(repr, near)) if len(near) < 4 else ", ".join(near),
            received=f"{wrong[0]}={given[wrong[0]]!r}"[:200],
            remedy="Check the spelling.",
        ) from error


def bind(keras_class: type, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a call of `keras_class` by name, defaults filled in, and checked.

    Raises:
        TypeError: as Python does when an argument is missing or given twice.
        ArgumentError: `units`, `dropout`, `recurrent_dropout` or an activation is not usable.
    """
    bound = inspect.signature(keras_class).bind(*args, **kwargs)
    bound.apply_defaults()
    more = bound.arguments.pop("kwargs", {})
    options = {**bound.arguments, **more}
    _check_units(options["units"])
    for name in ("dropout", "recurrent_dropout"):
        check_rate(name, options[name])
    for name in ("activation", "recurrent_activation"):
        if name in options:
            _check_activation(name, options[name])
    return options


def _check_units(units: Any) -> None:
    is_whole = hasattr(units, "__index__") and not isinstance(units, bool)
    if not is_whole or units <= 0:
        raise ArgumentError(
            "`units` is the size of the hidden state and must be positive.",
            expected="a positive integer",
            received=repr(units),
            remedy="Pass how many hidden units the layer should have, e.g. units=64.",
        )


def check_rate(name: str, rate: Any) -> float:
    """Return the rate if it is a number in [0, 1).

    Raises:
        ArgumentError: it is not.
    """
    if not isinstance(rate, Real) or isinstance(rate, bool) or not 0 <= float(rate) < 1:
        raise ArgumentError(
            f"`{name}` is a share of values that training drops or keeps.",
            expected="a number in [0, 1)",
            received=repr(rate),
            remedy=f"Pass e.g. {name}=0.2 for a fifth, or {name}=0 for none.",
        )
    return float(rate)


def _check_activation(name: str, activation: Any) -> None:
    try:
        keras.activations.get(activation)
    except ValueError as error:
        raise ArgumentError(
            f"`{name}` is not an activation that Keras knows.",
            expected="a name from keras.activations such as 'tanh' or 'sigmoid', a callable, or None",
            received=repr(activation),
            remedy="Check the spelling, or pass the function itself.",
        ) from error
