"""Which numbers of the struct a value takes: states stay, all else shares what is free while it is needed."""

from __future__ import annotations

from dataclasses import dataclass, field

from keras_lstm_custom.export.plain_c.graph.ir import VIEWS, Value, unshaped, viewed
from keras_lstm_custom.export.plain_c.graph.schedule import Schedule


@dataclass
class Memory:
    """Where everything lies, in numbers from the start of the states, and of the memory that is shared."""

    states: dict[int, int] = field(default_factory=dict)
    work: dict[int, int] = field(default_factory=dict)
    inputs: dict[int, int] = field(default_factory=dict)  #: copies of the step of an input, where they are made
    state_size: int = 0
    work_size: int = 0
    shared: dict[int, list[Value]] = field(default_factory=dict)  #: value to the states that it is written to directly
    copied: list[tuple[Value, Value]] = field(default_factory=list)  #: (state, value): brought over at a step's end


def plan(schedule: Schedule, unit: int = 1, pad: int = 0) -> Memory:
    """Return the places of all values.

    Args:
        schedule: when they are computed and read.
        unit: every place is a multiple of it.
        pad: how many numbers may be read beyond the end of a value.
    """
    memory = Memory()
    for phase in schedule.phases:
        for state in phase.states:
            memory.states[state.number] = memory.state_size
            memory.state_size += _rounded(state.size, unit)
            _carry(schedule, memory, state)
    memory.state_size += pad
    memory.copied.sort(key=lambda pair: viewed(pair[1]).kind != "state")
    spans = _spans(schedule, memory)
    taken: list[tuple[int, int, int, int]] = []  # start, end, first, last
    for number, (size, first, last) in sorted(spans.items(), key=lambda item: -item[1][0]):
        size = _rounded(size, unit)
        start = 0
        for other_start, other_end, other_first, other_last in sorted(taken):
            if first <= other_last and other_first <= last and start < other_end and other_start < start + size:
                start = other_end
        taken.append((start, start + size, first, last))
        memory.work[number] = start
        memory.work_size = max(memory.work_size, start + size)
    memory.work_size += pad if memory.work_size else 0
    return memory


def _rounded(size: int, unit: int) -> int:
    return -(-size // unit) * unit


def _carry(schedule: Schedule, memory: Memory, state: Value) -> None:
    """Let what a state becomes be written to it at once, where nobody reads the old one later."""
    value = unshaped(state.next)
    place = schedule.places.get(value.number)
    at_once = place is not None and value.size == state.size and value.kind in ("map", "linear")
    followers = [s for phase in schedule.phases for s in phase.states if viewed(s.next) is state]
    at_once = at_once and not followers  # another state becomes what this one was
    for reader in schedule.readers(state):
        there = schedule.places.get(reader.number)
        if not at_once or place is None or there is None:
            at_once = False
            break
        same = (
            there == place
            and value.kind == "map"
            and all(unshaped(v) is state for v in reader.inputs if viewed(v) is state)
        )
        at_once = there.phase == place.phase and (there.group < place.group or same)
        if not at_once:
            break
    # A state that becomes what another state is must not be written before that one is read.
    if at_once and value.kind == "linear" and (value.number in memory.shared or value.number in schedule.stored):
        at_once = False
    if at_once:
        memory.shared.setdefault(value.number, []).append(state)
    else:
        memory.copied.append((state, state.next))


def _spans(schedule: Schedule, memory: Memory) -> dict[int, tuple[int, int, int]]:
    """Return the size of each value that needs a place, and the first and last moment at which it must be there."""
    starts, moment = [], 0
    for phase in schedule.phases:
        starts.append(moment)
        moment += len(phase.groups) + 2
    starts.append(moment)
    spans = {}
    for value in schedule.values:
        if not needs_place(value, schedule, memory):
            continue
        place = schedule.places[value.number]
        first = starts[place.phase] + place.group + 1
        last = first
        if value.number in schedule.stored:
            first = starts[place.phase]
        for reader in schedule.readers(value):
            there = schedule.places.get(reader.number)
            if there is None:  # a state, which begins with it
                last = max(last, starts[_phase_of_state(schedule, reader)] + 1)
            elif there.phase == place.phase:
                last = max(last, starts[there.phase] + there.group + 1)
            else:
                last = max(last, starts[there.phase + 1] - 1)
        if any(viewed(following) is value for _, following in memory.copied):
            last = max(last, starts[place.phase + 1] - 1)
        spans[value.number] = (value.size * (value.steps or 1 if value.number in schedule.stored else 1), first, last)
    return spans


def needs_place(value: Value, schedule: Schedule, memory: Memory) -> bool:
    """Say whether a value lies in the memory that is shared."""
    if value.kind in VIEWS or value.kind in ("input", "const", "table", "state") or "output" in value.attributes:
        return False
    if value.number in schedule.stored or "sent" in value.attributes:
        return True
    if value.number in memory.shared:
        return False  # it lies in a state
    return value.kind != "map" or value.number in schedule.buffered


def _phase_of_state(schedule: Schedule, state: Value) -> int:
    return next(number for number, phase in enumerate(schedule.phases) if state in phase.states)
