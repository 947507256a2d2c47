"""Which layer of the model a runtime's message speaks of."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_lstm_custom.export.file.flatbuffer import Op
from keras_lstm_custom.export.file.graph import Graph
from keras_lstm_custom.export.file.origin import mentioned

#: As they come from tflite-micro, from its earlier versions (with a letter too many in the format), and from LiteRT.
MESSAGES = [
    "Node RELU (number {}) failed to prepare with status 1",
    "Node RELU (number {}f) failed to invoke with status 1",
    "Node number {} (RELU) failed to prepare.",
]


@pytest.fixture(scope="module")
def chain():
    """Seventeen RELUs, each of a layer of its own, as a model and as a graph."""
    model = keras.Sequential([keras.Input((3,)), *(layers.ReLU(name=f"relu_of_{k}") for k in range(17))])
    graph = Graph()
    x = graph.tensor("x", (1, 3), np.float32)
    for layer in model.layers:
        y = graph.tensor(f"sequential_1/{layer.name}_1/Relu", (1, 3), np.float32)
        graph.operators.append(graph.operator(Op.RELU, [x], [y]))
        x = y
    return model, graph


@pytest.mark.parametrize("message", MESSAGES)
@pytest.mark.parametrize("number", [3, 10])
def test_the_number_of_an_op_names_one_layer(chain, message, number):
    """Number 10 is not 16, which it would be in sixteens."""
    model, graph = chain
    assert mentioned(graph, message.format(number), model) == f"RELU is of the layer 'relu_of_{number}' (ReLU)"


def test_without_a_number_all_layers_with_the_op_are_named(chain):
    model, graph = chain
    told = mentioned(graph, "Didn't find op for builtin opcode 'RELU'", model)
    assert told.startswith("RELU is of the layer 'relu_of_0' (ReLU), the layer 'relu_of_1' (ReLU)")
    assert told.count("layer") == 17
