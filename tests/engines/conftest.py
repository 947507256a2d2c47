"""What engine tests share as fixtures."""

import contextlib

import keras
import pytest


@pytest.fixture
def float64():
    """JAX computes in float64 only if it is told so."""
    if keras.backend.backend() == "jax":
        import jax

        context = jax.enable_x64(True)
    else:
        context = contextlib.nullcontext()
    with context:
        yield
