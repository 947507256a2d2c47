"""Splitting packed weights by gate, and joining them again."""

import numpy as np
import pytest

from keras_lstm_custom.equations.weight_layout import GATES, join_gates, split_gates


@pytest.mark.parametrize("shape", [(12,), (2, 12), (4, 2, 12)])
def test_join_is_the_inverse_of_split(rng, shape):
    packed = rng.normal(size=shape)
    parts = split_gates(packed)
    assert list(parts) == list(GATES) == ["i", "f", "g", "o"]
    assert all(part.shape == (*shape[:-1], 3) for part in parts.values())
    np.testing.assert_array_equal(join_gates(parts), packed)


def test_the_order_of_the_names_given_does_not_matter(rng):
    parts = split_gates(rng.normal(size=(2, 12)))
    np.testing.assert_array_equal(join_gates(dict(reversed(parts.items()))), join_gates(parts))
