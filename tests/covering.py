"""Few rows in which every combination of a few options is met, where the product of all would take too long."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, product
from typing import Any


def covering(axes: Mapping[str, Sequence[Any]], strength: int = 2) -> list[dict[str, Any]]:
    """Return rows such that any `strength` axes take all combinations of their values, found greedily.

    Deterministic, so that the id of a test means the same case each time.
    """
    missing = set(_met({name: range(len(values)) for name, values in axes.items()}, strength))
    rows = []
    while missing:
        row: dict[str, int] = dict(min(missing, key=str))
        for name, values in axes.items():
            if name not in row:
                row[name] = max(
                    range(len(values)),
                    key=lambda value, name=name: len(missing & set(_pairs({**row, name: value}, strength, name))),
                )
        missing -= set(_pairs(row, strength))
        rows.append({name: values[row[name]] for name, values in axes.items()})
    return rows


def _met(axes: Mapping[str, range], strength: int) -> Iterator[tuple]:
    """Yield every combination of values of any `strength` axes."""
    for names in combinations(sorted(axes), strength):
        for values in product(*(axes[name] for name in names)):
            yield tuple(zip(names, values, strict=True))


def _pairs(row: Mapping[str, int], strength: int, having: str | None = None) -> Iterator[tuple]:
    """Yield the combinations that a row, complete or not, meets; only those with the axis `having`, if it is given."""
    for names in combinations(sorted(row), strength):
        if having is None or having in names:
            yield tuple((name, row[name]) for name in names)
