"""Packages give the numbers of the model, whatever it is made of."""

from __future__ import annotations

import keras
import pytest
from keras import ops

from keras_lstm_custom import export
from keras_lstm_custom.errors import ExportError
from tests.export.plain_c.building import MARKS, SANITIZED, failures, package_of
from tests.export.plain_c.zoo import MODELS, F, inputs_for, randomised, sequential, small
from tests.export.random_graphs import random_graph, samples_of

pytestmark = MARKS
layers = keras.layers


@pytest.fixture(scope="module")
def floats():
    return {name: package_of(randomised(make()), f"m{k}", 1e-5) for k, (name, make) in enumerate(MODELS.items())}


def test_every_model_gives_its_numbers_without_a_word_of_compiler_and_sanitizers(floats, tmp_path):
    assert failures(floats, tmp_path, "-std=c99", "-O0", *SANITIZED) == []


def test_it_is_cpp_too(floats, tmp_path):
    some = {name: floats[name] for name in ("lstm", "masked heads", "attention", "convolutions")}
    some["integers"] = package_of(small(), "integers", 0.05, "int16x8")
    assert failures(some, tmp_path, "-x", "c++", "-std=c++17", "-O0", compiler="g++") == []


def test_int8_weights_and_integers(tmp_path):
    jumping = ("activation sparsemax", "activation hard_shrink")  # no integers; at its jump any error is a large one
    packages = {}
    for k, name in enumerate(name for name in MODELS if name not in jumping):
        model = randomised(MODELS[name]())
        packages[f"int16x8 {name}"] = package_of(model, f"q{k}", 0.05, "int16x8", rows=12)
        if not name.startswith("activation"):
            packages[f"int8 {name}"] = package_of(model, f"e{k}", 0.05, "int8", rows=12)
    assert failures(packages, tmp_path, "-std=c99", "-O0") == []


@pytest.mark.parametrize(("seed", "quantize"), [(0, None), (1, "int8"), (2, "int16x8"), (4, "int16x8")])
def test_random_graphs(seed, quantize, tmp_path):
    model = random_graph(seed, largest_units=24, longest=20)
    report = export.c(model, tmp_path / "net", quantize, samples_of(model, 48))
    assert report.ok
    assert report.checks[0].ran
    assert report.bound == (1e-5 if quantize is None else 0.02)


@pytest.mark.parametrize("offset", [-3.0, 4.0])
def test_an_output_that_hardly_moves_is_as_near_as_float32_shows(offset, tmp_path):
    """Float32 has steps of 6e-8 below 1, and a sigmoid near 1 a deviation of 0.001: 1e-5 of that is less than one."""
    model = sequential(layers.LSTM(4), layers.Dense(3, activation="sigmoid"))
    kernel, bias = model.layers[-1].get_weights()
    model.layers[-1].set_weights([0.05 * kernel, bias + offset])
    x = inputs_for(model, 32)
    report = export.c(model, tmp_path / "net", calibration=x)
    assert report.ok
    (output,) = report.checks[0].outputs
    assert output.relative_to_signal > 1e-5
    assert any("hardly moves" in note for note in report.notes)
    with pytest.raises(ExportError, match="numbers"):
        export.c(model, tmp_path / "net", calibration=x, bound=1e-5)


def test_another_length_than_the_models(tmp_path):
    report = export.c(small(), tmp_path / "net", timesteps=11)
    assert report.ok
    assert "11 time steps" in (tmp_path / "net" / "net.h").read_text()


@pytest.mark.parametrize(
    "function",
    [
        lambda x: ops.cast(ops.cast(3 * x, "int32"), "float32"),
        lambda x: ops.cast(ops.cast(ops.relu(x), "bool"), "float32"),
        lambda x: ops.cast(ops.cast(x > 0.2, "int32"), "float32") + x,
        lambda x: ops.squareplus(x, 2),
        lambda x: x * ops.cast(ops.logical_and(x, ops.logical_or(x, x > 1)), "float32"),
        lambda x: x * ops.cast(ops.any(-ops.abs(x), axis=-1, keepdims=True), "float32"),
        lambda x: x * ops.max(x, axis=-1, keepdims=True, initial=0.5),
    ],
    ids=["whole", "truth", "whole already", "squareplus", "and, or", "any", "a first maximum"],
)
def test_casts_and_options_of_operations_are_computed(function, tmp_path):
    inputs = keras.Input((5, F))
    model = keras.Model(inputs, layers.Dense(2)(layers.LSTM(3)(function(inputs))))
    assert export.c(model, tmp_path / "net", calibration=samples_of(model, 12)).ok
