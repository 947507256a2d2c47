"""What the export tests share: each model and its float file are made once in a process."""

from __future__ import annotations

import functools
from typing import NamedTuple

import keras
import numpy as np
import pytest

from tests.export import models


class Exported(NamedTuple):
    model: keras.Model
    inputs: list[np.ndarray]
    outputs: list[np.ndarray]
    content: bytes


@functools.cache
def exported(name: str) -> Exported:
    """Return a model of the zoo with random weights, input, its outputs, and its float file."""
    from keras_lstm_custom.export.model.prepare import prepare
    from tests.export.files import float_file

    model = models.randomised(models.MODELS[name]())
    inputs = models.inputs_for(model, rows=3)
    outputs = [np.asarray(y) for y in keras.tree.flatten(model(inputs if len(inputs) > 1 else inputs[0]))]
    return Exported(model, inputs, outputs, float_file(prepare(model, timesteps=models.timesteps_of(model))))


@pytest.fixture(params=models.MODELS)
def zoo(request) -> Exported:
    return exported(request.param)
