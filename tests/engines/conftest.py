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


def pytest_generate_tests(metafunc):
    """Under torch, run what uses `torch_steps` both ways."""
    if "torch_steps" in metafunc.fixturenames and keras.backend.backend() == "torch":
        metafunc.parametrize("torch_steps", ["as they are", "traced"], indirect=True)


@pytest.fixture
def torch_steps(request, monkeypatch):
    """Let derived steps under torch run as they are, or all from a trace; elsewhere there is one way."""
    way = getattr(request, "param", None)
    if way is None:
        yield
        return
    from keras_lstm_custom.engines.torch import derived_traced

    derived_traced.TRACES.clear()
    monkeypatch.setattr(derived_traced, "FEW", 0 if way == "traced" else float("inf"))
    yield
    derived_traced.TRACES.clear()
