"""What comes to a cell's call and out of its step must be what the cell declares."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras import tree

from keras_lstm_custom.errors import ArgumentError, InputError
from keras_lstm_custom.structures import Tensor


def state_of_call(cell: Any, inputs: Tensor, states: Sequence[Tensor]) -> Any:
    """Return the states as the cell's `state_type`.

    Raises:
        InputError: inputs or states are not those of one step.
    """
    names, widths = cell.state_type._fields, tree.flatten(cell.state_size)
    came = [_shape(value) for value in (inputs, *states)]
    expected = {"inputs": (None, cell.kernel.shape[0])} | {
        name: (None, width) for name, width in zip(names, widths, strict=True)
    }
    if len(came) != len(expected) or not all(map(_fits, came, expected.values())):
        raise InputError(
            f"What {cell.name!r} is called with does not fit.",
            expected=", ".join(f"{name} {shape}" for name, shape in expected.items()),
            received=", ".join(map(str, came)),
            remedy="Give one step (batch, features), and the states of `get_initial_state` or of the step before.",
        )
    return cell.state_type(*states)


def check_step(cell: Any, state: Any, new: Any) -> None:
    """Raise `ArgumentError` unless a step from `state` is a `step_type` with states like it."""
    if getattr(new, "_fields", None) != cell.step_type._fields:
        came = getattr(new, "_fields", type(new).__name__)
        raise _undeclared(cell, f"a {cell.step_type.__name__} of {', '.join(cell.step_type._fields)}", came)
    # What is no state may be of any width.
    declared = [*map(_shape, state), *[(state[0].shape[0], None)] * (len(new) - len(state))]
    came = [_shape(value) for value in new]
    if not all(map(_fits, came, declared)):
        expected, received = (
            ", ".join(f"{name} {shape}" for name, shape in zip(new._fields, shapes, strict=True))
            for shapes in (declared, came)
        )
        raise _undeclared(cell, f"the new state first: {expected}", received)
    foreign = [str(s.dtype) for s in cell.state_of(new) if "float" not in str(s.dtype)]
    if foreign:
        raise _undeclared(cell, f"states in floating-point numbers ({cell.compute_dtype})", ", ".join(foreign))


def _shape(value: Any) -> tuple:
    return tuple(getattr(value, "shape", ()))


def _fits(shape: tuple, declared: tuple) -> bool:
    """Return whether a shape is the one declared, where both are known."""
    return len(shape) == len(declared) and all(a == b or None in (a, b) for a, b in zip(shape, declared, strict=True))


def _undeclared(cell: Any, expected: str, received: Any) -> ArgumentError:
    return ArgumentError(
        f"The step of {type(cell).__name__} returns something else than the cell declares.",
        expected=expected,
        received=str(received),
        remedy="Return a `step_type` whose first fields are those of `state_type`, each as wide as that state.",
    )
