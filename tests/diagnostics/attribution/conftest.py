"""Sequences to explain: of numbers, and of tokens with padding."""

import pytest

from tests.diagnostics.attribution.models import BATCH, FEATURES, STEPS


@pytest.fixture
def x(rng):
    return rng.normal(size=(BATCH, STEPS, FEATURES)).astype("float32")


@pytest.fixture
def ids(rng):
    ids = rng.integers(1, 9, size=(BATCH, STEPS))
    ids[1, 3:] = 0
    return ids
