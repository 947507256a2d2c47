"""Some steps at a time, in JAX on a CPU: what a loop needs of all of them would go through memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

#: How many rows a part of the steps has on a CPU: measured over 32, 500, 16, 64 and 64, 100, 64, 256 against all steps
#: at once (`options.py "own cell"`), where the projected inputs and their gradient cost more to write than to compute.
ROWS = 1024


def by_parts(function: Callable, carry: Any, xs: Any, reverse: bool = False) -> tuple[Any, Any]:
    """Return `function(carry, xs)`, on a CPU of some steps at a time, so that what it makes stays in the cache."""
    steps, batch = xs[0].shape[:2]
    parts = steps // _steps_of_part(steps, batch)
    if parts == 1:
        return function(carry, xs)
    xs = jax.tree.map(lambda a: a.reshape(parts, len(a) // parts, *a.shape[1:]), xs)
    carry, ys = jax.lax.scan(function, carry, xs, reverse=reverse)
    return carry, jax.tree.map(lambda a: a.reshape(parts * a.shape[1], *a.shape[2:]), ys)


def in_equal_parts(steps: int, batch: int) -> list[slice]:
    """Return all steps as slices that `by_parts` can cut: one, or where they do not divide, a short second one."""
    first = steps - steps % _steps_of_part(steps, batch)
    return [slice(first), slice(first, None)] if first < steps else [slice(None)]


def _steps_of_part(steps: int, batch: int) -> int:
    """Return how many have at most `ROWS` rows: a divisor of the steps, if one has a quarter of them."""
    if jax.default_backend() != "cpu":
        return steps
    most = min(max(1, ROWS // max(1, batch)), steps)
    found = next(n for n in range(most, 0, -1) if steps % n == 0)
    return found if 4 * found >= most else most
