"""Integers: what they can hold, and what is told where they cannot."""

from __future__ import annotations

import re
import subprocess

import keras
import numpy as np
import pytest

import keras_lstm_custom as klc
from keras_lstm_custom import export
from keras_lstm_custom.errors import ExportError
from keras_lstm_custom.export.plain_c import host
from keras_lstm_custom.export.plain_c.build import emitter_for
from keras_lstm_custom.export.plain_c.writing.files import files
from tests.export.plain_c.building import MARKS, SANITIZED, error_on, package_of
from tests.export.plain_c.zoo import MODELS, F, T, inputs_for, randomised, sequential, small
from tests.export.random_graphs import samples_of

pytestmark = MARKS
layers = keras.layers


def test_integers_need_no_mathematics_and_no_float_between_input_and_output(tmp_path):
    export.c(small(), tmp_path / "net", "int16x8", inputs_for(small(), 24)[0])
    text = (tmp_path / "net" / "net.c").read_text()
    inside = re.sub(r"static void k_(load|store)_f.*?\n}\n", "", text, flags=re.DOTALL)
    assert "math.h" not in text
    assert not re.search(r"\b(double|expf|tanhf)\b", inside)
    assert "malloc" not in text


def test_no_input_makes_integers_overflow(tmp_path):
    """The undefined-behaviour sanitizer ends the program if one does."""
    model = randomised(
        sequential(
            layers.LayerNormalization(),
            klc.LSTM(6, peepholes=True, return_sequences=True),
            klc.SLSTM(4, return_sequences=True),
            layers.Dense(5, activation="gelu"),
            layers.GRU(4, return_sequences=True),
            layers.Dense(3, activation="softmax"),
        )
    )
    package = package_of(model, "net", 1.0, "int16x8", rows=12)
    for name, text in {**files(package), "driver.c": host.driver(package, "int16_t", "_q")}.items():
        (tmp_path / name).write_text(text)
    host.build(["gcc"], tmp_path, ["driver.c", "net.c"], "driver", "-O1", "-I.", *SANITIZED)
    x = np.random.default_rng(0).choice([-32768, -1, 0, 1, 32767], (50, T * F)).astype(np.int16)
    ran = subprocess.run([tmp_path / "driver"], input=x.tobytes(), capture_output=True, check=False)
    assert ran.returncode == 0, ran.stderr[:2000]
    assert len(ran.stdout) == 50 * T * 3 * 2


def test_what_has_no_integers_is_named(tmp_path):
    model = MODELS["activation sparsemax"]()
    with pytest.raises(ExportError, match="sparsemax in integers"):
        export.c(model, tmp_path / "net", "int16x8", inputs_for(model, 12))


def _counting(timesteps: int) -> keras.Model:
    """Return an LSTM whose gates are open, so that c is about the number of the step."""
    model = sequential(layers.LSTM(3, return_sequences=True), layers.Dense(2), shape=(timesteps, F))
    kernel, recurrent_kernel, _ = model.layers[0].get_weights()
    model.layers[0].set_weights([0.1 * kernel, 0 * recurrent_kernel, np.repeat([9.0, 9.0, 9.0, 0.0], 3)])
    return model


def test_a_cell_state_that_integers_cannot_hold_is_told_with_its_bound(tmp_path):
    model = _counting(200)
    assert export.c(model, tmp_path / "held", "int16x8", samples_of(model, 12)).ok
    model = _counting(300)
    with pytest.raises(ExportError, match=r"'lstm.*' computes larger numbers") as told:
        export.c(model, tmp_path / "net", "int16x8", samples_of(model, 12))
    assert "|c| of at most 256" in str(told.value)
    assert "|c| of 3" in str(told.value)
    assert not (tmp_path / "net").exists()
    assert export.c(model, tmp_path / "net", "int8", samples_of(model, 12)).ok


def test_an_error_that_is_too_large_names_the_coarsest_state(tmp_path):
    model = sequential(layers.LSTM(3), layers.Dense(2))
    with pytest.raises(ExportError, match=r"\|c\| of 'lstm.*' reaches .*, in steps of "):
        export.c(model, tmp_path / "net", "int16x8", samples_of(model, 12), bound=1e-9)


def test_values_that_are_no_numbers_for_integers_are_told(tmp_path):
    model = sequential(layers.Rescaling(30.0), layers.Activation("exponential"), layers.Dense(2))
    with pytest.raises(ExportError, match=r"(?s)'activation.*a value of at most 1e"):
        export.c(model, tmp_path / "net", "int16x8", samples_of(model, 12))


@pytest.mark.parametrize(
    "part",
    [layers.LayerNormalization(epsilon=1e-6), klc.LSTM(6, layer_normalization="gate", return_sequences=True)],
    ids=["layer", "cell"],
)
def test_integers_normalise_small_numbers_beside_large_ones(part, tmp_path):
    """Squares of numbers that differ by a factor of 100 differ by 10,000."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((48, T, F)) * 10.0 ** rng.uniform(-2, 0.5, (48, T, 1))
    model = randomised(sequential(part, layers.LSTM(4)))
    assert export.c(model, tmp_path / "net", "int16x8", x.astype(np.float32)).ok


def test_integers_show_small_signals(tmp_path):
    """Embeddings begin within 0.05: σ and tanh must read their numbers as finely as these lie in memory."""
    keras.utils.set_random_seed(0)
    model = sequential(layers.LSTM(5, return_sequences=True), layers.LSTM(4), layers.Dense(2))
    x = [0.02 * array for array in samples_of(model, 48)]
    report = export.c(model, tmp_path / "net", "int16x8", x)
    assert report.checks[0].relative_to_signal < 0.01


def test_tokens_that_no_int16_holds_are_told(tmp_path):
    tokens = np.random.default_rng(0).integers(0, 40000, (32, 6)).astype(np.float32)
    model = randomised(sequential(layers.Embedding(40000, 2), layers.LSTM(2), shape=(6,)))
    with pytest.raises(ExportError, match="tokens above 32767"):
        export.c(model, tmp_path / "net", "int16x8", tokens)
    assert export.c(model, tmp_path / "held", "int16x8", tokens // 2).ok


def test_units_whose_weights_are_all_zero_cost_the_others_nothing(tmp_path):
    model = sequential(layers.Dense(6), layers.LSTM(3))
    kernel, bias = model.layers[0].get_weights()
    kernel[:, 2] = 0
    model.layers[0].set_weights([0.01 * kernel, bias])
    assert export.c(model, tmp_path / "net", "int16x8", samples_of(model, 48)).checks[0].relative_to_signal < 0.01


def test_a_state_that_tanh_alone_reads_is_held_whole(tmp_path):
    """Beyond 8 there is nothing more for tanh to see, but for the next step of a linear recurrence there is."""
    model = sequential(
        layers.SimpleRNN(4, activation=None, return_sequences=True), layers.Activation("tanh"), layers.Dense(2),
        shape=(60, 3),
    )  # fmt: skip
    kernel, _, bias = model.layers[0].get_weights()
    model.layers[0].set_weights([kernel, 0.98 * np.eye(4), bias])
    assert export.c(model, tmp_path / "net", "int16x8", [3 * x for x in samples_of(model, 48)]).ok


@pytest.mark.parametrize("activation", ["tanh", "sigmoid"])
def test_numbers_of_any_size_are_squashed_to_their_side(activation, tmp_path):
    model = sequential(layers.Activation(activation), layers.LSTM(3))
    x = [1.8e7 * np.clip(x, -4.5, 4.5) for x in samples_of(model, 48)]
    assert export.c(model, tmp_path / "net", "int16x8", x).ok


def test_tiny_and_huge_numbers_side_by_side(tmp_path, monkeypatch):
    """Of the one nothing is left in steps of the other, and no shift is wider than an int."""
    monkeypatch.setenv("CC", " ".join(["gcc", *SANITIZED]))
    inputs = [keras.Input((T, 2)), keras.Input((T, 2))]
    both = layers.Concatenate()([1e-4 * layers.LSTM(3)(inputs[0]), inputs[1][:, -1]])
    model = keras.Model(inputs, layers.Dense(2)(both))
    x, y = samples_of(model, 48)
    assert error_on(model, [x, 1e7 * y], [x, 1e7 * y], tmp_path) < 0.01


def test_tokens_and_their_rows_need_not_be_in_the_calibration(tmp_path, monkeypatch):
    """Row 8 is much larger than those that were seen: it must not overflow."""
    monkeypatch.setenv("CC", " ".join(["gcc", *SANITIZED]))
    model = sequential(layers.Embedding(9, 3, mask_zero=True), layers.LSTM(3), shape=(T,))
    model.layers[0].set_weights([np.where(np.arange(9)[:, None] == 8, 50, 1) * model.layers[0].get_weights()[0]])
    few, all_of_them = (np.tile(np.arange(T) % most, (12, 1)).astype(np.float32) for most in (2, 9))
    all_of_them[:, -1] = 8
    assert np.isfinite(error_on(model, [all_of_them], [few], tmp_path))
    emitter = emitter_for("net", model, "int16x8", [few])
    token, rows = (next(v for v in emitter.schedule.values if v.kind == kind) for kind in ("input", "gather"))
    assert emitter.places(token) == 0  # from 0 to 8, though only 0 and 1 were seen
    assert 16384 <= np.abs(rows.array).max() * 2.0 ** emitter.places(rows) <= 32768


@pytest.mark.parametrize("masked", [True, False])
def test_a_mask_far_from_all_values_costs_no_precision_and_need_not_be_in_the_calibration(masked, tmp_path):
    model = sequential(layers.Masking(-999.0), layers.LSTM(4), layers.Dense(2))
    (x,) = samples_of(model, 48)
    with_mask = x.copy()
    with_mask[::2, 4:] = -999
    assert error_on(model, [with_mask], [with_mask if masked else x], tmp_path) < 0.01


def _sensors() -> tuple[keras.Model, np.ndarray]:
    """Return a model of a temperature, a pressure, a vibration and the time in seconds, and what these measure."""
    x = np.random.default_rng(0).normal([20, 101325, 0, 1.7e9], [5, 800, 0.05, 1e6], (48, T, 4)).astype(np.float32)
    normalization = layers.Normalization()
    normalization.adapt(x)
    return sequential(normalization, layers.LSTM(6), layers.Dense(2), shape=(T, 4)), x


@pytest.mark.parametrize("quantize", [None, "int8", "int16x8"])
def test_a_normalization_brings_features_of_any_unit_together(quantize, tmp_path):
    """In float a mean that goes into the bias of the next product would take what little differs with it."""
    model, x = _sensors()
    report = export.c(model, tmp_path / "net", quantize, x)
    assert report.ok
    assert report.checks[0].relative_to_signal < (1e-6 if quantize is None else 0.01)
    said = "x0_q is (x0 - mean) / deviation" in (tmp_path / "net" / "net.h").read_text()
    assert said is (quantize == "int16x8")


def test_tokens_beyond_int16_are_told(tmp_path):
    model = randomised(sequential(layers.Embedding(40000, 2), layers.LSTM(2), shape=(6,)))
    tokens = np.random.default_rng(0).integers(0, 9, (32, 6)).astype(np.float32)
    report = export.c(model, tmp_path / "net", "int16x8", tokens)
    assert any("above 32767 are taken for 32767" in note for note in report.notes)
