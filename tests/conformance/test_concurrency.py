"""One layer or model called by many threads at once gives each of them, bit for bit, what one thread gets."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import keras
import numpy as np
import pytest

import keras_lstm_custom as klc

THREADS, CALLS = 24, 4
RNG = np.random.default_rng(4)
#: Sequences of several lengths, so that the threads share no work that is laid out for one shape.
INPUTS = [RNG.normal(size=(5, timesteps, 3)).astype("float32") for timesteps in (4, 7, 9)]
LAYERS = pytest.mark.parametrize("layer_class", [klc.LSTM, klc.VanillaRNN])


def at_once(call):
    """Return what `call(x)` gives, for each input, to every thread at every call, all starting together."""
    start = Barrier(THREADS)

    def work(number):
        start.wait()
        return [(n % len(INPUTS), call(INPUTS[n % len(INPUTS)])) for n in range(number, number + CALLS)]

    with ThreadPoolExecutor(THREADS) as pool:
        return [pair for pairs in pool.map(work, range(THREADS)) for pair in pairs]


def assert_bit_for_bit(call):
    alone = [call(x) for x in INPUTS]
    results = at_once(call)
    assert len(results) == THREADS * CALLS
    for number, got in results:
        for a, b in zip(got, alone[number], strict=True):
            np.testing.assert_array_equal(a, b)


def to_numpy(tensors):
    return [keras.ops.convert_to_numpy(t) for t in tensors]


@LAYERS
def test_a_layer(layer_class):
    layer = keras.layers.Bidirectional(layer_class(6, return_sequences=True))
    layer.build(INPUTS[0].shape)
    assert_bit_for_bit(lambda x: to_numpy([layer(x)]))


@pytest.mark.tensorflow
@LAYERS
def test_predict_and_gradients(layer_class):
    """Graphs, and gradients in eager calls and in graphs: forward and backward of several threads share the pool."""
    import tensorflow as tf

    layer = layer_class(6, return_sequences=True)
    model = keras.Sequential([keras.Input((None, 3)), layer, keras.layers.Dense(2)])
    weights = [w.value for w in model.weights]

    def gradients(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(model(x, training=True) ** 2)
        return tape.gradient(loss, weights)

    graph = tf.function(gradients, input_signature=[tf.TensorSpec((None, None, 3))], autograph=False)
    model.predict_on_batch(INPUTS[0])
    for call in (lambda x: [model.predict_on_batch(x)], lambda x: to_numpy(gradients(x)), lambda x: to_numpy(graph(x))):
        assert_bit_for_bit(call)
