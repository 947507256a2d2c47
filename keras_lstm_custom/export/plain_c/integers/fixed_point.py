"""Numbers of C that stand for reals: an integer expression, its binary places, and how large it can become.

All shifts and saturations come from here, so that no int32 of a package can overflow whatever the input is.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

LIMIT = 2**31 - 2**17  #: of every int32, with room for what rounding adds
#: Further than that a shift of an int16 leaves nothing of it, or of all but zero nothing but the ends of int16.
FARTHEST = 16
INFINITE = 1e8  #: from here on a number stands for infinity, or for what a mask takes away (Keras subtracts 1e9)
WIDEST = 24  #: binary places that a stored value has at most


class Number(NamedTuple):
    """`value = text / 2 ** places`, and `abs(text) <= bound`."""

    text: str
    places: int
    bound: int


def places_for(largest: float) -> int:
    """Return the binary places of an int16 that is to hold numbers up to this."""
    return min(math.floor(math.log2(32768 / largest)), WIDEST) if largest > 0 else 15


def quantised(values: np.ndarray, places: int) -> np.ndarray:
    """Return reals as int16, what is beyond at the ends."""
    return np.clip(np.round(np.asarray(values, np.float64) * 2.0**places), -32768, 32767).astype(np.int16)


def constant(value: float, places: int | None = None) -> Number:
    """Return a real as a number, with as many of these places as there is room for, or as 15 bits have room for.

    What stands for minus infinity is as far away as there is room.
    """
    if places is None:
        places = 15 if value == 0 else min(14 - math.floor(math.log2(abs(value))), 30)
        whole = round(value * 2.0**places)
        while whole and whole % 2 == 0:
            whole, places = whole // 2, places - 1
        return Number(str(whole), places, abs(whole))
    if abs(value) < INFINITE:
        places = min(places, 30 - math.ceil(math.log2(abs(value)))) if value else places
    whole = int(np.clip(round(float(np.clip(value, -1e30, 1e30)) * 2.0**places), -(2**30), 2**30))
    return Number(str(whole), places, abs(whole))


def shifted(number: Number, places: int) -> Number:
    """Return the same value with other binary places, rounded; there must be room for more of them."""
    by = number.places - places
    if by == 0:
        return number
    if by < 0:
        return Number(f"{number.text} * {2**-by}", places, number.bound * 2**-by)
    if by > 30:
        return Number("0", places, 0)
    half = 2 ** (by - 1)
    text = f"({number.text} + {half}) >> {by}"
    if number.bound + half >= 2**31:  # the same, and no sum that leaves int32
        text = f"((({number.text}) >> {by - 1}) + 1) >> 1"
    return Number(text, places, (number.bound >> by) + 1)


def moving(of: int, to: int) -> int:
    """Return by how many places an int16 is shifted to the right to have others."""
    return max(-FARTHEST, min(of - to, FARTHEST))


def room_for(number: Number) -> int:
    """Return with how many binary places a number fits into an int32."""
    return number.places + math.floor(math.log2(LIMIT / max(number.bound, 1)))


def common(a: Number, b: Number, added: bool) -> int:
    """Return the places with which two numbers, or their sum, fit, and no more than the finer one has."""
    places = max(a.places, b.places)
    while True:
        x, y = (math.ceil(n.bound * 2.0 ** (places - n.places)) + 1 for n in (a, b))
        if max(x, y, x + y if added else 0) <= LIMIT:
            return places
        places -= 1


def factors(a: Number, b: Number) -> tuple[Number, Number]:
    """Return two numbers with so few bits that their product fits."""
    places = [a.places, b.places]
    while True:
        x, y = shifted(a, places[0]), shifted(b, places[1])
        if x.bound * y.bound <= LIMIT:
            return x, y
        places[0 if x.bound > y.bound else 1] -= 1
