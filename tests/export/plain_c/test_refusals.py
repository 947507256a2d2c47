"""What is refused, with nothing written and nothing lost."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from keras_lstm_custom import export
from keras_lstm_custom.errors import ArgumentError, ExportError, InputError
from tests.export.plain_c.building import MARKS
from tests.export.plain_c.zoo import F, T, sequential, small

pytestmark = MARKS
layers = keras.layers


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"quantize": "int16x8"}, InputError, "calibration"),
        ({"quantize": "float16"}, ArgumentError, "int16x8"),
        ({"name": "3d"}, ArgumentError, "identifier"),
        ({"name": "class"}, ArgumentError, "identifier"),
        ({"bound": 1e-12}, ExportError, "numbers"),
        *(({"bound": bound}, ArgumentError, "`bound`") for bound in (float("nan"), -1, "0.1", True, np.float32(-1))),
        ({"quantize": ["int8"]}, ArgumentError, "`quantize`"),
    ],
)
def test_bad_input_is_told_and_nothing_is_written(options, error, said, tmp_path):
    with pytest.raises(error, match=said):
        export.c(small(), tmp_path / "net", **options)
    assert not (tmp_path / "net").exists()


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (lambda: sequential(layers.ConvLSTM1D(2, 3), shape=(4, 8, 1)), "conv_lstm1d"),
        (
            lambda: sequential(layers.TimeDistributed(layers.LSTM(2)), shape=(65, 3, 2)),
            "(?s)time_distributed.*65 time steps",
        ),
        (lambda: _gated(), "multi-head attention with return_att"),
        (lambda: sequential(layers.Softmax(axis=[1, 2]), layers.LSTM(2)), "(?s)softmax.*several axes"),
        (lambda: _without_layers(), "nothing to run"),
        (lambda: keras.Sequential([keras.Input((None, F)), layers.LSTM(2)]), "timesteps"),
    ],
)
def test_what_has_no_c_is_named(model, said, tmp_path):
    with pytest.raises(ExportError, match=said):
        export.c(model(), tmp_path / "net")
    assert not (tmp_path / "net").exists()


def _without_layers():
    x = keras.Input((T, F))
    try:
        return keras.Model(x, x)
    except ValueError:
        pytest.skip("this Keras makes no model without layers")


def _gated() -> keras.Model:
    x = keras.Input((T, F))
    return keras.Model(x, layers.MultiHeadAttention(1, 2)(x, x, return_attention_scores=True))


def test_a_folder_of_somebody_else_stays(tmp_path):
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "mine.txt").write_text("mine")
    with pytest.raises(ExportError, match="not written by this package"):
        export.c(small(), tmp_path / "net")
    assert [path.name for path in (tmp_path / "net").iterdir()] == ["mine.txt"]


def test_a_variable_cc_that_is_no_command(tmp_path, monkeypatch):
    monkeypatch.setenv("CC", "cc '")
    with pytest.raises(ExportError, match=r"(?s)CC is no command.*No closing quotation.*What to do"):
        export.c(small(), tmp_path / "net")
    assert not (tmp_path / "net").exists()
