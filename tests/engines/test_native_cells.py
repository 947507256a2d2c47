"""The native engine's cells beside the LSTM and the vanilla RNN: each against the reference engine and the oracle."""

from __future__ import annotations

import itertools

import keras
import numpy as np
import pytest
from keras import ops

import keras_lstm_custom as klc
from keras_lstm_custom.engines import ENGINES
from keras_lstm_custom.engines.native import library
from keras_lstm_custom.equations.lstm_options import LSTMOptions
from tests.covering import covering
from tests.engines.harness import MASKS, NATIVE, Case, arrays, assert_same, layer_of, run
from tests.engines.test_higher_derivatives import penalty_gradients
from tests.gradients import outputs_and_gradients
from tests.layers.test_lstm_options import PARTS
from tests.oracles.numpy_gru import gru
from tests.oracles.numpy_lstm_options import lstm_with

pytestmark = [
    pytest.mark.tensorflow,
    pytest.mark.skipif(not library.LIBRARY.exists(), reason=library.REMEDY),
]
KIND = pytest.mark.parametrize("kind", NATIVE)
TOLERANCE = 1e-5  #: of float32 sums in another order; a wrong term is of order 1
X = np.random.default_rng(3).normal(size=(6, 7, 3)).astype("float32")

AXES = {
    "kind": list(NATIVE),
    "mask": list(MASKS),
    "go_backwards": [False, True],
    "dropout": ["none", "x", "h", "one", "each"],
    "return_sequences": [True, False],
    "use_bias": [True, False],
    "zero_state": [False, True],
    "training": [True, False],
    "checkpoint_every": [None, 4],
    "units": [5, 17],  # neither fills its last vector
}


def matrix():
    for row in covering(AXES):
        dropout = row.pop("dropout")
        each = len(layer_of(Case(row["kind"])).cell.gates)
        of_x = {"none": 0, "h": 0, "each": each}.get(dropout, 1)
        of_h = {"none": 0, "x": 0, "each": each}.get(dropout, 1)
        yield Case(**row, inputs_dropout=of_x, recurrent_dropout=of_h)


@pytest.mark.parametrize("case", list(matrix()), ids=str)
def test_agrees_with_the_reference(case):
    data = arrays(case)
    assert_same(run("native", case, data), run("reference", case, data), TOLERANCE)


@KIND
@pytest.mark.parametrize("mask", ["none", "scattered"])
def test_equals_the_oracle(kind, mask):
    case = Case(kind, mask)
    data = arrays(case)
    layer = layer_of(case)
    names = [weight.name for weight in layer.weights]
    if kind == "gru":
        truth = gru(data["x"], *data["weights"], *data["state"], mask=data["mask"])
    else:
        options = layer.cell.options._asdict()
        weights = dict(zip(names, data["weights"], strict=True))
        truth = lstm_with(data["x"], weights, *data["state"], mask=data["mask"], **options)
    got = run("native", case, data)
    np.testing.assert_allclose(got["outputs"], truth["y"], atol=2e-6)
    for state in layer.cell.state_type._fields:
        np.testing.assert_allclose(got[f"final {state}"], truth[state][:, -1], atol=4e-6)


@KIND
@pytest.mark.parametrize(
    "sizes",
    [
        {"batch": 13, "units": 70, "features": 33},
        {"batch": 3, "units": 290, "features": 90},
        {"batch": 2, "units": 81, "timesteps": 2},
    ],
    ids=["rows are shared out", "units are shared out", "weights are read where they lie"],
)
def test_other_ways_of_other_sizes(kind, sizes):
    dropout = len(layer_of(Case(kind)).cell.gates)
    with_dropout = Case(kind, "scattered", **sizes, inputs_dropout=dropout, recurrent_dropout=dropout)
    for case in (with_dropout, Case(kind, **sizes)):
        assert_same(run("native", case), run("reference", case), TOLERANCE)


#: The LSTM's options that native knows, alone and in pairs.
KNOWN = [name for name in PARTS if "norm" not in name and "projection" not in name]
PAIRS = [*itertools.combinations(KNOWN, 1), *itertools.combinations(KNOWN, 2)]


@pytest.mark.parametrize("names", PAIRS, ids="+".join)
def test_what_is_drawn_in_training_is_what_the_reference_draws(names):
    """Every option and pair, with a mask, backwards and both kinds of dropout: from one seed the same numbers."""
    options = {k: v for name in names for k, v in PARTS[name].items()}
    mask = np.random.default_rng(0).integers(0, 2, X.shape[:2]).astype(bool)
    results = []
    for engine in ("native", "reference"):
        layer = klc.LSTM(5, **options, dropout=0.2, recurrent_dropout=0.2, go_backwards=True, seed=3, engine=engine)
        layer.build(X.shape)
        layer.set_weights([np.cos(np.arange(w.size)).reshape(w.shape) for w in layer.get_weights()])
        outputs, gradients = outputs_and_gradients(layer, X, mask=mask, training=True)
        results.append([*outputs, *gradients])
        assert layer.last_engine == engine
    for got, expected in zip(*results, strict=True):
        np.testing.assert_allclose(got, expected, rtol=0, atol=TOLERANCE * max(1, np.abs(expected).max()))


@KIND
def test_second_derivatives(kind):
    """Computed by the reference engine, from the native gradients."""
    case = Case(kind, "left padded")
    got, expected = (penalty_gradients(engine, case) for engine in ("native", "reference"))
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=2e-4 * max(1, np.abs(b).max()))


@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
@KIND
def test_graphs(kind, dynamic):
    import tensorflow as tf

    case = Case(kind, "scattered", recurrent_dropout=1)
    data = arrays(case)

    def wrap(function):
        if not dynamic:
            return tf.function(function, autograph=False)
        x, mask = tf.TensorSpec((None, None, case.features)), tf.TensorSpec((None, None), tf.bool)
        states = [tf.TensorSpec((None, case.units)) for _ in data["state"]]
        traced = tf.function(function, autograph=False).get_concrete_function(x, states, mask)
        return lambda *arguments: traced(*tf.nest.flatten(arguments))

    assert_same(run("native", case, data, wrap=wrap), run("reference", case, data), TOLERANCE)


@pytest.mark.parametrize("kind", ["gru", "all options"])
def test_fit_learns_the_same_weights_and_auto_takes_it(kind):
    layer_class, options = NATIVE[kind]
    trained, engines = [], []
    for engine in ("auto", "reference"):
        keras.utils.set_random_seed(1)
        layer = layer_class(4, engine=engine, **options)
        model = keras.Sequential([keras.Input((7, 3)), keras.layers.Bidirectional(layer), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
        model.fit(X, X[:, 0, :1], epochs=2, batch_size=4, shuffle=False, verbose=0)
        trained.append(model.get_weights())
        engines.append(model.layers[0].forward_layer.last_engine)
    for ours, reference in zip(*trained, strict=True):
        np.testing.assert_allclose(ours, reference, atol=1e-5)
    assert engines == ["native", "reference"]


@KIND
def test_it_really_ran(kind):
    """By its name, and by TensorFlow's: the graph holds its operation, for a cell of another name each."""
    import tensorflow as tf

    layer_class, options = NATIVE[kind]
    layer = layer_class(4, engine="native", **options)
    layer(X)
    assert layer.last_engine == "native"
    graph = tf.function(lambda x: layer(x)).get_concrete_function(tf.constant(X)).graph
    (operation,) = [o for o in graph.get_operations() if o.type == "KerasLstmCustom>Forward"]
    cell = "gru" if kind == "gru" else "coupled_lstm" if options.get("coupled") else "lstm_options"
    assert operation.get_attr("cell").decode() == cell


@pytest.mark.parametrize("dtype", ["mixed_float16", "bfloat16"])
@pytest.mark.parametrize("kind", ["gru", "all options"])
def test_half_precision_is_widened_inside(dtype, kind):
    layer_class, options = NATIVE[kind]
    layer = layer_class(5, dtype=dtype, recurrent_initializer="zeros", engine="native", **options)
    assert layer(X, training=True).dtype.name == dtype.removeprefix("mixed_")
    assert np.isfinite(ops.convert_to_numpy(layer(X)).astype("float32")).all()


@pytest.mark.parametrize(
    ("layer_class", "options", "why"),
    [
        (klc.GRU, {"reset_after": False}, "without reset_after=False"),
        (klc.GRU, {"recurrent_activation": "hard_sigmoid"}, "the gradient of recurrent_activation='sigmoid' only"),
        (klc.LSTM, {"projection": 2, "peepholes": True}, "without projection$"),
        (klc.LSTM, {"layer_normalization": "joint"}, "without layer_normalization"),
        (klc.LSTM, {"coupled": True, "activation": "relu"}, "the gradient of activation='tanh' only"),
        (klc.SLSTM, {}, "has lstm_step, gru_step, rnn_step written out, and SLSTMCell computes another step"),
    ],
)
def test_what_it_does_not_know_it_says_and_another_serves(layer_class, options, why):
    explanation = layer_class(4, **options).explain_engine(X.shape, training=True)
    assert explanation.chosen == "derived"
    with pytest.raises(klc.errors.EngineError, match=why.removesuffix("$")):
        layer_class(4, **options, engine="native")(X)
    assert explanation.answers["native"].reason.endswith(why.removesuffix("$")) or not why.endswith("$")


@pytest.mark.parametrize("kind", ["gru", "all options"])
def test_a_changed_step_is_another_function(kind):
    layer_class, options = NATIVE[kind]
    cell_class = layer_class.cell_class
    own = type("Own", (cell_class,), {"step": lambda self, *a, **more: cell_class.step(self, *a, **more)})
    answers = type("OwnLayer", (layer_class,), {"cell_class": own})(4, **options).explain_engine(X.shape).answers
    assert not answers["native"].ok
    assert "its own step" in answers["native"].reason


def test_there_is_a_case_for_every_option_that_it_knows():
    from keras_lstm_custom.engines.native.rows import ROWS
    from keras_lstm_custom.equations import lstm_step

    tested = {option for _, options in NATIVE.values() for option in options}
    assert ROWS[lstm_step].features <= tested
    assert ROWS[lstm_step].features < set(LSTMOptions._fields)
    assert set(ENGINES) > {"native"}
