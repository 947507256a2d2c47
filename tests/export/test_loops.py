"""Cells that the fused op does not compute: loops over the cell's own step, right on both runtimes."""

import keras
import numpy as np
import pytest

import keras_lstm_custom as klc
from keras_lstm_custom import export
from keras_lstm_custom.equations import project
from keras_lstm_custom.structures import RNNState
from tests.covering import covering
from tests.export import models
from tests.export.interpreters import LITERT, MICRO, RUNTIMES, run
from tests.export.test_quantized import ACCEPTED, ROWS, error, graph_of, outputs_of, quantized

pytestmark = pytest.mark.tensorflow

layers = keras.layers
T, F = models.T, models.F


@keras.saving.register_keras_serializable(package="tests.export")
class GatedStep(klc.RecurrentCell):
    """A cell of one's own: h = (1 - f) h + f tanh(W_n x + f (U_n h))."""

    gates = ("f", "n")
    step_type = RNNState

    def step(self, z_x, state, recurrent_dropout=None):
        f, n = keras.ops.split(z_x, 2, axis=-1)
        u_f, u_n = keras.ops.split(project(state.h, self.tensor("recurrent_kernel"), mask=recurrent_dropout), 2, -1)
        f = keras.ops.sigmoid(f + u_f)
        return self.step_type((1 - f) * state.h + f * keras.ops.tanh(n + f * u_n))


@keras.saving.register_keras_serializable(package="tests.export")
class Gated(klc.Recurrent):
    cell_class = GatedStep


LAYERS = {
    "keras GRU": layers.GRU,
    "GRU": klc.GRU,
    "SLSTM": lambda units, **options: klc.SLSTM(units, heads=2, **options),
    "joint": lambda units, **options: klc.LSTM(units, layer_normalization="joint", **options),
    "zoneout": lambda units, **options: klc.LSTM(units, zoneout=0.2, cell_zoneout=0.1, peepholes=True, **options),
    "own": Gated,
    "relu": lambda units, **options: layers.SimpleRNN(units, activation="relu", **options),
    "cells": lambda units, **options: layers.RNN([klc.GRUCell(3), layers.GRUCell(units)], **options),
}
ROWS_OF = covering({"layer": list(LAYERS), "return_sequences": [False, True], "go_backwards": [False, True]})


def convert(model, **options):
    from keras_lstm_custom.export.model.prepare import prepare
    from tests.export.files import float_file

    return float_file(prepare(model, **options))


def check(model, runtimes=RUNTIMES, **options):
    """Compare a file's outputs with the model's, row after row without a reset; return the file."""
    inputs = models.inputs_for(model, rows=3)
    content = convert(models.randomised(model), **options)
    for runtime in runtimes:
        for got, expected in zip(run(content, inputs, runtime), outputs_of(model, inputs), strict=True):
            np.testing.assert_allclose(got, expected, rtol=0, atol=3e-6, err_msg=runtime)
    return content


@pytest.mark.parametrize("layer", LAYERS)
def test_every_cell(layer):
    x = keras.Input((T, F))
    rows = [{k: v for k, v in row.items() if k != "layer"} for row in ROWS_OF if row["layer"] == layer]
    model = keras.Model(x, [LAYERS[layer](4, **options)(x) for options in rows])
    loops = len(rows) * (2 if layer == "cells" else 1)  # each with a graph for its condition and one for its body
    assert len(graph_of(check(model)).parts) == 1 + 2 * loops


def test_both_forms_of_the_gru_in_both_directions():
    body = [
        layers.Bidirectional(layers.GRU(4, return_sequences=True, reset_after=False)),
        layers.Bidirectional(klc.GRU(3, use_bias=False), merge_mode="sum"),
        layers.Dense(2),
    ]
    check(keras.Sequential([keras.Input((T, F)), *body]))


def test_states_go_in_and_come_out():
    x, h = keras.Input((T, F), name="x"), keras.Input((4,), name="h")
    gru = layers.GRU(4, return_sequences=True, return_state=True)(x, initial_state=layers.Dense(4)(h))
    check(keras.Model([x, h], [*gru, *klc.GRU(3, return_state=True)(gru[0])]))


def test_one_step_and_an_open_length():
    check(keras.Sequential([keras.Input((1, F)), layers.GRU(4, return_sequences=True)]))
    check(keras.Sequential([keras.Input((None, F)), layers.GRU(4)]), timesteps=T)


def test_stacked_behind_other_layers_and_between_fused_ones():
    body = [layers.Conv1D(4, 3), layers.LSTM(4, return_sequences=True), layers.GRU(3, return_sequences=True)]
    content = check(keras.Sequential([keras.Input((T, F)), *body, layers.TimeDistributed(layers.Dense(2))]))
    assert len(graph_of(content).parts) == 3


def test_a_loop_is_small():
    """An unrolled file grows by the whole cell with each step, a loop by one row of zeros."""
    sizes = {}
    for steps in (5, 25):
        keras.utils.clear_session()  # names that count up are longer, and stand in the file
        gru = layers.GRU(6, return_sequences=True, name="gru")
        model = models.randomised(keras.Sequential([keras.Input((steps, F)), gru], name="net"))
        sizes[steps] = [len(convert(model, fused=fused)) for fused in (True, False)]
    assert sizes[25][0] - sizes[5][0] == 20 * 6 * 4
    assert sizes[25][1] > 4 * sizes[25][0]


# Integers


@pytest.mark.parametrize(("layer", "scheme"), [("keras GRU", "int8"), ("GRU", "int16x8"), ("own", "int8")])
def test_integers(layer, scheme):
    options = {"reset_after": False} if layer == "GRU" else {}
    sequences = LAYERS[layer](6, return_sequences=True, **options)
    body = [sequences, layers.Bidirectional(layers.GRU(4)), layers.Dense(3)]
    model = models.randomised(keras.Sequential([keras.Input((T, F)), *body]))
    inputs = models.inputs_for(model, ROWS)
    shown = [x[:16] for x in inputs]
    content = quantized(model, inputs, scheme)
    for runtime in (LITERT, MICRO):  # LiteRT takes int16 in loops
        assert error(run(content, shown, runtime), outputs_of(model, shown)) < ACCEPTED[scheme]


def test_states_are_carried_in_16_bits_and_sequences_in_8():
    from keras_lstm_custom.export.file import loop
    from keras_lstm_custom.export.file.flatbuffer import NUMPY_TYPES

    model = models.randomised(keras.Sequential([keras.Input((T, F)), layers.GRU(6, return_sequences=True)]))
    graph = graph_of(quantized(model, models.inputs_for(model, ROWS), "int8"))
    (operator,) = loop.loops(graph)
    for part, tensors in [
        (graph, operator.inputs),
        (graph, operator.outputs),
        (graph.part(1), graph.part(1).inputs),
        (graph.part(2), graph.part(2).inputs),
    ]:
        found = [NUMPY_TYPES[part.tensors[index].type] for index in tensors]
        assert found == [np.int32, np.int8, np.int8, np.int16]  # position, read, written, h


def test_states_of_integers_go_in_and_come_out():
    x, h = keras.Input((T, F), name="x"), keras.Input((4,), name="h")
    model = models.randomised(keras.Model([x, h], list(layers.GRU(4, return_state=True)(x, initial_state=h))))
    inputs = models.inputs_for(model, ROWS)
    content = quantized(model, inputs, "int8")
    for runtime in RUNTIMES:
        assert error(run(content, inputs, runtime), outputs_of(model, inputs)) < ACCEPTED["int8"]


def test_a_cell_with_an_infinite_start_computes_in_float():
    """The sLSTM's maximum starts at -inf, which no integer is."""
    from keras_lstm_custom.export.convert import convert as converted
    from keras_lstm_custom.export.model.prepare import prepare

    model = models.randomised(keras.Sequential([keras.Input((T, F)), klc.SLSTM(4), layers.Dense(2)]))
    inputs = models.inputs_for(model, ROWS)
    _, content, notes = converted(prepare(model), "int8", inputs)
    assert any("float" in note and "WHILE" in note for note in notes)
    for runtime in RUNTIMES:
        assert error(run(content, inputs, runtime), outputs_of(model, inputs)) < ACCEPTED["int8"]


@pytest.mark.parametrize("quantize", ["float16", "dynamic"])
def test_smaller_weights(quantize, tmp_path):
    model = models.randomised(keras.Sequential([keras.Input((T, F)), layers.GRU(24), layers.Dense(2)]))
    report = export.tflite(model, tmp_path / "a.tflite", quantize)
    plain = export.tflite(model, tmp_path / "b.tflite")
    assert plain.bytes - report.bytes > 3000
