"""How much further than on some real input a value may reach."""

from __future__ import annotations

from statistics import NormalDist

#: Up to how many standard deviations the range of a normal variable must reach: there, clipping and the
#: rounding of eight bits together err least (1 % of the standard deviation; 4 to 5 are nearly as good).
REACH = 4.5


def with_room(low: float, high: float, count: int) -> tuple[float, float]:
    """Return an interval that holds zero, what was seen, and room for what so few values have not shown.

    The largest of n normal values lies near the quantile 1 - 1/(2n): 3.0 standard deviations for 384 values, 1.9
    for 16. What comes later exceeds it, and in integers is clipped, which costs more than coarser steps do. So the
    interval is widened about its middle by the factor that would bring it to `REACH`; for 150,000 values
    that is 1. An end on zero's own side (of a ReLU) stays there.
    """
    factor = max(1.0, REACH / NormalDist().inv_cdf(1 - 0.5 / max(count, 2)))
    more = (factor - 1) * (high - low) / 2
    return (low - more if low < 0 else 0.0), (high + more if high > 0 else 0.0)
