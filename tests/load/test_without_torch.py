"""A dict of arrays needs no torch."""

from __future__ import annotations

import sys

import keras
import numpy as np
import pytest

from keras_lstm_custom import load, to_torch
from keras_lstm_custom.errors import LoadError


@pytest.fixture
def state_dict(rng):
    """What `torch.nn.LSTM(3, 5).state_dict()` has."""
    shapes = {"weight_ih_l0": (20, 3), "weight_hh_l0": (20, 5), "bias_ih_l0": (20,), "bias_hh_l0": (20,)}
    return {name: rng.normal(scale=0.5, size=shape).astype("float32") for name, shape in shapes.items()}


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="torch is the backend")
def test_torch_is_not_imported(state_dict, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)  # importing it is an ImportError
    model = load.torch(state_dict)
    np.testing.assert_array_equal(model.layers[-1].get_weights()[0], state_dict["weight_ih_l0"].T)
    with pytest.raises(LoadError, match="pip install torch"):
        to_torch(model)


@pytest.mark.tensorflow
def test_a_torch_lstm_reaches_a_microcontroller_in_two_lines(rng, state_dict, tmp_path):
    from keras_lstm_custom import export

    x = rng.normal(size=(16, 6, 3)).astype("float32")
    model = load.torch(state_dict, return_sequences=False)
    report = export.micro(model, tmp_path / "micro", calibration=x, timesteps=6)
    assert report.ok  # the file was run by the microcontroller's runtime and compared
    assert (tmp_path / "micro").is_dir()
