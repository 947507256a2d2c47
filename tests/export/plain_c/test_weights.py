"""Weights as int8: rounded with a view to what they are multiplied with."""

from __future__ import annotations

import subprocess

import keras
import numpy as np
import pytest

import keras_lstm_custom as klc
from keras_lstm_custom import export
from keras_lstm_custom.errors import ExportError
from keras_lstm_custom.export.model.samples import predictions
from keras_lstm_custom.export.plain_c import finer, host
from keras_lstm_custom.export.plain_c.build import PLAIN, Finer, emitter_for, packed, read
from keras_lstm_custom.export.plain_c.finer import recurrent
from keras_lstm_custom.export.plain_c.graph.ir import ordered
from keras_lstm_custom.export.plain_c.integers import weights
from keras_lstm_custom.export.plain_c.integers.data import observe
from keras_lstm_custom.export.plain_c.writing.files import files
from tests.export.plain_c.building import SANITIZED, WARNINGS
from tests.export.plain_c.zoo import inputs_for, randomised, sequential
from tests.export.random_graphs import random_graph, samples_of

pytestmark = pytest.mark.tensorflow
layers = keras.layers


def product_of(rows: np.ndarray, seen: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return kernel and bias of a dense layer, and those of its product once it is quantised."""
    model = randomised(sequential(layers.Dense(6), shape=rows.shape[1:]))
    outputs = read(model)
    (product,) = [value for value in ordered(outputs) if value.kind == "linear"]
    (kernel,), bias = product.kernels, product.bias
    weights.quantise(outputs, observe(outputs, [rows]).moments if seen else None)
    ((numbers, scales),) = product.quantised
    return kernel, bias, (numbers * scales[:, None]).T, product.bias


@pytest.mark.parametrize(("block", "share"), [(1024, 0.25), (7, 0.5)])
def test_inputs_that_vary_together_make_up_for_each_others_rounding(block, share, monkeypatch):
    monkeypatch.setattr(weights, "BLOCK", block)
    rng = np.random.default_rng(0)
    hidden = rng.standard_normal((400, 3)) @ rng.standard_normal((3, 12)) + 2.0
    x = hidden + 0.05 * rng.standard_normal(hidden.shape)
    errors = {}
    for seen in (False, True):
        kernel, bias, rounded, its_bias = product_of(x[:300], seen)
        assert np.abs(rounded - kernel).max() < 0.1 * np.abs(kernel).max()
        away = x[300:] @ (rounded - kernel) + its_bias - bias
        errors[seen] = float(np.sqrt(np.mean(away**2)))
    assert errors[True] < share * errors[False]


def test_without_a_bias_nothing_stays_nothing():
    """A layer normalisation behind it would make the smallest offset as large as any signal."""
    x = np.abs(np.random.default_rng(0).standard_normal((50, 5)))
    model = randomised(sequential(layers.Dense(6, use_bias=False), shape=(5,)))
    outputs = read(model)
    weights.quantise(outputs, observe(outputs, [x]).moments)
    (product,) = [value for value in ordered(outputs) if value.kind == "linear"]
    assert not product.bias.any()


def test_without_real_input_each_weight_goes_to_the_nearest():
    kernel, bias, rounded, its_bias = product_of(np.ones((4, 5)), seen=False)
    assert (np.abs(rounded - kernel) <= np.abs(kernel).max(0) / 254 * 1.0001).all()
    np.testing.assert_array_equal(its_bias, bias)


@pytest.mark.parametrize("quantize", ["int8", "int16x8"])
def test_weights_of_a_layer_that_is_called_twice_stand_in_flash_once(quantize):
    shared = layers.LSTM(6)
    inputs = [keras.Input((5, 4)), keras.Input((5, 4))]
    twice = randomised(keras.Model(inputs, layers.Concatenate()([shared(x) for x in inputs])))
    once = randomised(keras.Model(inputs[0], layers.Concatenate()([shared(inputs[0]), inputs[0][:, -1]])))
    sizes = []
    for model in (once, twice):
        emitter = emitter_for("net", model, quantize, inputs_for(model, 12))
        for number, phase in enumerate(emitter.schedule.phases):
            emitter.phase(number, phase)
        found = [content for kind, content, *_ in emitter.constants if kind in ("int8_t", "uint32_t")]
        sizes.append(sum(map(len, found)))
    assert sizes[0] == sizes[1] > 0


def every(product) -> list[bool]:
    return [True] * len(product.inputs)


@pytest.mark.parametrize("seen", [True, False])
def test_kernels_of_two_int8_have_fifteen_bits(seen):
    model = randomised(sequential(layers.LSTM(6), shape=(5, 4)))
    outputs = read(model)
    products = [value for value in ordered(outputs) if value.kind == "linear"]
    before = {value.number: [np.concatenate(value.kernels), list(value.inputs)] for value in products}
    moments = observe(outputs, inputs_for(model, 40)).moments if seen else None
    weights.quantise(outputs, moments, every)
    for value in products:
        kernel, inputs = before[value.number]
        parts = [(numbers * scales[:, None]).T for numbers, scales in value.quantised]
        assert value.inputs == [x for x in inputs for _ in range(2)]
        stored = np.concatenate([high + low for high, low in zip(parts[::2], parts[1::2], strict=True)])
        assert 0 < np.abs(stored - kernel).max() < np.abs(kernel).max() / 2**14
        assert max(np.abs(numbers.astype(int)).max() for numbers, _ in value.quantised) == 127


def test_recurrent_kernels_are_those_that_read_a_state_of_their_loop():
    """Of a stack, each layer reads the states of the layer below, too, but as a sequence."""
    model = randomised(
        sequential(
            klc.LSTM(3, layer_normalization="gate", return_sequences=True), layers.GRU(5), layers.Dense(2), shape=(5, 4)
        )
    )
    products = [value for value in ordered(read(model)) if value.kind == "linear"]
    found = {(k.shape[0], two) for v in products for k, two in zip(v.kernels, recurrent(v), strict=True)}
    assert found == {(4, False), (3, True), (3, False), (5, True), (5, False)}


@pytest.mark.parametrize("quantize", ["int8", "int16x8"])
def test_a_shared_layer_of_two_int8_stands_in_flash_once(quantize):
    shared = layers.LSTM(6)
    inputs = [keras.Input((5, 4)), keras.Input((5, 4))]
    twice = randomised(keras.Model(inputs, layers.Concatenate()([shared(x) for x in inputs])))
    sizes = []
    for kernels in (PLAIN, Finer(every)):
        emitter = emitter_for("net", twice, quantize, inputs_for(twice, 12), kernels)
        for number, phase in enumerate(emitter.schedule.phases):
            emitter.phase(number, phase)
        found = [content for kind, content, *_ in emitter.constants if kind in ("int8_t", "uint32_t")]
        sizes.append(sum(map(len, found)))
    assert sizes[1] == 2 * sizes[0] > 0


@pytest.mark.parametrize("quantize", ["int8", "int16x8"])
def test_an_error_that_is_too_large_is_mended_by_kernels_of_two_int8(quantize, tmp_path, monkeypatch):
    """Layer-normalised cells, in which the rounding of the recurrent weights grows from step to step."""
    model = random_graph(42, variants=True)
    x = samples_of(model, 128)
    report = export.c(model, tmp_path / "net", quantize, x)
    assert report.ok
    assert report.checks[0].relative_to_signal < 0.9 * 0.02
    (note,) = [note for note in report.notes if "two int8" in note]
    assert "'head'" in note
    monkeypatch.setattr(finer, "CANDIDATES", {})
    with pytest.raises(ExportError, match=r"at most 0\.02"):
        export.c(model, tmp_path / "refused", quantize, x)


def test_values_that_a_recurrence_normalises_take_two_int16(tmp_path, monkeypatch):
    """Of 5 units, one of which reaches 42 while the normalisation divides by 0.03: steps of int16 alone err by 5 %."""
    model = random_graph(46, variants=True)
    x = samples_of(model, 128)
    report = export.c(model, tmp_path / "net", "int16x8", x)
    assert report.ok
    assert any("two int16 for each normalised value" in note for note in report.notes)
    plain = export.c(model, tmp_path / "plain", "int16x8", x, bound=1.0)
    assert report.arena_bytes > plain.arena_bytes
    monkeypatch.setattr(finer, "CANDIDATES", {"kernels": Finer(every)})
    with pytest.raises(ExportError, match=r"at most 0\.02"):
        export.c(model, tmp_path / "refused", "int16x8", x)


@pytest.mark.parametrize("kind", ["gate", "joint"])
def test_values_of_two_int16_are_right_and_never_overflow(kind, tmp_path):
    """The sanitizers end the program if an integer overflows, whatever it is fed with."""
    model = randomised(
        sequential(klc.LSTM(5, layer_normalization=kind, peepholes=True, return_sequences=True), layers.Dense(2))
    )
    x = inputs_for(model, 40)
    emitter = emitter_for("net", model, "int16x8", x, Finer(every, values=True))
    assert any(value.attributes.get("fn") == "rest" for value in emitter.schedule.values)
    expected = predictions(model, x)
    made = packed("net", model, emitter, x, expected, "int16x8")
    for name, text in {**files(made), "driver.c": host.driver(made, "int16_t", "_q")}.items():
        (tmp_path / name).write_text(text)
    (got,) = host.run(made, tmp_path, [array.reshape(len(array), -1) for array in x])
    wanted = expected[0].reshape(len(got), -1)
    assert np.sqrt(np.mean((got - wanted) ** 2)) < 0.002 * wanted.std()
    (tmp_path / "driver.c").write_text(host.driver(made, "int16_t", "_q"))
    host.build(["gcc"], tmp_path, ["driver.c", "net.c"], "driver", "-O1", "-I.", *WARNINGS, *SANITIZED)
    fed = np.random.default_rng(0).choice([-32768, -1, 0, 1, 32767], (30, x[0][0].size)).astype(np.int16)
    ran = subprocess.run([tmp_path / "driver"], input=fed.tobytes(), capture_output=True, check=False)
    assert ran.returncode == 0, ran.stderr[:2000]


def test_kernels_of_two_int8_are_tried_only_above_the_goal_and_on_real_input(tmp_path, monkeypatch):
    model = randomised(sequential(layers.LSTM(5), layers.Dense(2)))
    x = inputs_for(model, 40)
    tried = []
    candidates = {name: Finer(lambda v, name=name: tried.append(name) or every(v)) for name in ("first", "second")}
    monkeypatch.setattr(finer, "CANDIDATES", candidates)
    report = export.c(model, tmp_path / "below", "int8", x)
    assert not tried
    assert not [note for note in report.notes if "two int8" in note]
    with pytest.raises(ExportError, match="at most 1e-09"):
        export.c(model, tmp_path / "made up", "int8", bound=1e-9)
    assert not tried
    # the second is not better than the first, which alone is told
    with pytest.raises(ExportError, match="the first of 'lstm"):
        export.c(model, tmp_path / "above", "int8", x, bound=1e-9)
    assert set(tried) == {"first", "second"}
    bigger = export.c(model, tmp_path / "finer", "int8", x, bound=report.checks[0].relative_to_signal)
    assert bigger.checks[0].relative_to_signal < 0.1 * report.checks[0].relative_to_signal
    assert bigger.bytes > 1.5 * report.bytes
