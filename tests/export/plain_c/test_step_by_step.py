"""What runs step by step, and what cannot."""

from __future__ import annotations

import keras
import pytest

from keras_lstm_custom import export
from tests.export.plain_c.building import MARKS
from tests.export.plain_c.zoo import F, sequential

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
