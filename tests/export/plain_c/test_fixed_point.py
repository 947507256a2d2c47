"""Numbers of C that stand for reals."""

from __future__ import annotations

import pytest

from keras_lstm_custom.export.plain_c.fixed_point import constant


@pytest.mark.parametrize("value", [1.0, -1.0, 0.5, 6.0, 1e-6, 0.0, 40000.0, -3.3])
@pytest.mark.parametrize("places", [0, 12, 31])
def test_a_constant_is_its_value_however_fine_its_neighbour_is(value, places):
    found = constant(value, places)
    assert abs(int(found.text)) == found.bound <= 2**30
    assert int(found.text) / 2.0**found.places == pytest.approx(value, abs=0.5 * 2.0**-found.places)


def test_minus_infinity_is_as_far_away_as_there_is_room():
    assert constant(-1e9, 20).places == 20
    assert int(constant(-1e9, 20).text) == -(2**30)
