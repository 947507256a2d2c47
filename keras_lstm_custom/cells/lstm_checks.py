"""Checks of the LSTM's options, and of how they go together."""

from __future__ import annotations

from math import inf
from numbers import Real
from typing import Any

from keras_lstm_custom.equations.lstm_options import EPSILON, LSTMOptions
from keras_lstm_custom.errors import ArgumentError
from keras_lstm_custom.options import check_rate


def checked(units: int, options: LSTMOptions) -> LSTMOptions:
    """Return the options, numbers as Python's own.

    Raises:
        ArgumentError: an option is not usable, or options do not go together.
    """
    for name in ("peepholes", "coupled"):
        if not isinstance(getattr(options, name), bool):
            raise _error(name, "True or False", getattr(options, name), f"Pass {name}=True for it, or leave it out.")
    form = options.layer_normalization
    if form is not None and (not isinstance(form, str) or form not in EPSILON):
        raise _error(
            "layer_normalization",
            ", ".join(map(repr, (None, *EPSILON))),
            form,
            "'gate' normalises each gate by itself, as TFLite's fused op does; 'joint' is that of Ba et al. 2016.",
        )
    size = options.projection
    if size is not None and (not hasattr(size, "__index__") or isinstance(size, bool) or not 0 < size <= units):
        raise _error(
            "projection",
            f"an integer from 1 to units = {units}, or None",
            size,
            "A projection makes h narrower than c.",
        )
    if options.projection_clip is not None and size is None:
        raise _error(
            "projection_clip", "a projection to clip", options.projection_clip, "Pass `projection`, or use cell_clip."
        )
    return options._replace(
        projection=None if size is None else int(size),
        projection_clip=_bound("projection_clip", options.projection_clip),
        cell_clip=_bound("cell_clip", options.cell_clip),
        zoneout=check_rate("zoneout", options.zoneout),
        cell_zoneout=check_rate("cell_zoneout", options.cell_zoneout),
    )


def _bound(name: str, value: Any) -> float | None:
    if value is not None and (not isinstance(value, Real) or isinstance(value, bool) or not 0 < float(value) < inf):
        raise _error(name, "a positive, finite number, or None for no bound", value, f"Pass e.g. {name}=3.0.")
    return None if value is None else float(value)


def _error(name: str, expected: str, received: Any, remedy: str) -> ArgumentError:
    return ArgumentError(f"`{name}` is not usable.", expected=expected, received=repr(received), remedy=remedy)
