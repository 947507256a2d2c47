"""int8 and int16x8 files: right on both runtimes, and one test for each trap on the way there."""

import keras
import numpy as np
import pytest

from tests.export import models
from tests.export.interpreters import LITERT, LITERT_PLAIN, MICRO, RUNTIMES, run
from tests.export.random_graphs import random_graph, samples_of
from tests.export.test_float import integrator

pytestmark = pytest.mark.tensorflow

layers = keras.layers

ROWS = 48  #: of calibration; the files are compared on the first of them
ACCEPTED = {"int8": 0.06, "int16x8": 0.03}  #: of the signal's standard deviation


def quantized(model, inputs, scheme, **options):
    from keras_lstm_custom.export.convert import convert
    from keras_lstm_custom.export.model.prepare import prepare

    prepared = prepare(model, timesteps=models.timesteps_of(model), fused=options.pop("fused", True))
    return convert(prepared, scheme, inputs, **options).content


def outputs_of(model, inputs):
    outputs = model(inputs if len(inputs) > 1 else inputs[0])
    return [np.asarray(y) for y in (outputs if isinstance(outputs, (list, tuple)) else [outputs])]


def error(got, expected):
    """The worst output's error, as a share of its standard deviation."""
    pairs = zip(got, expected, strict=True)
    return max(float(np.sqrt(np.mean((a.astype(np.float64) - b) ** 2)) / b.std()) for a, b in pairs)


def graph_of(content):
    from keras_lstm_custom.export.file.graph import Graph

    return Graph(content)


@pytest.mark.parametrize("name", models.MODELS)
def test_a_quantized_file_gives_the_models_numbers(name):
    model = models.randomised(models.MODELS[name]())
    inputs = models.inputs_for(model, ROWS)
    shown = [x[:16] for x in inputs]
    expected = outputs_of(model, shown)
    int8, int16x8 = (quantized(model, inputs, scheme) for scheme in ("int8", "int16x8"))
    assert error(run(int8, shown, LITERT), expected) < ACCEPTED["int8"]
    assert error(run(int8, shown, MICRO), expected) < ACCEPTED["int8"]
    assert error(run(int16x8, shown, MICRO), expected) < ACCEPTED["int16x8"]


@pytest.mark.parametrize("seed", range(5))
def test_random_graphs(seed):
    """`benchmarks/export_random_graphs.py` runs a hundred of larger ones."""
    model = random_graph(1000 + seed, largest_units=24, longest=30)
    inputs = samples_of(model, 64)
    shown = [x[:8] for x in inputs]
    expected = outputs_of(model, shown)
    int8 = quantized(model, inputs, "int8")
    for runtime in RUNTIMES:
        assert error(run(int8, shown, runtime), expected) < ACCEPTED["int8"]
    assert error(run(quantized(model, inputs, "int16x8"), shown, MICRO), expected) < ACCEPTED["int16x8"]


@pytest.mark.parametrize(("scheme", "dtype"), [("int8", np.int8), ("int16x8", np.int16)])
@pytest.mark.parametrize("float_io", [False, True])
def test_inputs_and_outputs_are_integers_or_floats(scheme, dtype, float_io):
    from tests.export.interpreters import inputs_and_outputs

    model = models.randomised(models.several())
    inputs = models.inputs_for(model, ROWS)
    content = quantized(model, inputs, scheme, float_io=float_io)
    wanted = np.float32 if float_io else dtype
    assert all(detail["dtype"] == wanted for group in inputs_and_outputs(content) for detail in group)
    shown = [x[:8] for x in inputs]
    assert error(run(content, shown, MICRO), outputs_of(model, shown)) < ACCEPTED[scheme]


@pytest.mark.parametrize("scheme", ["int8", "int16x8"])
def test_an_unrolled_file_in_integers(scheme):
    model = models.randomised(models.vanilla())
    inputs = models.inputs_for(model, ROWS)
    content = quantized(model, inputs, scheme, fused=False)
    shown = [x[:8] for x in inputs]
    assert error(run(content, shown, MICRO), outputs_of(model, shown)) < ACCEPTED[scheme]


# The traps


def small_signals(amount=0.02):
    """A model whose cell states stay below 0.5, where the converter chooses a scale that LiteRT cannot do."""
    model = models.theirs()
    model.set_weights([amount * np.random.default_rng(0).standard_normal(w.shape) for w in model.get_weights()])
    return model


@pytest.mark.parametrize("runtime", [*RUNTIMES, LITERT_PLAIN])
def test_small_cell_states(runtime):
    model = small_signals(amount=0.1)
    inputs = models.inputs_for(model, ROWS)
    content = quantized(model, inputs, "int8")
    assert error(run(content, inputs, runtime), outputs_of(model, inputs)) < ACCEPTED["int8"]


@pytest.mark.parametrize("model", [small_signals(), models.bidirectional(), models.convolution()])
def test_cell_scales_stay_where_the_runtimes_can_do_them(model):
    from keras_lstm_custom.export.file.fused_lstm import C, lstm_ops

    graph = graph_of(quantized(model, models.inputs_for(model, ROWS), "int8"))
    for operator in lstm_ops(graph):
        (scale,) = graph.tensors[operator.inputs[C]].quantization.scale
        assert 2.0**-15 <= scale <= 2.0**-9
        assert np.log2(scale) == np.round(np.log2(scale))


@pytest.mark.parametrize("scheme", ["int8", "int16x8"])
@pytest.mark.parametrize("name", ["bidirectional", "skip", "skip_concatenate", "backwards", "time_distributed"])
def test_state_output_and_intermediate_have_one_scale(name, scheme):
    from keras_lstm_custom.export.file.fused_lstm import H, lstm_ops

    model = models.randomised(models.MODELS[name]())
    graph = graph_of(quantized(model, models.inputs_for(model, ROWS), scheme))
    for operator in lstm_ops(graph):
        ends = [operator.inputs[H], operator.outputs[0], operator.intermediates[4]]
        scales = {
            (float(graph.tensors[i].quantization.scale[0]), int(graph.tensors[i].quantization.zeroPoint[0]))
            for i in ends
        }
        assert len(scales) == 1


@pytest.mark.parametrize("scheme", ["int8", "int16x8"])
def test_the_weights_are_symmetric_int8_and_the_biases_wide(scheme):
    from keras_lstm_custom.export.file.flatbuffer import Type
    from keras_lstm_custom.export.file.fused_lstm import BIASES, KERNELS, RECURRENT_KERNELS, C, lstm_ops

    model = models.randomised(models.skip())
    graph = graph_of(quantized(model, models.inputs_for(model, ROWS), scheme))
    for operator in lstm_ops(graph):
        for index in [*operator.inputs[KERNELS], *operator.inputs[RECURRENT_KERNELS]]:
            assert graph.tensors[index].type == Type.INT8
            assert graph.tensors[index].quantization.zeroPoint[0] == 0
        # int32 biases in an int16x8 file give garbage without an error
        bias = Type.INT32 if scheme == "int8" else Type.INT64
        assert {graph.tensors[index].type for index in operator.inputs[BIASES]} == {bias}
        assert graph.tensors[operator.inputs[C]].type == Type.INT16


def test_a_peak_of_the_cell_inside_a_sequence_is_seen():
    """The cell goes to 40 in the middle and back to 0 at the end, which is all that the runtime shows."""
    from keras_lstm_custom.export.convert import float_graph
    from keras_lstm_custom.export.file.graph import written
    from keras_lstm_custom.export.model.prepare import prepare
    from keras_lstm_custom.export.quantization.ranges import calibrate

    model, x = integrator(timesteps=100)
    ranges = calibrate(written(float_graph(prepare(model))), [[x]])
    assert 39 < max(ranges.cell.values()) < 42
    content = quantized(model, [x], "int8")
    for runtime in RUNTIMES:
        assert error(run(content, [x], runtime), outputs_of(model, [x])) < 0.15  # int16 steps of 2^-9 add up 100 times


def test_samples_do_not_leak_into_each_other():
    from keras_lstm_custom.export.convert import float_graph
    from keras_lstm_custom.export.file.graph import written
    from keras_lstm_custom.export.model.prepare import prepare
    from keras_lstm_custom.export.quantization.ranges import calibrate

    model, x = integrator(timesteps=20)
    up = np.abs(x)
    for stateful in (False, True):
        file = written(float_graph(prepare(model), stateful=stateful))
        (once,) = calibrate(file, [[up]]).cell.values()
        (thrice,) = calibrate(file, [[up]] * 3).cell.values()
        assert thrice == pytest.approx(once, rel=1e-5)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_nearly_zero_kernels_do_not_overflow_the_bias(runtime):
    model = models.randomised(models.theirs())
    weights = model.get_weights()
    weights[0] = 1e-7 * weights[0]
    model.set_weights(weights)
    inputs = models.inputs_for(model, ROWS)
    # The first layer's output is nearly the same for every row, so the bound is on the absolute error.
    (got,), (expected,) = run(quantized(model, inputs, "int8"), inputs, runtime), outputs_of(model, inputs)
    assert np.abs(got - expected).max() < 0.03


def test_a_cell_state_beyond_the_integers_is_refused():
    from keras_lstm_custom.errors import ExportError

    model, x = integrator(timesteps=300)
    with pytest.raises(ExportError, match=r"(?s)grows beyond.*of at most 64.*of 1\d\d"):
        quantized(model, [x], "int8")


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_an_offset_of_the_input_does_not_become_an_offset_of_the_output(runtime):
    """What rounding of weights adds on average is taken from the biases."""
    model = models.randomised(models.theirs())
    inputs = [x + 3 for x in models.inputs_for(model, ROWS)]
    content = quantized(model, inputs, "int8")
    (got,), (expected,) = run(content, inputs, runtime), outputs_of(model, inputs)
    assert np.abs((got - expected).mean(axis=0)).max() < 0.02 * expected.std()


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_few_rows_of_calibration_leave_room_for_others(runtime):
    """Of 12 values of the output hardly any other lies within their range; without room the error is near 0.2."""
    model = models.randomised(models.theirs())
    inputs = models.inputs_for(model, 64)
    content = quantized(model, [x[:4] for x in inputs], "int8")
    assert error(run(content, inputs, runtime), outputs_of(model, inputs)) < ACCEPTED["int8"]


def test_the_room_depends_on_how_much_was_seen():
    from keras_lstm_custom.export.quantization.seen import with_room

    low, high = with_room(-2.0, 2.0, 16)
    assert -low == high == pytest.approx(2 * 4.5 / 1.863, rel=1e-3)  # the quantile 1 - 1/32 of the normal distribution
    assert with_room(-5.0, 3.0, 10**6) == (-5.0, 3.0)
    assert with_room(0.0, 2.0, 16)[0] == 0  # of a ReLU
    assert with_room(1.0, 2.0, 10**6) == (0.0, 2.0)


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize(("activation", "classes"), [("tanh", 3), ("softmax", 12)])
@pytest.mark.parametrize("float_io", [False, True])
def test_a_head_that_uses_a_part_of_its_range(activation, classes, runtime, float_io):
    """The kernels' int8 steps of 1/128 and 1/256 would by themselves be an error of about 0.1."""
    model = models.randomised(
        keras.Sequential([keras.Input((7, 3)), layers.LSTM(9), layers.Dense(classes, activation)])
    )
    head = model.layers[-1]
    head.set_weights([0.1 * weight for weight in head.get_weights()])
    inputs = models.inputs_for(model, 128)
    content = quantized(model, inputs, "int8", float_io=float_io)
    shown = [x[:32] for x in inputs]
    assert error(run(content, shown, runtime), outputs_of(model, shown)) < ACCEPTED["int8"]


def unequal_parts():
    """Skip connections that join an input with hidden states a tenth as wide, read by an LSTM and two heads."""
    keras.utils.set_random_seed(1)
    x = keras.Input((7, 3))
    h = layers.Concatenate()([x, layers.LSTM(20, return_sequences=True)(x)])
    h = layers.Concatenate()([h, layers.LSTM(16, return_sequences=True, go_backwards=True)(h)])
    h = layers.LSTM(9, return_sequences=True)(h)[:, -1]
    h = layers.Concatenate()([x[:, -1], h])
    return keras.Model(x, [layers.Dense(4)(h), layers.Dense(3, "tanh")(h)])


def test_equalised_parts_leave_the_float_file_as_it_is():
    from keras_lstm_custom.export.convert import float_graph
    from keras_lstm_custom.export.file.flatbuffer import Op
    from keras_lstm_custom.export.file.graph import written
    from keras_lstm_custom.export.model.prepare import prepare
    from keras_lstm_custom.export.quantization.equalise import equalise
    from keras_lstm_custom.export.quantization.ranges import calibrate
    from tests.export.files import op_counts

    model = models.randomised(unequal_parts(), amount=0.05)
    inputs = models.inputs_for(model, ROWS)
    file = written(float_graph(prepare(model)))
    ranges = calibrate(file, [[x[row : row + 1] for x in inputs] for row in range(ROWS)])
    assert equalise(file.graph, ranges)
    equalised = file.graph.pack()
    assert op_counts(equalised)["MUL"] >= 3
    assert error(run(equalised, inputs), outputs_of(model, inputs)) < 1e-5
    # A concatenation that an op without weights reads as well stays.
    graph = graph_of(file.content)
    graph.outputs = [*graph.outputs, *(int(operator.outputs[0]) for operator in graph.of(Op.CONCATENATION))]
    assert not equalise(graph, ranges)
    assert graph_of(graph.pack()).outputs == graph.outputs


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_narrow_part_of_a_concatenation_keeps_its_values(runtime):
    model = models.randomised(unequal_parts(), amount=0.05)
    inputs = models.inputs_for(model, 128)
    content = quantized(model, inputs, "int8")
    shown = [x[:32] for x in inputs]
    assert error(run(content, shown, runtime), outputs_of(model, shown)) < 0.024  # 0.019; 0.029 without


def test_ops_without_an_integer_form_are_reported():
    from keras_lstm_custom.export.convert import convert
    from keras_lstm_custom.export.model.prepare import prepare

    model = models.randomised(models.normalised())
    file = convert(prepare(model), "int8", models.inputs_for(model, ROWS))
    assert any("RSQRT" in note and "float" in note for note in file.notes)


# Smaller weights beside float values


def wide():
    return keras.Sequential(
        [
            keras.Input((20, 12)),
            layers.Conv1D(24, 3),
            layers.LSTM(32, return_sequences=True),
            layers.LSTM(24),
            layers.Dense(8),
        ]
    )


@pytest.mark.parametrize(("how", "accepted", "smaller"), [("float16", 2e-3, 1.6), ("dynamic", 0.04, 2.2)])
def test_smaller_weights(how, accepted, smaller):
    from tests.export.files import op_counts

    model = models.randomised(wide(), amount=0.05)
    inputs = models.inputs_for(model, 8)
    content, whole = (quantized(model, inputs, q) for q in (how, None))
    assert len(whole) / len(content) > smaller
    assert op_counts(content)["UNIDIRECTIONAL_SEQUENCE_LSTM"] == 2
    for runtime in (LITERT, LITERT_PLAIN):
        assert error(run(content, inputs, runtime), outputs_of(model, inputs)) < accepted
