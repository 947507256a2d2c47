"""LSTMs with options: inputs of the fused op for LiteRT, the plain LSTM or a loop for the microcontroller runtime."""

import keras
import numpy as np
import pytest

from keras_lstm_custom import LSTM, export
from tests.covering import covering
from tests.export import models
from tests.export.interpreters import LITERT, LITERT_PLAIN, MICRO, run
from tests.export.test_quantized import ACCEPTED, ROWS, error, outputs_of

pytestmark = pytest.mark.tensorflow

T, F = models.T, models.F

#: Every pair of options meets; the last two are of no consequence in inference.
AXES = {
    "peepholes": [False, True],
    "coupled": [False, True],
    "projection": [None, 3, 6],
    "projection_clip": [None, 0.2],
    "layer_normalization": [None, "gate"],
    "cell_clip": [None, 0.4],
    "use_bias": [True, False],
    "recurrent_weight_dropout": [0.0, 0.3],
}
OPTIONS = [row for row in covering(AXES) if row["projection"] or not row["projection_clip"]]


def each(rows, **options):
    """Return a model with one layer of each kind."""
    x = keras.Input((T, F))
    return models.randomised(keras.Model(x, [LSTM(6, **row, **options)(x) for row in rows]))


def ops(content):
    from tests.export.files import op_counts

    return op_counts(content)


def convert(model, quantize=None, inputs=(), **options):
    from keras_lstm_custom.export import convert
    from keras_lstm_custom.export.model.prepare import prepare

    return convert.convert(prepare(model, **options), quantize, inputs).content


def test_the_fused_op_has_all_options_on_litert():
    model = each(OPTIONS, return_sequences=True)
    x = models.inputs_for(model, rows=3)
    content = convert(model, variants=True)
    assert ops(content)["UNIDIRECTIONAL_SEQUENCE_LSTM"] == len(OPTIONS)
    assert "WHILE" not in ops(content)
    for runtime in (LITERT, LITERT_PLAIN):
        for row, got, expected in zip(OPTIONS, run(content, x, runtime), outputs_of(model, x), strict=True):
            np.testing.assert_allclose(got, expected, rtol=0, atol=3e-6, err_msg=str(row))


def test_the_fused_op_has_all_options_in_int8():
    """But peepholes beside a projection to another size, which LiteRT's integer kernel reads wrongly: a loop."""
    model = each(OPTIONS, return_sequences=True)
    inputs = models.inputs_for(model, ROWS)
    shown = [x[:16] for x in inputs]
    content = convert(model, "int8", inputs, variants=True)
    assert ops(content)["WHILE"] == sum(row["peepholes"] and row["projection"] == 3 for row in OPTIONS)
    for row, got, expected in zip(OPTIONS, run(content, shown, LITERT), outputs_of(model, shown), strict=True):
        assert error([got], [expected]) < ACCEPTED["int8"], row


@pytest.mark.parametrize("quantize", [None, "int8", "int16x8"])
def test_coupled_gates_and_the_cell_clip_are_fused_on_a_microcontroller(quantize):
    model = each([{"coupled": True}, {"cell_clip": 0.2}, {"coupled": True, "cell_clip": 0.3, "use_bias": False}])
    inputs = models.inputs_for(model, ROWS)
    shown = [x[:16] for x in inputs]
    content = convert(model, quantize, inputs)
    assert ops(content)["UNIDIRECTIONAL_SEQUENCE_LSTM"] == 3
    bound = ACCEPTED.get(quantize, 1e-5)
    assert error(run(content, shown, MICRO), outputs_of(model, shown)) < bound
    if quantize != "int16x8":
        assert error(run(content, shown, LITERT), outputs_of(model, shown)) < bound


def test_the_form_follows_the_runtime(tmp_path):
    model = each([{"peepholes": True, "projection": 3, "layer_normalization": "gate"}])
    fused = export.tflite(model, tmp_path / "a.tflite")
    assert fused.ops["UNIDIRECTIONAL_SEQUENCE_LSTM"] == 1
    both = export.tflite(model, tmp_path / "a.tflite", runtime="both")
    assert both.ops["WHILE"] == 1
    assert {check.runtime for check in both.checks if check.ok} >= {"litert", "micro"}
    assert any("loop over the steps" in note for note in both.notes)


@pytest.mark.parametrize("quantize", ["float16", "dynamic"])
def test_smaller_weights(quantize, tmp_path):
    rows = [{"peepholes": True, "coupled": True, "projection": 16}, {"layer_normalization": "gate"}]
    x = keras.Input((T, F))
    model = models.randomised(keras.Model(x, [LSTM(32, **row)(x) for row in rows]), amount=0.05)
    assert export.tflite(model, tmp_path / "a.tflite", quantize).ok
