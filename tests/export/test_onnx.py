"""ONNX files, opened by onnxruntime here."""

import keras
import numpy as np
import pytest

from keras_lstm_custom import LSTM, VanillaRNN, export
from keras_lstm_custom.errors import ExportError
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
