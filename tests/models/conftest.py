"""The batch that the models of these tests learn."""

import pytest

from tests.models.copies import BATCH, FEATURES, TIMESTEPS


@pytest.fixture
def x(rng):
    return rng.normal(20, 5, size=(BATCH, TIMESTEPS, FEATURES)).astype("float32")


@pytest.fixture
def y(rng):
    return rng.normal(size=(BATCH, 2)).astype("float32")
