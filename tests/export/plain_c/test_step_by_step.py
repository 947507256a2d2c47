"""What runs step by step, and what cannot."""

from __future__ import annotations

import keras
import pytest

from keras_lstm_custom import export
from tests.export.plain_c.building import MARKS, package_of
from tests.export.plain_c.zoo import MODELS, F, randomised, sequential

pytestmark = MARKS
layers = keras.layers


def test_layers_that_read_forwards_run_step_by_step_together(tmp_path):
    """A stack needs no memory for the sequences between its layers, however long they are."""
    model = sequential(layers.LSTM(4, return_sequences=True), layers.Dense(3), layers.GRU(4), shape=(500, F))
    assert export.c(model, tmp_path / "net").arena_bytes < 4 * 100


@pytest.mark.parametrize(
    ("part", "named"),
    [
        (layers.Bidirectional(layers.LSTM(3)), "bidirectional"),
        (layers.LSTM(3, go_backwards=True), "lstm"),
        (layers.GlobalAveragePooling1D(), "pooling"),
    ],
)
def test_what_cannot_run_step_by_step_has_no_step(part, named, tmp_path):
    report = export.c(sequential(part, layers.Dense(2)), tmp_path / "net")
    assert any("Not step by step" in note and named in note for note in report.notes)
    assert "net_step" not in (tmp_path / "net" / "net.h").read_text()


@pytest.mark.parametrize(
    ("name", "stepwise"),
    [
        ("the last input", True),
        ("masked tokens", True),
        ("tokens as steps and as a vector", False),
        ("a vector as steps", False),
    ],
)
def test_steps_of_vectors_are_not_streamed_and_tokens_and_last_inputs_are(name, stepwise):
    assert (package_of(randomised(MODELS[name]()), "net", 1e-5).why_not_stepwise == "") is stepwise
