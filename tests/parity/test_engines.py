"""The parity matrix: every fast engine against the reference engine, outputs and all gradients."""

from __future__ import annotations

import itertools

import keras
import pytest

from keras_lstm_custom.engines import ENGINES
from tests.engines.harness import BATCH, FAST, LAYERS, MASKS, Case, arrays, assert_same, layer_of, request_of, run

#: Rounding of one product of a few numbers, over 6 steps: a wrong term is of order 1.
TOLERANCE = {"float64": 1e-12, "float32": 5e-6, "float16": 2e-2, "bfloat16": 1e-1}


def matrix():
    """Kind x mask x direction x dropout, the other options turning with the row, so that all pairs meet."""
    masks = ("none", "all of these") if keras.backend.backend() == "jax" else list(MASKS)[:-1]
    rows = itertools.product(LAYERS, masks, (False, True), ("none", "one", "each"))
    for row, (kind, mask, go_backwards, dropout) in enumerate(rows):
        count = {"none": 0, "one": 1, "each": LAYERS[kind][1]}[dropout]
        yield Case(
            kind,
            mask,
            go_backwards,
            return_sequences=row % 2 == 0,
            zero_output_for_mask=row % 4 >= 2,
            use_bias=row % 5 != 0,
            inputs_dropout=count if row % 7 != 0 else 0,
            recurrent_dropout=count,
            training=dropout != "none",
            batch=len(MASKS[mask]) if mask == "all of these" else BATCH,
        )


def serve(engine, case):
    """Skip a case that the engine says it does not serve: what it refuses is tested where the engine is."""
    data = arrays(case)
    support = ENGINES[engine].supports(request_of(case, layer_of(case, data["weights"]), data))
    if not support.ok:
        pytest.skip(support.reason)
    return run(engine, case, data)


@pytest.mark.parametrize("engine", FAST)
@pytest.mark.parametrize("case", list(matrix()), ids=str)
def test_engine_agrees_with_the_reference(engine, case):
    assert_same(serve(engine, case), run("reference", case), TOLERANCE["float32"])


@pytest.mark.parametrize("engine", FAST)
@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16", "mixed_float16", "mixed_bfloat16"])
def test_dtypes(engine, kind, dtype):
    if dtype == "float64" and keras.backend.backend() != "tensorflow":
        pytest.skip("Keras' loop is not in float64 here; the engines' own tests compare with the oracle")
    case = Case(kind, "scattered", dtype=dtype)
    assert_same(serve(engine, case), run("reference", case), TOLERANCE[dtype.removeprefix("mixed_")])


@pytest.mark.tensorflow
@pytest.mark.parametrize("engine", FAST)
@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("way", ["compiled", "static", "dynamic"])
@pytest.mark.parametrize("masked", [True, False], ids=["mask", "no mask"])
def test_graphs(engine, kind, way, masked):
    """The same numbers inside tf.function: of static and unknown sizes, and compiled as a whole."""
    import tensorflow as tf

    case = Case(kind, "scattered" if masked else "none", recurrent_dropout=LAYERS[kind][1])
    data = arrays(case)
    layer = layer_of(case, data["weights"])
    request = request_of(case, layer, data)
    if not ENGINES[engine].supports(request).ok:
        pytest.skip(ENGINES[engine].supports(request).reason)
    if way == "compiled" and engine == "native":
        pytest.skip("an operation of its own, which XLA does not know")

    def wrap(function):
        if way != "dynamic":
            return tf.function(function, jit_compile=way == "compiled", autograph=False)
        x = tf.TensorSpec((None, None, case.features))
        state = [tf.TensorSpec((None, case.units)) for _ in data["state"]]
        mask = tf.TensorSpec((None, None), tf.bool) if masked else None
        traced = tf.function(function, autograph=False).get_concrete_function(x, state, mask)
        return lambda *arguments: traced(*(a for a in tf.nest.flatten(arguments) if a is not None))

    assert_same(run(engine, case, data, wrap=wrap), run("reference", case, data), TOLERANCE["float32"])
