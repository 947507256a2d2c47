"""`checkpoint_every`: the same numbers as one run over all steps, on every engine, and memory that is bounded."""

from __future__ import annotations

import itertools
import subprocess
import sys
from dataclasses import replace

import keras
import numpy as np
import pytest

import keras_lstm_custom as klc
from keras_lstm_custom.engines import ENGINES, registry
from tests.covering import covering
from tests.descriptors import LAYERS as ROWS
from tests.descriptors import TIMESTEPS, randomise
from tests.engines.harness import LAYERS, MASKS, Case, arrays, assert_same, layer_of, request_of, run
from tests.gradients import outputs_and_gradients

#: Weights' gradients are summed in another order: rounding only. A wrong term is of order 1.
TOLERANCE = {"float64": 1e-12, "float32": 5e-6, "mixed_bfloat16": 1e-1, "mixed_float16": 2e-2}


def matrix():
    """Kind x mask x direction, the other options turning with the row; 2 divides the 6 steps, 4 does not."""
    for row, (kind, mask, go_backwards) in enumerate(itertools.product(LAYERS, MASKS, (False, True))):
        count = (0, 1, LAYERS[kind][1])[row % 3]
        yield Case(
            kind,
            mask,
            go_backwards,
            return_sequences=row % 4 != 0,
            zero_output_for_mask=row % 5 == 0,
            use_bias=row % 7 != 0,
            inputs_dropout=0 if row % 2 else count,
            recurrent_dropout=count,
            checkpoint_every=(2, 4, 5)[row // 2 % 3],
        )


@pytest.mark.tensorflow
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("case", list(matrix()), ids=str)
def test_gradients_are_the_same(engine, case):
    case = replace(case, dtype="float32" if engine == "native" else "float64")
    data = arrays(case)
    support = ENGINES[engine].supports(request_of(case, layer_of(case, data["weights"]), data))
    if not support.ok:
        pytest.skip(support.reason)
    whole = run("reference", replace(case, checkpoint_every=None), data)
    assert_same(run(engine, case, data), whole, TOLERANCE[case.dtype])


@pytest.mark.tensorflow
@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "mixed_float16"])
def test_half_precision_sums_the_gradients_of_weights_in_full(dtype):
    case = Case(dtype=dtype, checkpoint_every=2)
    assert_same(run("portable", case), run("reference", replace(case, checkpoint_every=None)), TOLERANCE[dtype])


@pytest.mark.tensorflow
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("way", ["static", "dynamic", "compiled"])
@pytest.mark.parametrize("mask", ["none", "scattered"])
def test_graphs(engine, way, mask):
    """Inside tf.function: of static and unknown sizes, and compiled by XLA as a whole."""
    import tensorflow as tf

    case = Case(mask=mask, checkpoint_every=4)
    data = arrays(case)
    support = ENGINES[engine].supports(request_of(case, layer_of(case, data["weights"]), data))
    if not support.ok or (way == "compiled" and engine == "native"):
        pytest.skip(support.reason)

    def wrap(function):
        if way != "dynamic":
            return tf.function(function, jit_compile=way == "compiled", autograph=False)
        x, state = tf.TensorSpec((None, None, case.features)), [tf.TensorSpec((None, case.units))] * 2
        mask = None if data["mask"] is None else tf.TensorSpec((None, None), tf.bool)
        traced = tf.function(function, autograph=False).get_concrete_function(x, state, mask)
        return lambda *arguments: traced(*(a for a in tf.nest.flatten(arguments) if a is not None))

    whole = run("reference", replace(case, checkpoint_every=None), data)
    assert_same(run(engine, case, data, wrap=wrap), whole, TOLERANCE["float32"])


@pytest.mark.parametrize(
    ("row", "go_backwards", "masked", "every"),
    [
        row.values()
        for row in covering({"row": ROWS, "go_backwards": [False, True], "masked": [False, True], "every": [2, 3]})
    ],
    ids=lambda value: getattr(value, "name", str(value)),
)
def test_layers_on_every_backend(row, go_backwards, masked, every, rng):
    """Dropout included: one mask for all segments, the one that is drawn without them."""
    x = rng.normal(size=(3, TIMESTEPS, 2)).astype("float32")
    mask = np.array([[1, 0, 1, 1], [0, 0, 1, 0], [1, 1, 1, 1]], bool) if masked else None
    options = {"go_backwards": go_backwards, "return_sequences": True, "return_state": True}
    options |= {"dropout": 0.4, "recurrent_dropout": 0.4, "seed": 3}
    layers = [row.build(checkpoint_every=steps, **options) for steps in (None, every)]
    states = row.random_states(rng)
    for layer in layers:
        layer.build(x.shape)
        randomise(layer, np.random.default_rng(1))
    whole, cut = (outputs_and_gradients(layer, x, states, mask=mask, training=True) for layer in layers)
    for ours, expected in zip([*cut[0], *cut[1]], [*whole[0], *whole[1]], strict=True):
        np.testing.assert_allclose(ours, expected, atol=TOLERANCE["float32"] * max(1, np.abs(expected).max()))


@pytest.mark.parametrize("jit_compile", ["auto", True])
def test_fit_learns_the_same_weights(jit_compile, rng):
    if jit_compile is True and keras.backend.backend() != "tensorflow":
        pytest.skip("torch.compile of Keras' train step is not what is tested here; on JAX, 'auto' is the same")
    x, y = rng.normal(size=(6, 7, 3)).astype("float32"), rng.normal(size=(6, 1)).astype("float32")
    x[2, 4:] = 0
    trained = []
    for every in (None, 3):
        keras.utils.set_random_seed(1)
        lstm = klc.LSTM(4, return_sequences=True, recurrent_dropout=0.2, seed=2, checkpoint_every=every)
        model = keras.Sequential(
            [
                keras.Input((7, 3)),
                keras.layers.Masking(),
                keras.layers.Bidirectional(lstm),
                klc.VanillaRNN(3, checkpoint_every=every),
                keras.layers.Dense(1),
            ]
        )
        model.compile("sgd", "mse", jit_compile=jit_compile)
        model.fit(x, y, epochs=2, batch_size=4, shuffle=False, verbose=0)  # a last batch of two rows
        trained.append(model.get_weights())
    for cut, whole in zip(*trained, strict=True):
        np.testing.assert_allclose(cut, whole, atol=1e-5)


@pytest.fixture
def seen(monkeypatch):
    """The number of steps of every request that reaches the reference engine."""
    lengths = []
    reference = ENGINES["reference"]

    def spy(request):
        lengths.append(request.sequences.shape[1])
        return reference.run(request)

    monkeypatch.setitem(ENGINES, "reference", replace(reference, run=spy))
    return lengths


@pytest.mark.parametrize(
    ("every", "training", "expected"), [(2, True, {2}), (3, True, {3}), (4, True, {4}), (9, True, {4}), (2, False, {4})]
)
def test_engines_see_segments_in_training_only(seen, every, training, expected, rng):
    x = rng.normal(size=(3, 4, 2)).astype("float32")
    layer = klc.LSTM(5, engine="reference", checkpoint_every=every)
    layer.build(x.shape)
    outputs_and_gradients(layer, x, training=training)
    assert set(seen) == expected


def test_the_explanation_is_about_a_segment():
    layer = klc.LSTM(5, checkpoint_every=4)
    request = registry.checkpoint.segment_of(layer.request(keras.KerasTensor((2, None, 3)), [], training=True))
    assert request.sequences.shape == (2, 4, 3)
    assert request.mask.shape == (2, 4)  # the last segment may have to be filled up
    assert layer.explain_engine((2, None, 3), training=True).chosen is not None


MEMORY = """
import pathlib, sys
import keras, tensorflow as tf
import keras_lstm_custom as klc

def peak():  # not ru_maxrss: a new process begins with the one of the process that started it
    status = pathlib.Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024

def train(steps, every):
    layer = klc.LSTM(128, engine=sys.argv[1], checkpoint_every=every)
    layer.build((None, steps, 8))

    @tf.function(autograph=False)
    def gradient(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(x, training=True) ** 2)
        return tape.gradient(loss, [w.value for w in layer.weights])

    gradient(tf.zeros((16, steps, 8)))

train(64, 32), train(64, None)  # whatever is loaded and compiled once
base = peak()
train(2048, 64)
cut = peak() - base
train(2048, None)
print(cut, peak() - base)
"""


@pytest.mark.tensorflow
@pytest.mark.parametrize("engine", ["native", "portable"])
def test_memory_is_bounded(engine):
    """The gates of 2048 steps, of 16 rows of 128 units in float32, are 5 x 16 MiB at least; those of 64 1/32 of that.

    What is left is the input (twice), the states between segments, and the code that is compiled. The other half of
    the test is that training without segments fails the same bound.
    """
    if not klc.LSTM(4).explain_engine((1, 2, 3)).answers[engine].ok and engine == "native":
        pytest.skip("the native engine is not built")
    done = subprocess.run([sys.executable, "-c", MEMORY, engine], capture_output=True, text=True, check=True)
    cut, whole = map(float, done.stdout.split()[-2:])
    assert cut < 40 < 80 < whole, f"{cut:.0f} MiB in segments, {whole:.0f} MiB without"
