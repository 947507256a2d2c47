"""Values that take two int16: one rounded as all are, and what its rounding has left, in finer steps.

A layer normalisation in a recurrence divides by what may be small, and so makes rounding large, from step to step. What
it reads, and the states that come of that, are the sum of two. An elementwise value that reads such a sum has the rests
behind its other inputs; `rests` says of which of these they are.
"""

from __future__ import annotations

from collections.abc import Sequence

from keras_lstm_custom.export.plain_c.graph.ir import Value, ordered, unshaped
from keras_lstm_custom.export.plain_c.integers.data import Interval

Parts = dict[int, tuple[Value, Value]]


def split(outputs: Sequence[Value], ranges: dict[int, Interval]) -> dict[int, Interval]:
    """Change the values behind `outputs` in place, and number them anew.

    Args:
        outputs: what the model gives.
        ranges: of every value.

    Returns:
        The same ranges, by the new numbers.
    """
    values = ordered(outputs)
    chosen = normalised(values)
    parts: Parts = {}
    placed: list[Value] = []
    like = {value.number: value.number for value in values}

    def new(of: Value, kind: str, inputs: Sequence[Value], **more: object) -> Value:
        value = Value(kind, inputs, of.steps, of.shape, **more)
        value.group, value.layer = of.group, of.layer
        like[value.number] = of.number
        placed.append(value)
        return value

    for value in values:
        whole = None
        if value.kind == "map":
            value.attributes["rests"] = [n for n, v in enumerate(value.inputs) if v.number in parts]
            rests = [parts[v.number][1] for v in value.inputs if v.number in parts]
            value.inputs = [*(parts.get(v.number, (v,))[0] for v in value.inputs), *rests]
        else:
            whole = next((parts[v.number] for v in value.inputs if v.number in parts), None)
        placed.append(value)
        if value.kind == "state":
            if unshaped(value.next).number in chosen and not value.inputs:
                parts[value.number] = value, new(value, "state", [], next=None, name=value.name, rest_of=value)
        elif whole and (value.kind == "slice" or (value.kind == "reduce" and value.fn == "add")):
            rest = new(value, value.kind, [whole[1]], **value.attributes, rest_of=value)
            value.inputs = [whole[0]]
            parts[value.number] = value, rest
        elif value.number in chosen:  # a map, which has read its own already
            coarse = new(value, "map", [value], fn="same", coarse=True)
            parts[value.number] = coarse, new(value, "map", [value], fn="rest", rest_of=coarse)
        elif whole:
            value.inputs = [parts.get(v.number, (v,))[0] for v in value.inputs]
    for value in values:
        if value.kind == "state" and unshaped(value.next).number in parts:
            coarse, rest = parts[unshaped(value.next).number]
            value.attributes["next"] = coarse
            if value.number in parts:
                parts[value.number][1].attributes["next"] = rest
    before = [like[value.number] for value in placed]
    for number, value in enumerate(placed):
        value.number = number
    return {number: ranges[old] for number, old in enumerate(before)}


def normalised(values: Sequence[Value]) -> set[int]:
    """Return the numbers of what normalisations in a recurrence read."""
    loops = {value.group for value in values if value.kind == "state"} - {None}
    found = set()
    for value in values:
        if value.kind == "reduce" and value.fn in ("add", "rms") and value.group in loops:
            source = value.inputs[0]
            while source.kind == "slice":
                source = source.inputs[0]
            if source.group in loops and source.kind == "map":
                found.add(source.number)
    return found
