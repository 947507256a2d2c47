"""Where operators land on an Ethos-U, by its own compiler."""

import keras
import pytest

from keras_lstm_custom import LSTM, VanillaRNN, export
from keras_lstm_custom.errors import ArgumentError, ExportError
from keras_lstm_custom.export.file.fused_lstm import state_tensors
from keras_lstm_custom.export.file.graph import Graph
from keras_lstm_custom.export.running.npu import placement, resets
from tests.export import models

pytestmark = pytest.mark.tensorflow
pytest.importorskip("ethosu", reason="ethos-u-vela, the compiler for Ethos-U, is not installed")

NPU = "ethos-u55-128"


def sequential(*layers):
    return models.randomised(keras.Sequential([keras.Input((5, 4)), *layers]))


def bidirectional():
    return sequential(keras.layers.Bidirectional(LSTM(5)), keras.layers.Dense(2))


#: The forms that docs/from-keras-to-a-microcontroller.md names.
MODELS = {
    "LSTM": lambda: sequential(LSTM(6), keras.layers.Dense(3, activation="softmax")),
    "stacked": lambda: sequential(LSTM(6, return_sequences=True), LSTM(5), keras.layers.Dense(3)),
    "Conv1D": lambda: sequential(keras.layers.Conv1D(4, 3, activation="relu"), LSTM(6), keras.layers.Dense(3)),
    "vanilla RNN": lambda: sequential(VanillaRNN(6), keras.layers.Dense(3)),
}


def made(model, path, quantize="int8"):
    rows = models.inputs_for(model, 64)
    export.tflite(model, path, quantize, rows, runtime="micro", bound=1.0)
    return placement(path, NPU)


@pytest.mark.parametrize(("name", "quantize"), [*((name, "int8") for name in MODELS), ("Conv1D", "int16x8")])
def test_all_of_it_is_on_the_npu(name, quantize, tmp_path):
    placed = made(MODELS[name](), tmp_path / "m.tflite", quantize)
    assert (placed.on_cpu, placed.left_over) == (0, ())
    assert placed.on_npu > 20
    assert placed.resets_states


def test_what_is_left_over_is_named(tmp_path):
    placed = made(bidirectional(), tmp_path / "m.tflite")
    assert placed.on_cpu == 1
    assert "ReverseV2" in str(placed)


@pytest.mark.parametrize("state", ["kept", "explicit"])
def test_streaming(state, tmp_path):
    model = sequential(LSTM(6, return_sequences=True), keras.layers.Dense(3))
    export.streaming(
        model, tmp_path / "m.tflite", state, "int8", models.inputs_for(model, 64), runtime="micro", bound=1.0
    )
    placed = placement(tmp_path / "m.tflite", NPU)
    assert placed.on_cpu == 0
    assert placed.resets_states is None


def test_a_lost_reset_is_seen(tmp_path):
    """The compiler loses none that was tried, so its answer is made up here."""
    made(MODELS["LSTM"](), tmp_path / "m.tflite")
    graph = Graph((tmp_path / "m.tflite").read_bytes())
    h, c = (graph.name(index) for index in state_tensors(graph)[0])
    assert resets(tmp_path / "m.tflite", [("Maximum", h), ("MemoryCopy", h), ("Maximum", c), ("Mul", c)]) is True
    assert resets(tmp_path / "m.tflite", [("Maximum", h), ("Mul", c), ("Maximum", c)]) is False
    assert resets(tmp_path / "m.tflite", [("Maximum", h)]) is False


def test_verify_says_it(tmp_path):
    model = MODELS["LSTM"]()
    rows = models.inputs_for(model, 64)
    export.tflite(model, tmp_path / "m.tflite", "int8", rows, bound=1.0)
    report = export.verify(tmp_path / "m.tflite", model, rows, npu=NPU)
    assert "ethos-u55-128" in str(report)
    assert "states are reset there" in str(report)
    with pytest.raises(ArgumentError, match="ethos-u55-128"):
        export.verify(tmp_path / "m.tflite", model, rows, npu="ethos-u99")
    export.tflite(model, tmp_path / "f.tflite", None, rows)
    with pytest.raises(ExportError, match="quantize='int8'"):
        export.verify(tmp_path / "f.tflite", model, rows, npu=NPU)


def test_a_file_that_it_refuses(tmp_path):
    (tmp_path / "m.tflite").write_bytes(b"nothing")
    with pytest.raises(ExportError, match="does not take the file"):
        placement(tmp_path / "m.tflite", NPU)
