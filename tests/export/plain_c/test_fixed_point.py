"""Numbers of C that stand for reals."""

from __future__ import annotations

import pytest

from keras_lstm_custom.export.plain_c.integers.fixed_point import LIMIT, Number, constant, moving, shifted


@pytest.mark.parametrize("value", [1.0, -1.0, 0.5, 6.0, 1e-6, 0.0, 40000.0, -3.3])
@pytest.mark.parametrize("places", [0, 12, 31])
def test_a_constant_is_its_value_however_fine_its_neighbour_is(value, places):
    found = constant(value, places)
    assert abs(int(found.text)) == found.bound <= 2**30
    assert int(found.text) / 2.0**found.places == pytest.approx(value, abs=0.5 * 2.0**-found.places)


def test_minus_infinity_is_as_far_away_as_there_is_room():
    assert constant(-1e9, 20).places == 20
    assert int(constant(-1e9, 20).text) == -(2**30)


class Int32(int):
    """A number of C, which must not overflow."""

    def __new__(cls, value):
        assert -(2**31) <= value < 2**31
        return super().__new__(cls, value)

    def __add__(self, other):
        return Int32(int(self) + other)

    def __rshift__(self, by):
        assert 0 <= by < 32
        return Int32(int(self) >> by)


@pytest.mark.parametrize("bound", [1, 32768, 2**30, LIMIT])
@pytest.mark.parametrize("by", [1, 7, 17, 18, 19, 24, 30])
def test_a_shift_rounds_to_the_nearest_and_never_overflows(bound, by):
    found = shifted(Number("v", 30, bound), 30 - by)
    for value in {sign * n for sign in (-1, 1) for n in (0, bound // 3, bound - 1, bound)}:
        assert eval(found.text, {"v": Int32(value)}) == (value + 2 ** (by - 1)) // 2**by
        assert abs(value + 2 ** (by - 1)) // 2**by <= found.bound


@pytest.mark.parametrize("places", [-36, -17, -16, -3, 0, 5, 16, 17, 36])
def test_no_shift_of_an_int16_need_be_wider_than_sixteen(places):
    """What lies beyond would leave nothing, or the ends."""

    def moved(value: int, by: int) -> int:
        wide = (value + 2 ** (by - 1)) >> by if by > 0 else value << -by
        return max(-32768, min(wide, 32767))

    by = moving(places, 0)
    assert abs(by) <= 16
    assert [moved(v, by) for v in (-32768, -1, 0, 1, 32767)] == [moved(v, places) for v in (-32768, -1, 0, 1, 32767)]
