"""In which order values are computed: loops over time, in them loops over numbers, and what lies in memory how long.

A phase is one loop over time, or what is computed once. Values join the earliest phase in which what they read is
there, so that layers that read forwards run step by step together and no sequence between them is stored. In a phase
elementwise values of one size share a loop, so that what is between them is in registers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from keras_lstm_custom.export.plain_c.graph.ir import ANYWHERE, LEAVES, VIEWS, Value, ordered, unshaped, viewed


@dataclass
class Group:
    """What is computed at one place of a phase: elementwise values of one size, or another value alone."""

    values: list[Value]

    @property
    def elementwise(self) -> bool:
        return self.values[0].kind == "map"


@dataclass
class Phase:
    """A loop over `steps` time steps, or what is computed once (None)."""

    steps: int | None
    groups: list[Group] = field(default_factory=list)
    states: list[Value] = field(default_factory=list)


@dataclass
class Place:
    """Where a value is in the order."""

    phase: int
    group: int


class Schedule:
    """The phases, and of each value where it is computed and whether it is kept for all steps."""

    def __init__(self, outputs: Sequence[Value]):
        """Take the values that the model gives."""
        self.outputs = list(outputs)
        self.values = ordered(outputs)
        self.phases: list[Phase] = []
        self._phase_of: dict[int, int] = {}
        self.places: dict[int, Place] = {}
        self.stored: set[int] = set()  #: sequences that are kept whole
        self.buffered: set[int] = set()  #: elementwise values that others read outside of their loop
        self._assign()
        self._group()
        self._look_at_readers()

    # Which phase

    def _assign(self) -> None:
        for values in self._units():
            computed = [value for value in values if value.kind not in (*VIEWS, "input", "const", "table")]
            for timed in (False, True):
                members = [value for value in computed if (value.steps is not None) is timed]
                if not members:
                    continue
                bound = max(self._bound(value) for value in members)
                phase = self._phase(bound, members[0].steps)
                for value in members:
                    self._phase_of[value.number] = phase
                    if value.kind == "state":
                        self.phases[phase].states.append(value)

    def _units(self) -> Iterator[list[Value]]:
        groups: dict[object, list[Value]] = {}
        for value in self.values:
            groups.setdefault(("alone", value.number) if value.group is None else value.group, []).append(value)
        yield from groups.values()

    def _phase(self, bound: int, steps: int | None) -> int:
        for number in range(bound, len(self.phases)):
            if self.phases[number].steps == steps:
                return number
        self.phases.append(Phase(steps))
        return len(self.phases) - 1

    def _bound(self, value: Value) -> int:
        """Return the first phase in which all that a value reads is there."""
        if value.kind == "state":
            return max((self._now(v) + (unshaped(v).kind != "const") for v in value.inputs), default=0)
        return max((self._from(value, n, v) for n, v in enumerate(value.inputs)), default=0)

    def _from(self, reader: Value, number: int, value: Value) -> int:
        return self._whole(value) if reader.kind in ANYWHERE and number == 0 else self._now(value)

    def _now(self, value: Value) -> int:
        """Return the first phase in which the step that is computed can be read."""
        if value.kind in ("input", "const", "table"):
            return 0
        if value.kind in VIEWS:
            (source,) = value.inputs
            if value.kind in ("slice", "steps", "repeat"):
                return self._now(source)
            return self._after(source) if value.kind == "last" else self._whole(source)
        return self._phase_of.get(value.number, 0)  # of its own group: it will be in the same one

    def _after(self, value: Value) -> int:
        """Return the first phase in which a value is what it is at the end of its loop."""
        if value.kind == "slice":
            return self._after(value.inputs[0])
        if value.kind in VIEWS or value.kind in ("input", "const", "table"):
            return self._now(value)
        return self._phase_of[value.number] + (value.steps is not None)

    _whole = _after

    # Which loop within it

    def _group(self) -> None:
        for value in self.values:
            if value.kind in VIEWS or value.kind in LEAVES:
                continue
            number = self._phase_of[value.number]
            phase = self.phases[number]
            bound = max((self._earliest(value, v, number) for v in value.inputs), default=0)
            place = self._open(phase, value, bound)
            if place is None:
                phase.groups.append(Group([value]))
                place = len(phase.groups) - 1
            else:
                phase.groups[place].values.append(value)
            self.places[value.number] = Place(number, place)

    def _open(self, phase: Phase, value: Value, bound: int) -> int | None:
        """Return a group that an elementwise value may join."""
        if value.kind != "map":
            return None
        for place in range(bound, len(phase.groups)):
            group = phase.groups[place]
            if group.elementwise and group.values[0].size == value.size:
                return place
        return None

    def _earliest(self, reader: Value, value: Value, phase: int) -> int:
        """Return the first group of a phase in which a value can be read."""
        base = unshaped(value)
        direct = reader.kind == "map" and base.kind == "map" and base.size == reader.size
        source = base if direct else viewed(base)
        place = self.places.get(source.number)
        if place is None or place.phase != phase:
            return 0
        return place.group if direct else place.group + 1

    # What is kept

    def _look_at_readers(self) -> None:
        for reader in self.values:
            if reader.kind in VIEWS:
                continue
            sources = [*reader.inputs, *([reader.next] if reader.kind == "state" else [])]
            for number, value in enumerate(sources):
                self._read(reader, number, value)

    def _read(self, reader: Value, number: int, value: Value) -> None:
        base, way = viewed(value), self._way(value)
        if base.kind in ("input", "const", "table", "state"):
            return
        here = self.places[base.number]
        there = self.places.get(reader.number)
        elsewhere = there is None or there.phase != here.phase
        if base.steps is not None:
            anywhere = (reader.kind in ANYWHERE and number == 0) or bool({"reverse", "at", "whole"} & way)
            if anywhere or (elsewhere and "last" not in way and reader.kind != "state"):
                self.stored.add(base.number)
        inside = there is not None and there == here and base.kind == "map" and unshaped(value) is base
        if not inside:
            self.buffered.add(base.number)

    def _way(self, value: Value) -> set[str]:
        found = set()
        while value.kind in VIEWS:
            found.add(value.kind)
            value = value.inputs[0]
        return found

    def readers(self, value: Value) -> list[Value]:
        """Return what reads a computed value, a state or a part of it; not the views themselves."""
        return [
            reader
            for reader in self.values
            if reader.kind not in VIEWS and any(viewed(v) is value for v in reader.inputs)
        ]
