"""What the integers cannot show has more bits: only there, right on the runtimes, and told in the report."""

import importlib

import keras
import numpy as np
import pytest

from keras_lstm_custom import export
from keras_lstm_custom.errors import ExportError
from tests.export import models
from tests.export.interpreters import LITERT, MICRO, inputs_and_outputs, run
from tests.export.test_quantized import error, graph_of, outputs_of

pytestmark = pytest.mark.tensorflow

layers = keras.layers

ROWS, SHOWN = 64, 16  #: of calibration; of others, on which a file is compared
BOUND = {"int8": 0.06, "int16x8": 0.03}


def fading():
    """Four LSTMs with small weights: the signal falls to a thousandth, and drowns in the kernels' tables."""
    keras.utils.set_random_seed(0)
    lstms = [layers.LSTM(6, return_sequences=True) for _ in range(3)]
    model = keras.Sequential([keras.Input((7, 3)), *lstms, layers.LSTM(5), layers.Dense(3)])
    model.set_weights([0.3 * weight for weight in model.get_weights()])
    return model


def near_zero():
    """A tanh of some 1e-4: three of the steps that the kernels' own scale has in int16."""
    model = models.randomised(keras.Sequential([keras.Input((7, 3)), layers.LSTM(6), layers.Dense(3, "tanh")]))
    kernel, bias = model.layers[-1].get_weights()
    model.layers[-1].set_weights([1e-4 * kernel, 0 * bias])
    return model


def not_for_micro():
    """A model with an op that the microcontroller runtime does not have."""
    x = keras.Input((7, 3))
    h = layers.Dense(3)(layers.LSTM(6)(x))
    return models.randomised(keras.Model(x, keras.ops.arctan2(h, h * h + 1.0)))


def rows_of(model):
    inputs = models.inputs_for(model, ROWS + SHOWN)
    return [x[:ROWS] for x in inputs], [x[ROWS:] for x in inputs]


def exported(model, path, scheme, runtime, **options):
    """Return the file and the report, and its errors on rows that it has not seen, by the interpreters themselves."""
    calibration, shown = rows_of(model)
    report = export.tflite(model, path, scheme, calibration=calibration, runtime=runtime, **options)
    content = path.read_bytes()
    runtimes = {"litert": [LITERT], "micro": [MICRO], "both": [LITERT, MICRO]}[runtime]
    return content, report, [error(run(content, shown, name), outputs_of(model, shown)) for name in runtimes]


@pytest.fixture
def nothing_promoted(monkeypatch):
    """Take the promotion away, to see what it is for."""
    convert = importlib.import_module("keras_lstm_custom.export.convert")
    promote = importlib.import_module("keras_lstm_custom.export.quantization.promote")
    monkeypatch.setattr(convert, "promote", lambda content, rows, scheme, make, *more: make(promote.Promoted()))


PROMOTED = [
    (models.hardly_moving, "int8", "both", "the output 'p' is int16"),
    (fading, "int8", "both", "computes in float"),
    (fading, "int16x8", "micro", "computes in float"),
    (near_zero, "int8", "both", "computes in float"),
    (near_zero, "int16x8", "micro", "computes in float"),
]


@pytest.mark.parametrize(("build", "scheme", "runtime", "told"), PROMOTED)
def test_what_the_integers_cannot_show_has_more_bits(build, scheme, runtime, told, tmp_path):
    _, report, errors = exported(build(), tmp_path / "a.tflite", scheme, runtime)
    (note,) = [note for note in report.notes if "therefore" in note]
    assert note.startswith(f"{scheme} alone errs by")
    assert told in note
    assert max(errors) < BOUND[scheme]


@pytest.mark.parametrize(("build", "scheme", "runtime", "told"), PROMOTED)
def test_without_more_bits_the_file_is_refused(build, scheme, runtime, told, tmp_path, nothing_promoted):
    with pytest.raises(ExportError, match="does not give the model's numbers"):
        exported(build(), tmp_path / "a.tflite", scheme, runtime)
    _, report, errors = exported(build(), tmp_path / "a.tflite", scheme, runtime, bound=99)
    assert min(errors) > 5 * BOUND[scheme]
    assert told not in str(report)


def test_an_output_in_int16_is_what_the_file_declares(tmp_path):
    content, _, _ = exported(models.hardly_moving(), tmp_path / "a.tflite", "int8", "both")
    (inputs, outputs) = inputs_and_outputs(content)
    assert [detail["dtype"] for detail in (*inputs, *outputs)] == [np.int8, np.int16]
    content, _, errors = exported(models.hardly_moving(), tmp_path / "b.tflite", "int8", "both", io_dtype="float32")
    assert all(detail["dtype"] == np.float32 for group in inputs_and_outputs(content) for detail in group)
    assert max(errors) < BOUND["int8"]


def test_an_op_in_float_has_float_weights_and_the_others_have_int8(tmp_path):
    from keras_lstm_custom.export.file.flatbuffer import Type
    from keras_lstm_custom.export.file.fused_lstm import KERNELS, H, lstm_ops

    content, report, _ = exported(fading(), tmp_path / "a.tflite", "int8", "both")
    graph = graph_of(content)
    types = [{graph.tensors[o.inputs[k]].type for k in range(*KERNELS.indices(9))} for o in lstm_ops(graph)]
    states = [graph.tensors[o.inputs[H]].type for o in lstm_ops(graph)]
    in_float = sum(note.count("computes in float") for note in report.notes)
    assert 0 < in_float < 4
    assert types.count({Type.FLOAT32}) == in_float
    assert types.count({Type.INT8}) == 4 - in_float
    assert states.count(Type.FLOAT32) == in_float


@pytest.mark.parametrize("scheme", ["int8", "int16x8"])
def test_a_file_that_is_right_stays_in_integers(scheme, tmp_path):
    runtime = "both" if scheme == "int8" else "micro"
    _, report, _ = exported(models.randomised(models.ours()), tmp_path / "a.tflite", scheme, runtime)
    assert not any("therefore" in note for note in report.notes)
    assert "DEQUANTIZE" not in report.ops


def test_a_runtime_that_refuses_the_file_says_nothing_about_its_bits(tmp_path):
    _, report, (found,) = exported(not_for_micro(), tmp_path / "a.tflite", "int8", "litert")
    assert not report.check("micro").ok
    assert not any("therefore" in note for note in report.notes)
    assert found < BOUND["int8"]


def test_nothing_is_measured_where_one_row_depends_on_the_one_before(monkeypatch, tmp_path):
    convert = importlib.import_module("keras_lstm_custom.export.convert")
    monkeypatch.setattr(convert, "promote", lambda *args: pytest.fail("measured"))
    model = models.randomised(models.ours())
    assert export.tflite(model, tmp_path / "a.tflite", "int8", calibration=rows_of(model)[0], stateful=True).ok


def lstm_step():
    x, h, c = keras.Input((3,), name="x"), keras.Input((4,), name="h"), keras.Input((4,), name="c")
    i, f, g, o = keras.ops.split(layers.Dense(16)(x) + layers.Dense(16, use_bias=False)(h), 4, axis=-1)
    new_c = keras.ops.sigmoid(f) * c + keras.ops.sigmoid(i) * keras.ops.tanh(g)
    new_h = keras.ops.sigmoid(o) * keras.ops.tanh(new_c)
    return keras.Model([x, h, c], [layers.Dense(2, name="y")(new_h), new_h, new_c]), 2


def two_rnn_steps():
    first, second, h = keras.Input((3,), name="first"), keras.Input((3,), name="second"), keras.Input((4,), name="h")
    of_x, of_h = layers.Dense(4), layers.Dense(4, use_bias=False)
    middle = keras.ops.tanh(of_x(first) + of_h(h))
    last = keras.ops.tanh(of_x(second) + of_h(middle))
    return keras.Model([first, second, h], [layers.Dense(2, name="y")(last), last]), 1


@pytest.mark.parametrize("build", [lstm_step, two_rnn_steps])
def test_the_cell_of_a_streaming_file(build):
    """From the products with weights to the states at each step; neither the input nor what reads the states."""
    from keras_lstm_custom.export.convert import float_graph
    from keras_lstm_custom.export.file.graph import signature_of
    from keras_lstm_custom.export.model.prepare import prepare
    from keras_lstm_custom.export.quantization.cells import stepped_cells

    model, states = build()
    graph = float_graph(prepare(model))
    inputs, outputs = (list(group.values()) for group in signature_of(graph))
    computed = {int(output) for operator in graph.operators for output in operator.outputs}
    assert stepped_cells(graph, list(zip(inputs[-states:], outputs[-states:], strict=True))) == computed - {outputs[0]}


# Unrolled cells


def unrolled(steps=12):
    """Default biases: the forget gate's 1 stands in one tensor with biases of 0, until the gates are split."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((steps, 3)), layers.LSTM(6), layers.Dense(2)])
    prepare = importlib.import_module("keras_lstm_custom.export.model.prepare").prepare
    return model, prepare(model, fused=False)


def test_unrolled_cells_compute_in_int16(monkeypatch, nothing_promoted):
    convert = importlib.import_module("keras_lstm_custom.export.convert")
    model, prepared = unrolled()
    calibration, shown = rows_of(model)

    def errors(content):
        return [error(run(content, shown, name), outputs_of(model, shown)) for name in (LITERT, MICRO)]

    found = max(errors(convert.convert(prepared, "int8", calibration).content))
    monkeypatch.setattr(convert, "unrolled_cells", lambda graph: frozenset())
    assert found < 0.75 * min(errors(convert.convert(prepared, "int8", calibration).content))


def test_the_cells_of_an_unrolled_file():
    """All that leads from product to product; not the embedding before, nor what reads the last state."""
    from keras_lstm_custom.export.convert import float_graph
    from keras_lstm_custom.export.quantization.cells import unrolled_cells

    steps = 4
    graph = float_graph(unrolled(steps)[1])
    names = [graph.name(index) for index in unrolled_cells(graph)]
    assert sum("Tanh" in name for name in names) == 2 * steps
    assert not any("dense" in name for name in names)
    models_without = [models.ours, models.convolution, models.embedding]
    assert not any(unrolled_cells(float_graph(_prepared(build()))) for build in models_without)


def _prepared(model):
    return importlib.import_module("keras_lstm_custom.export.model.prepare").prepare(model)


# The search


def test_the_search_is_bounded_and_shows_how_far_it_is(monkeypatch, capsys):
    """On a file that no change makes better, with far more ops than are tried."""
    from keras_lstm_custom.export.convert import float_graph
    from keras_lstm_custom.export.file.graph import written
    from keras_lstm_custom.export.quantization import promote as module
    from keras_lstm_custom.export.running.runtimes import Run

    monkeypatch.setattr(module.rt, "is_installed", lambda name: True)
    runs = []

    def run_file(path, samples, runtime):
        runs.append(runtime)
        return Run(runtime, ok=True, outputs=(np.full((3, 2), len(runs) > 1) * 9.0 + np.arange(6).reshape(3, 2),))

    monkeypatch.setattr(module.rt, "run_file", run_file)
    _, prepared = unrolled()
    rows = [[np.zeros((1, 12, 3), "float32")]] * 3
    made, file = [], written(float_graph(prepared))
    found = module.promote(file, rows, "int8", lambda now: made.append(now) or file, verbose=1)
    assert len(made) == 1 + module.MOST_TRIED
    assert len(runs) == 3 + 2 * module.MOST_TRIED
    assert f"ended after {module.MOST_TRIED} candidates" in found.notes[0]
    assert f"{module.MOST_TRIED}/{module.MOST_TRIED}" in capsys.readouterr().out


def test_a_refusal_of_int8_names_int16x8(tmp_path, nothing_promoted):
    with pytest.raises(ExportError, match=r"(?s)What to do: .*int16x8"):
        exported(models.hardly_moving(), tmp_path / "a.tflite", "int8", "both")
