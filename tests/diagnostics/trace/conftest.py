"""Sequences to trace."""

import pytest

from tests.diagnostics.trace.models import (
    BATCH,
    FEATURES,
    TIMESTEPS,
)


@pytest.fixture
def x(rng):
    return rng.normal(size=(BATCH, TIMESTEPS, FEATURES)).astype("float32")
