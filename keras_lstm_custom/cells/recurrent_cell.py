"""The base of cells that Keras has no counterpart of: those of this package, and a user's own."""

from __future__ import annotations

import inspect
from typing import Any, ClassVar

import keras

from keras_lstm_custom.cells.base import EquationCell
from keras_lstm_custom.errors import ArgumentError
from keras_lstm_custom.structures import RNNState


class RecurrentCell(EquationCell, keras.layers.SimpleRNNCell):
    """A cell made of its equations alone.

    A subclass names `gates` and `step_type`, and writes `step`. `state_type` is `RNNState` (h alone) unless it
    says otherwise; each state is `units` wide unless the subclass sets `state_size`. What a step multiplies by
    the state it multiplies by `equations.project`: then engines derive a fast loop and its gradient from it.

    Weights: `kernel` `(features, gates * units)`, `recurrent_kernel` `(units, gates * units)`, `bias`
    `(gates * units,)` (absent with `use_bias=False`), blocks of `units` columns in the order of `gates`. Where a step
    multiplies no state by a matrix, `recurrent_kernel_shape = ()` in the class leaves the recurrent kernel out. More
    are added in `build`, after `super().build(input_shape)`.

    Args: those of `keras.layers.SimpleRNNCell`.

    Call arguments:
        inputs: `(batch, features)`.
        states: those of `state_type`, each `(batch, n)` as `state_size` says.
        training: whether dropout applies.

    Returns:
        `(h, new states)`.

    Raises:
        ArgumentError: an option is not usable, what the cell declares does not go together, or the step returns
            something else.
    """

    keras_class = keras.layers.SimpleRNNCell
    state_type: ClassVar[Any] = RNNState

    def __init_subclass__(cls, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        if "kind" not in vars(cls):
            cls.kind = cls.__name__

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.state_size = [self.units] * len(getattr(self.state_type, "_fields", ()))

    def build(self, input_shape):
        _check_declared(self)
        self.add_packed_weights(input_shape[-1])
        self.built = True

    def get_initial_state(self, batch_size=None):
        return [keras.ops.zeros((batch_size, width), dtype=self.compute_dtype) for width in self.state_size]


def _check_declared(cell: RecurrentCell) -> None:
    """Raise `ArgumentError` unless gates, states and step of a cell go together."""
    gates = cell.gates if type(cell).gates is not EquationCell.gates else ()
    named = not isinstance(gates, str) and all(isinstance(gate, str) for gate in gates)
    if not named or not gates or len(set(gates)) < len(gates):
        raise _error(cell, "`gates`, the names of the kernels' blocks, each once", repr(gates), 'gates = ("f", "n")')
    if type(cell).call is EquationCell.call:
        _check_step(cell)
    states = getattr(cell.state_type, "_fields", ())
    steps = getattr(getattr(cell, "step_type", None), "_fields", ())
    if states[:1] != ("h",) or steps[: len(states)] != states:
        raise _error(
            cell,
            "`state_type`, a named tuple that begins with h, and `step_type`, one that begins with the same fields",
            f"{', '.join(states)} and {', '.join(steps) or 'no step_type'}",
            'step_type = NamedTuple("Step", [("h", Any), ("f", Any)])',
        )
    widths = cell.state_size if isinstance(cell.state_size, (list, tuple)) else ()
    whole = all(hasattr(width, "__index__") and width > 0 for width in widths)
    if not whole or len(widths) != len(states):
        raise _error(
            cell,
            f"`state_size`, a list with a width, a positive integer, for each of {', '.join(states)}",
            repr(cell.state_size),
            "self.state_size = [self.units] * n after super().__init__()",
        )


def _check_step(cell: RecurrentCell) -> None:
    signature = inspect.signature(cell.step)
    try:
        signature.bind("z_x", "state", "recurrent_dropout")
        written = type(cell).step is not EquationCell.step
    except TypeError:
        written = False
    if not written:
        expected = "`step(self, z_x, state, recurrent_dropout=None)`, one step of the equations"
        own = f"step{signature}" if type(cell).step is not EquationCell.step else "no step"
        raise _error(cell, expected, own, "return Step(h=ops.tanh(z_x), ...) in `step`")


def _error(cell: RecurrentCell, expected: str, received: str, example: str) -> ArgumentError:
    return ArgumentError(
        f"What {type(cell).__name__} declares does not go together.",
        expected=expected,
        received=received,
        remedy=f"Write, for example, {example}; docs/your-own-cell.md has a whole cell.",
    )
