"""The one walk over a model: every layer in it, and the name of the place where it is."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from typing import Any

import keras

CONTAINERS = (list, tuple, set, dict)  #: that Keras looks into, too


def walk(model: keras.Layer) -> Iterator[tuple[str, keras.Layer]]:
    """Yield every layer inside a layer or model once, outer ones first, with the names on the way joined by "/".

    Found is what an attribute leads to, or a list, tuple, set or dict in one: where Keras looks, too.
    """
    yield from _walk(model, "", {id(model)})


def recurrent_layers(model: keras.Layer) -> dict[str, keras.layers.RNN]:
    """Return every layer inside `model` that is a `keras.layers.RNN`, ours or not, by its place in the model."""
    return {place: layer for place, layer in walk(model) if isinstance(layer, keras.layers.RNN)}


def children(layer: keras.Layer) -> dict[str, keras.Layer]:
    """Return the layers that `layer` itself holds, by how they are reached from it: "cell", "layers[0]"."""
    if isinstance(layer, keras.Model):
        return {f"layers[{number}]": inner for number, inner in enumerate(layer.layers)}
    attributes = vars(layer)
    if keras.backend.backend() == "torch":  # whose modules keep what is a module apart from their other attributes
        attributes = dict(layer.named_children()) | attributes
    # Public names first, and last the lists in which Keras itself keeps all of them.
    in_order = sorted(attributes.items(), key=lambda item: (item[0].startswith("_"), isinstance(item[1], CONTAINERS)))
    found: dict[int, tuple[str, keras.Layer]] = {}
    for name, value in in_order:
        for step, inner in _held(value, name, set()):
            found.setdefault(id(inner), (step, inner))
    found.pop(id(layer), None)
    return dict(found.values())


def cells_of(layer: keras.layers.RNN) -> list[Any]:
    """Return the cells that a layer runs over time: its one cell, or those of a stack."""
    return list(getattr(layer.cell, "cells", [layer.cell]))


def unique(name: str, taken: Container[str]) -> str:
    """Return `name`, or where it is taken the first of "name_1", "name_2", ... that is not."""
    number, free = 0, name
    while free in taken:
        number += 1
        free = f"{name}_{number}"
    return free


def outermost(found: Mapping[str, keras.Layer]) -> dict[str, keras.Layer]:
    """Return those of the layers, by their place, that are inside none of the others."""
    within = {place: place.split("/") for place in found}
    return {
        place: layer
        for place, layer in found.items()
        if not any("/".join(within[place][:depth]) in found for depth in range(1, len(within[place])))
    }


def described(found: Mapping[str, Any]) -> str:
    """Return the places and classes of layers, for a message."""
    return ", ".join(f"{place!r} ({type(layer).__name__})" for place, layer in found.items())


def _walk(layer: keras.Layer, place: str, seen: set[int]) -> Iterator[tuple[str, keras.Layer]]:
    taken: set[str] = set()
    for child in children(layer).values():
        if id(child) in seen:
            continue
        seen.add(id(child))
        child_place = unique(f"{place}/{child.name}" if place else child.name, taken)
        taken.add(child_place)
        yield child_place, child
        yield from _walk(child, child_place, seen)


def _held(value: Any, step: str, seen: set[int]) -> Iterator[tuple[str, keras.Layer]]:
    """Yield the layers that a value is, or holds in containers."""
    if isinstance(value, keras.Layer):
        yield step, value
        return
    if not isinstance(value, CONTAINERS) or id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, set):
        value = sorted((inner for inner in value if isinstance(inner, keras.Layer)), key=lambda inner: inner.name)
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in items:
        yield from _held(inner, f"{step}[{key!r}]", seen)
