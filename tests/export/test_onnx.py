"""ONNX files, opened by onnxruntime here."""

import gc

import keras
import numpy as np
import pytest

from keras_lstm_custom import GRU, LSTM, SLSTM, VanillaRNN, export
from keras_lstm_custom.errors import ExportError
from keras_lstm_custom.export.onnx_nodes import Node
from tests.export import models

pytestmark = pytest.mark.tensorflow

onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
pytest.importorskip("tf2onnx", reason="tf2onnx is not installed")
pytest.importorskip("onnx", reason="onnx is not installed")


def test_any_batch_and_any_length(tmp_path, rng):
    x = keras.Input((None, 5), name="x")
    h = keras.layers.Bidirectional(LSTM(6, return_sequences=True))(x)
    outputs = [LSTM(4, name="last")(h), VanillaRNN(3, name="rnn")(h)]
    model = models.randomised(keras.Model(x, outputs))
    report = export.onnx(model, tmp_path / "m.onnx")
    assert report.ok
    assert report.ops["LSTM"] == 2  # the two directions in one, and the last
    session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"))
    for rows, timesteps in ((1, 1), (3, 17)):
        data = rng.standard_normal((rows, timesteps, 5)).astype("float32")
        for got, expected in zip(session.run(None, {"x": data}), model(data), strict=True):
            np.testing.assert_allclose(got, expected, atol=5e-6)  # float32


def test_a_gru_and_an_lstm_with_options_are_one_node_each(tmp_path, rng):
    """Both directions, both forms, states in and out; onnxruntime against the model, with any batch and length."""
    x, h = keras.Input((None, 5), name="x"), keras.Input((4,), name="h")
    gru = GRU(4, return_sequences=True, return_state=True)(x, initial_state=h)
    outputs = [
        *gru,
        keras.layers.Bidirectional(keras.layers.GRU(3, reset_after=False))(gru[0]),
        GRU(3, use_bias=False, go_backwards=True)(x),
        LSTM(4, peepholes=True, return_sequences=True)(x),
        *LSTM(4, peepholes=True, coupled=True, return_state=True)(x),
        LSTM(3, coupled=True)(x),
    ]
    model = models.randomised(keras.Model([x, h], outputs))
    report = export.onnx(model, tmp_path / "m.onnx")
    assert (report.ops["GRU"], report.ops["LSTM"]) == (4, 3)
    assert "Loop" not in report.ops
    session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"))
    for rows, timesteps in ((1, 1), (3, 9)):
        data = [rng.standard_normal((rows, *shape)).astype("float32") for shape in ((timesteps, 5), (4,))]
        for got, expected in zip(session.run(None, {"x": data[0], "h": data[1]}), model(data), strict=True):
            np.testing.assert_allclose(got, expected, atol=5e-6)


def test_other_cells_are_loops(tmp_path):
    """The attribute `clip` of ONNX bounds other values than a cell clip."""
    body = [LSTM(4, cell_clip=0.1, projection=2, return_sequences=True), SLSTM(3)]
    model = models.randomised(keras.Sequential([keras.Input((6, 5)), *body]))
    report = export.onnx(model, tmp_path / "m.onnx")
    assert report.ok
    assert "LSTM" not in report.ops


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    import sys

    monkeypatch.setattr(sys.modules["keras_lstm_custom.export.onnx"], "NEEDED", {"no_such_module": "no-such-package"})
    model = keras.Sequential([keras.Input((4, 3)), LSTM(2)])
    with pytest.raises(ExportError, match="no-such-package"):
        export.onnx(model, tmp_path / "m.onnx")


def test_a_wrong_file_is_not_kept(tmp_path, monkeypatch):
    import sys

    monkeypatch.setattr(sys.modules["keras_lstm_custom.export.onnx"], "BOUND", -1.0)
    model = keras.Sequential([keras.Input((4, 3)), LSTM(2)])
    with pytest.raises(ExportError, match="none was kept"):
        export.onnx(model, tmp_path / "m.onnx")
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_held_after_an_export(tmp_path):
    """What stands for a GRU while it is converted holds its weights."""
    model = keras.Sequential([keras.Input((4, 3)), GRU(2)])
    export.onnx(model, tmp_path / "m.onnx")
    gc.collect()
    assert not [held for held in gc.get_objects() if isinstance(held, Node)]
