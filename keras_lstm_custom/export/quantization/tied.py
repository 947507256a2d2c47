"""Sets of tensors that are tied to one scale (union-find), each with its range."""

from __future__ import annotations

from keras_lstm_custom.export.quantization.seen import Ranges

#: How much coarser a tensor may become to spare a QUANTIZE where tensors meet, as in a concatenation.
COARSER = 2.0

Range = tuple[float, float]


class TiedTensors:
    """Which tensors share a scale; each is alone at first."""

    def __init__(self, ranges: Ranges):
        self.parent: dict[int, int] = {}
        self.ranges = {k: (ranges.low[k], ranges.high[k]) for k in ranges.low.keys() & ranges.high.keys()}
        self.fixed: set[int] = set()

    def root(self, tensor: int) -> int:
        """Return the tensor that stands for the set of another."""
        while tensor in self.parent:
            tensor = self.parent[tensor]
        return tensor

    def range_of(self, tensor: int) -> Range:
        """Return the range of all that is tied to a tensor."""
        return self.ranges.get(self.root(tensor), (0.0, 0.0))

    def fix(self, tensor: int) -> None:
        """Let a set take no further members whose scale it would change."""
        self.fixed.add(self.root(tensor))

    def widen(self, tensor: int, values: Range) -> None:
        """Let a set hold further values."""
        self.ranges[self.root(tensor)] = _joint(self.range_of(tensor), values)

    def tie(self, one: int, other: int) -> None:
        """Let two tensors share a scale."""
        one, other = self.root(one), self.root(other)
        if one != other:
            self.ranges[one] = _joint(self.range_of(one), self.range_of(other))
            self.parent[other] = one

    def tie_if_near(self, one: int, other: int) -> None:
        """Let two tensors share a scale if neither has a fixed one, nor becomes much coarser by it."""
        one, other = self.root(one), self.root(other)
        if one == other or {one, other} & self.fixed:
            return
        ranges = self.range_of(one), self.range_of(other)
        if _width(_joint(*ranges)) <= COARSER * min(map(_width, ranges)):
            self.tie(one, other)


def _joint(one: Range, other: Range) -> Range:
    return min(one[0], other[0]), max(one[1], other[1])


def _width(values: Range) -> float:
    low, high = values
    return high - low
