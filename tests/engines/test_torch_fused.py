"""The LSTM's steps on a GPU, as far as a CPU can tell: torch's kernels are replaced by what they compute."""

from __future__ import annotations

from types import SimpleNamespace

import keras
import pytest

from tests.engines.harness import MASKS, Case, assert_same, run

if keras.backend.backend() != "torch":
    pytest.skip("needs the torch backend", allow_module_level=True)

import torch

from keras_lstm_custom.engines.torch import fused


def forward(z_x, z_h, c):
    """i, f, g, o after their functions are what is kept; both halves of z lie as the kernel reads them fastest."""
    assert z_x.dtype == z_h.dtype == c.dtype
    assert z_h.is_contiguous()
    i, f, g, o = (z_x + z_h).chunk(4, dim=1)
    gates = i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()
    i, f, g, o = gates
    c = f * c + i * g
    return o * c.tanh(), c, torch.cat(gates, dim=1)


def backward(dh, dc, c_before, c, gates, has_bias):
    i, f, g, o = gates.chunk(4, dim=1)
    dc = dc + dh * o * (1 - c.tanh() ** 2)
    dz = dc * g * i * (1 - i), dc * c_before * f * (1 - f), dc * i * (1 - g * g), dh * c.tanh() * o * (1 - o)
    assert has_bias is False
    return torch.cat(dz, dim=1), dc * f, None


@pytest.fixture
def calls(monkeypatch):
    """Pretend that there are a GPU and its kernels; counts the calls of each."""
    counted = {"forward": 0, "backward": 0}

    def counting(function):
        def default(*arguments):
            counted[function.__name__] += 1
            return function(*arguments)

        return SimpleNamespace(default=default)

    monkeypatch.setattr(fused, "FORWARD", counting(forward))
    monkeypatch.setattr(fused, "BACKWARD", counting(backward))
    monkeypatch.setattr(fused, "serves", lambda z_x: True)
    return counted


@pytest.mark.parametrize("dropout", [0, 1, 4])
@pytest.mark.parametrize("mask", MASKS)
def test_agrees_with_the_reference(calls, mask, dropout):
    """One kernel for each step and direction."""
    case = Case(mask=mask, recurrent_dropout=dropout, return_sequences=dropout != 1, batch=19)
    got = run("torch_loop", case)
    for engine in ("reference", "derived"):
        assert_same(got, run(engine, case), 5e-6)  # rounding, as in the parity matrix
    assert calls == {"forward": case.timesteps, "backward": case.timesteps}


def test_nothing_is_kept_without_a_gradient(calls):
    x, kernel, state = torch.randn(6, 2, 20), torch.randn(5, 20), [torch.randn(2, 5) for _ in "hc"]
    assert fused.forward(False, x, kernel, None, None, state)[2] == []
    assert len(fused.forward(True, x, kernel, None, None, state)[2]) == 1 + 7 + 6


def test_without_a_gpu_it_does_not_serve():
    assert not fused.serves(torch.zeros(6, 2, 20))
