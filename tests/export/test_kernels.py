"""What runs on the kernels of CMSIS-NN: each rule finds what breaks it, and exports keep those that they can."""

import re

import keras
import numpy as np
import pytest

from keras_lstm_custom import LSTM, export
from keras_lstm_custom.errors import ArgumentError, ExportError
from keras_lstm_custom.export.file.flatbuffer import Op, quantization
from keras_lstm_custom.export.file.graph import Graph
from keras_lstm_custom.export.running.kernels import broken_rules, cmsis_nn_bytes
from tests.export import models

pytestmark = pytest.mark.tensorflow


def says(graph):
    return [rule.says.split()[0] for rule, _ in broken_rules(graph)]


def exported(model, path, quantize="int8", **options):
    rows = models.inputs_for(model, 32)
    export.tflite(model, path, quantize, rows, runtime="micro", **options)
    return Graph(path.read_bytes())


def started():
    x, start = keras.Input((4, 3)), keras.Input((5,))
    return models.randomised(keras.Model([x, start], LSTM(5)(x, initial_state=[start, start])))


def returning_states():
    x = keras.Input((4, 3))
    return models.randomised(keras.Model(x, LSTM(5, return_state=True)(x)))


def strided():
    layers = [keras.layers.Conv1D(4, 5, strides=2), LSTM(5), keras.layers.Dense(3)]
    return models.randomised(keras.Sequential([keras.Input((20, 3)), *layers]))


@pytest.mark.parametrize(("make", "expected"), [(started, ["starts"]), (returning_states, ["does"]), (strided, [])])
@pytest.mark.parametrize("quantize", ["int8", "int16x8", None])
def test_what_the_files_break(make, expected, quantize, tmp_path):
    model = make()
    graph = exported(model, tmp_path / "m.tflite", quantize)
    assert says(graph) == (expected if quantize else [])


def test_int16_products_have_one_scale(tmp_path):
    """CMSIS-NN refuses more; and a file with more breaks the rule."""
    graph = exported(strided(), tmp_path / "m.tflite", "int16x8")
    (product,) = graph.of(Op.FULLY_CONNECTED)
    weights = graph.tensors[int(product.inputs[1])]
    assert len(weights.quantization.scale) == 1
    weights.quantization = quantization(np.full(3, weights.quantization.scale[0]))
    assert says(graph) == ["refuses"]
    in_int8 = exported(strided(), tmp_path / "m.tflite", "int8")
    (product,) = in_int8.of(Op.FULLY_CONNECTED)
    assert len(in_int8.tensors[int(product.inputs[1])].quantization.scale) == 3


def test_steps_that_a_convolution_does_not_read_are_cut_off(tmp_path):
    graph = exported(strided(), tmp_path / "m.tflite")
    (convolution,) = graph.of(Op.CONV_2D)
    assert graph.shape(int(convolution.inputs[0])) == (1, 1, 19, 3)
    (cut,) = graph.of(Op.SLICE)
    convolution.inputs[0] = cut.inputs[0]
    assert says(graph) == ["leaves"]


def test_kernels_that_are_asked_for(tmp_path):
    model = returning_states()
    (rows,) = models.inputs_for(model, 20)
    with pytest.raises(ExportError, match="does not write the last cell state"):
        export.micro(model, tmp_path / "p", calibration=rows, kernels="cmsis-nn")
    with pytest.raises(ArgumentError, match="`kernels` is unknown"):
        export.micro(model, tmp_path / "p", calibration=rows, kernels="esp-nn")
    assert not list(tmp_path.iterdir())
    report = export.micro(model, tmp_path / "p", calibration=rows, kernels="reference")
    assert report.kernels == ("reference",)
    assert "kernels" in str(report)
    assert any("CMSIS-NN does not run it" in note for note in report.notes)
    report = export.micro(model, tmp_path / "p", None, kernels="cmsis-nn")
    assert report.kernels == ("reference", "cmsis-nn")


#: What was measured on emulated cores: four LSTMs of these units in int8, and the arena that CMSIS-NN needed there. The
#: package stated a tenth more than the reference kernels' least.
NEEDED = {32: (15_296, 16_752), 128: (38_464, 49_968)}


@pytest.mark.parametrize("units", NEEDED)
def test_the_arena_of_cmsis_nn(units, tmp_path):
    stated, needed = NEEDED[units]
    layers = [LSTM(units, return_sequences=True) for _ in range(3)]
    model = models.randomised(keras.Sequential([keras.Input((6, 4)), *layers, LSTM(units)]))
    more = cmsis_nn_bytes(exported(model, tmp_path / "m.tflite"))
    sums = 4 * 32 * units
    assert sums < more < sums + 4 * 600
    assert needed < stated + more < 1.5 * needed


def test_the_package_states_both_arenas(tmp_path):
    model = strided()
    (rows,) = models.inputs_for(model, 20)
    report = export.micro(model, tmp_path / "p", calibration=rows)
    settings = (tmp_path / "p" / "model_settings.h").read_text()
    own, other = (int(re.search(rf"kArenaBytes{name} = (\d+);", settings)[1]) for name in ("", "CmsisNn"))
    assert own == report.arena_bytes
    assert other - own == -(-cmsis_nn_bytes(Graph((tmp_path / "p" / "model.tflite").read_bytes())) // 64) * 64
