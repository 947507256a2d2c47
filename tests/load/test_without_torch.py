"""A dict of arrays needs no torch."""

from __future__ import annotations

import sys

import keras
import numpy as np
import pytest

from keras_lstm_custom import load, to_torch
from keras_lstm_custom.errors import LoadError


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="torch is the backend")
def test_torch_is_not_imported(rng, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)  # importing it is an ImportError
    shapes = {"weight_ih_l0": (20, 3), "weight_hh_l0": (20, 5), "bias_ih_l0": (20,), "bias_hh_l0": (20,)}
    weights = {name: rng.normal(size=shape).astype("float32") for name, shape in shapes.items()}
    model = load.torch(weights)
    np.testing.assert_array_equal(model.layers[-1].get_weights()[0], weights["weight_ih_l0"].T)
    with pytest.raises(LoadError, match="pip install torch"):
        to_torch(model)
