"""Which layer of the model an op of a file comes from, so that an error can name it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import keras

from keras_lstm_custom.export.file.flatbuffer import OP_NAMES
from keras_lstm_custom.export.file.graph import Graph
from keras_lstm_custom.models.walk import walk

#: How the runtimes speak of an op: of its kind, or of its kind and its number in the file. Earlier versions of the one
#: for microcontrollers write an f behind the number.
MENTIONS = (
    re.compile(r"opcode '(?P<op>\w+)'"),
    re.compile(r"Node (?P<op>[A-Z]\w+) \(number (?P<number>\d+)f?\)"),
    re.compile(r"[Nn]ode number (?P<number>\d+) \((?P<op>\w+)\)"),
)


def mentioned(graph: Graph, message: str, model: keras.Model) -> str:
    """Return the ops that a runtime's message speaks of, each with the layers of `model` that it comes from."""
    found: dict[str, list[Any]] = {}
    for mention in MENTIONS:
        for match in mention.finditer(message):
            named = {
                k: operator for k, operator in enumerate(graph.operators) if name_of(graph, operator) == match["op"]
            }
            number = int(match.groupdict().get("number") or -1)
            found.setdefault(match["op"], [named[number]] if number in named else list(named.values()))
    return "; ".join(f"{op} is of {described(graph, operators, model)}" for op, operators in found.items() if operators)


def described(graph: Graph, operators: Iterable[Any], model: keras.Model) -> str:
    """Return the layers that operators come from, with their classes, or else the tensors that they write."""
    layers = {layer.name: type(layer).__name__ for _, layer in walk(model)}
    names = list(dict.fromkeys(graph.name(int(operator.outputs[0])) for operator in operators))
    found = dict.fromkeys(layer for name in names for layer in [_layer_in(name, layers)] if layer)
    if found:
        return ", ".join(f"the layer {name!r} ({layers[name]})" for name in found)
    return f"no layer, but {', '.join(map(repr, names[:3]))}"


def name_of(graph: Graph, operator: Any) -> str:
    """Return the name of an op as the runtimes write it."""
    return graph.custom_name(operator) or OP_NAMES[graph.code(operator)]


def _layer_in(tensor: str, layers: Iterable[str]) -> str | None:
    """Return the innermost layer in the name of a tensor, `outer_1/dense_2/MatMul;...`; Keras numbers its scopes."""
    known = set(layers)
    for part in reversed(re.split(r"[/;]", tensor)):
        for name in (part, re.sub(r"_\d+$", "", part)):
            if name in known:
                return name
    return None
