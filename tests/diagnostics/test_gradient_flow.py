"""`gradient_flow` against finite differences of the NumPy oracle, and against the product of a small RNN's Jacobians.

The oracle starts again after step t from a changed state, so its difference quotient is the total
derivative with respect to that state.
"""

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_lstm_custom import LSTM, VanillaRNN, gradient_flow
from keras_lstm_custom.diagnostics import GradientFlow
from keras_lstm_custom.errors import ArgumentError, InputError
from keras_lstm_custom.symbols import Description, Symbol
from tests.oracles import numpy_cells
from tests.oracles.numpy_cells import finite_difference

BATCH, TIMESTEPS, FEATURES, UNITS = 3, 5, 2, 4
QUOTIENT = {"rtol": 5e-6, "atol": 1e-7}  # central differences with step 1e-5; or float32


@pytest.fixture
def precise():
    """Compute in float64 where Keras can (on JAX and torch its operations round to float32); return the tolerance."""
    if keras.backend.backend() != "tensorflow":
        yield {"rtol": 5e-6, "atol": 1e-7}
        return
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    yield {"rtol": 1e-10, "atol": 1e-14}
    keras.config.set_floatx("float32")


@pytest.fixture
def x(rng):
    return rng.normal(size=(BATCH, TIMESTEPS, FEATURES))


@pytest.fixture
def y(rng):
    return rng.normal(size=(BATCH, UNITS))


def build(layer, rng, mask=False):
    inputs = keras.Input((TIMESTEPS, FEATURES))
    mask_input = keras.Input((TIMESTEPS,), dtype="bool")
    output = layer(inputs, mask=mask_input) if mask else layer(inputs)
    model = keras.Model([inputs, mask_input] if mask else inputs, output)
    model.set_weights([rng.normal(scale=0.6, size=w.shape) for w in model.get_weights()])
    return model


def mean_square(y, h):
    return np.mean((h - y) ** 2)


def weights_of(layer):
    return [ops.convert_to_numpy(w) for w in layer.weights if "seed" not in w.path]


@pytest.mark.parametrize("go_backwards", [False, True])
@pytest.mark.parametrize("source", [LSTM, layers.LSTM], ids=["ours", "keras"])
def test_lstm_agrees_with_finite_differences(source, go_backwards, precise, rng, x, y):
    layer = source(UNITS, go_backwards=go_backwards, name="memory")
    flow = gradient_flow(build(layer, rng), x, y, loss="mse")["memory"]
    weights = weights_of(layer)
    order = slice(None, None, -1 if go_backwards else 1)
    steps = numpy_cells.lstm(x[:, order], *weights)
    expected = {"h": np.zeros((BATCH, TIMESTEPS)), "c": np.zeros((BATCH, TIMESTEPS))}
    for t in range(TIMESTEPS):
        rest = x[:, order][:, t + 1 :]

        def loss_from(h, c, rest=rest):
            end = numpy_cells.lstm(rest, *weights, h, c)["h"][:, -1] if rest.shape[1] else h
            return mean_square(y, end)

        h, c, o = (steps[symbol][:, t] for symbol in "hco")
        by_h = finite_difference(lambda h, c=c: loss_from(h, c), h)
        by_c = finite_difference(lambda c, o=o: loss_from(o * np.tanh(c), c), c)
        expected["h"][:, t] = np.linalg.norm(by_h, axis=-1)
        expected["c"][:, t] = np.linalg.norm(by_c, axis=-1)
    np.testing.assert_allclose(flow.h, expected["h"][:, order], **QUOTIENT)
    np.testing.assert_allclose(flow.c, expected["c"][:, order], **QUOTIENT)
    np.testing.assert_allclose(flow.loss, mean_square(y, steps["h"][:, -1]), **precise)


def jacobian_products(layer, x, y):
    """Return dL/dh_t of a vanilla RNN as the product of its Jacobians: dh_t/dh_{t-1} = diag(1 - h_t^2) U^T."""
    kernel, u, bias = weights_of(layer)
    h = numpy_cells.vanilla_rnn(x, kernel, u, bias)["h"]
    gradient = 2 * (h[:, -1] - y) / y.size
    norms = np.zeros(h.shape[:2])
    for t in reversed(range(h.shape[1])):
        norms[:, t] = np.linalg.norm(gradient, axis=-1)
        jacobians = np.einsum("bk,jk->bkj", 1 - h[:, t] ** 2, u)
        gradient = np.einsum("bk,bkj->bj", gradient, jacobians)
    return norms


@pytest.mark.parametrize("source", [VanillaRNN, layers.SimpleRNN], ids=["ours", "keras"])
def test_vanilla_rnn_agrees_with_the_product_of_its_jacobians(source, precise, rng, x, y):
    layer = source(UNITS, name="memory")
    flow = gradient_flow(build(layer, rng), x, y, loss="mse")["memory"]
    assert flow.c is None
    np.testing.assert_allclose(flow.h, jacobian_products(layer, x, y), **precise)


def test_masked_steps_have_no_gradient_and_are_skipped_on_the_way(precise, rng, x, y):
    mask = np.ones((BATCH, TIMESTEPS), bool)
    mask[0, 1] = mask[1, -1] = False
    layer = VanillaRNN(UNITS, name="memory")
    flow = gradient_flow(build(layer, rng, mask=True), [x, mask], y, loss="mse")["memory"]
    assert np.array_equal(np.isnan(flow.h), ~mask)
    for row in range(BATCH):
        read = mask[row]
        alone = jacobian_products(layer, x[row : row + 1, read], y[row : row + 1]) / BATCH
        np.testing.assert_allclose(flow.h[row, read], alone[0], **precise)


def test_the_compiled_loss_of_several_outputs_is_the_default(precise, rng, x):
    sequences = keras.Input((TIMESTEPS, FEATURES))
    h = layers.Bidirectional(LSTM(UNITS, name="lstm"), name="both")(sequences)
    model = keras.Model(sequences, [layers.Dense(1)(h), layers.Dense(2)(h)])
    model.compile(loss=["mse", "mae"], loss_weights=[1.0, 0.5])
    y = [rng.normal(size=(BATCH, 1)), rng.normal(size=(BATCH, 2))]
    flows = gradient_flow(model, x, y)
    assert sorted(flows) == ["both/backward_lstm", "both/forward_lstm"]

    def by_hand(y, output):
        return ops.mean((y[0] - output[0]) ** 2) + 0.5 * ops.mean(ops.abs(y[1] - output[1]))

    for name, flow in gradient_flow(model, x, y, loss=by_hand).items():
        np.testing.assert_allclose(flows[name].c, flow.c, **precise)
    added = gradient_flow(model, x, y, loss=keras.losses.MeanSquaredError())
    np.testing.assert_allclose(
        added["both/forward_lstm"].loss,
        sum(np.mean((a - ops.convert_to_numpy(b)) ** 2) for a, b in zip(y, model(x), strict=True)),
        rtol=1e-6,
    )


def test_nothing_of_the_model_changes(rng, x, y):
    layer = LSTM(UNITS, stateful=True)
    model = keras.Sequential([keras.Input(batch_shape=x.shape), layer])
    model.compile(optimizer="adam", loss="mse")
    model(x.astype("float32"))
    before = [ops.convert_to_numpy(v) for v in (*model.variables, *layer.states)]
    gradient_flow(model, x.astype("float32"), y.astype("float32"))
    for old, new in zip(before, (*model.variables, *layer.states), strict=True):
        np.testing.assert_array_equal(old, ops.convert_to_numpy(new))


def test_only_the_layers_asked_for(rng, x, y):
    model = keras.Sequential(
        [keras.Input((TIMESTEPS, FEATURES)), LSTM(3, return_sequences=True, name="a"), LSTM(UNITS, name="b")]
    )
    assert list(gradient_flow(model, x, y, loss="mse", layers="b")) == ["b"]


def flow_of(norms, kind="vanilla_rnn", **more):
    symbol = {"lstm": "c", "vanilla_rnn": "h"}[kind]
    norms = np.asarray(norms, float)
    return GradientFlow(name="memory", kind=kind, loss=1.0, **{"h": norms, symbol: norms}, **more)


def test_the_verdict_names_what_happens_with_its_numbers():
    steps = np.arange(11)
    vanishing = flow_of([0.4 ** (10 - steps)] * 3).verdict
    assert vanishing.name == "vanishing"
    np.testing.assert_allclose([vanishing.retained, vanishing.decay, vanishing.steps], [0.4**10, 0.4, 10])
    assert "LSTM" in vanishing.advice[0]
    exploding = flow_of([3.0 ** (10 - steps)], kind="lstm").verdict
    assert (exploding.name, exploding.symbol) == ("exploding", "c")
    assert "clip" in exploding.advice[0]
    healthy = flow_of([0.9 ** (10 - steps)]).verdict
    assert (healthy.name, healthy.advice) == ("healthy", ())
    assert "0.001 to 1000" in str(healthy)
    # The same, for a layer that reads from the end.
    assert flow_of([0.4**steps], go_backwards=True).verdict.name == "vanishing"
    assert flow_of([0.4**steps]).verdict.name == "exploding"
    assert flow_of([[0.0] * 11]).verdict.name == "no gradient"
    assert flow_of([[np.inf] * 11]).verdict.name == "not finite"


def test_the_verdict_skips_masked_steps_and_knows_underflow():
    masked = flow_of([[np.nan, 0.25, np.nan, 0.5, 1.0, np.nan]]).verdict
    np.testing.assert_allclose([masked.retained, masked.decay, masked.steps], [0.25, 0.5, 2])
    under = flow_of([[0.0, 0.0, 1e-30, 1e-15, 1.0]]).verdict
    assert (under.name, under.retained, under.steps) == ("vanishing", 0.0, 4)
    np.testing.assert_allclose(under.decay, 1e-15)


def test_means_and_quantiles_leave_masked_steps_out():
    flow = flow_of([[1.0, np.nan, np.nan], [3.0, 2.0, np.nan]])
    np.testing.assert_array_equal(flow.mean(), [2, 2, np.nan])
    np.testing.assert_array_equal(flow.quantiles([0, 1]), [[1, 2, np.nan], [3, 2, np.nan]])
    frame = flow.to_frame()
    assert list(frame) == ["layer", "sequence", "step", "h"]
    assert len(frame) == 6
    with pytest.raises(ArgumentError, match="no such state"):
        flow.mean("c")


def test_says_what_is_missing(x, y):
    model = keras.Sequential([keras.Input((TIMESTEPS, FEATURES)), LSTM(UNITS)])
    with pytest.raises(ArgumentError, match="not compiled"):
        gradient_flow(model, x, y)
    with pytest.raises(InputError, match=r"3 targets(.|\n)*2 targets"):
        gradient_flow(model, x, y[:2], loss="mse")
    with pytest.raises(InputError, match="The target of"):
        gradient_flow(model, x, np.full_like(y, np.nan), loss="mse")
    with pytest.raises(InputError, match="would have to keep"):
        gradient_flow(model, x, y, loss="mse", max_bytes=1000)


def test_targets_of_another_shape_are_refused_before_keras_broadcasts_them(x):
    model = keras.Sequential([keras.Input((TIMESTEPS, FEATURES)), LSTM(UNITS), keras.layers.Dense(2)])
    one_for_two = np.zeros((len(x), 1))
    with pytest.raises(InputError, match=r"(?s)targets do not fit.*, 2\).*, 1\)"):
        gradient_flow(model, x, one_for_two, loss="mse")
    classes = np.zeros(len(x), dtype="int32")
    assert gradient_flow(model, x, classes, loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))


def test_the_verdict_warns_where_every_step_has_a_gradient_of_its_own(x):
    model = keras.Sequential([keras.Input((TIMESTEPS, FEATURES)), LSTM(UNITS, return_sequences=True), LSTM(UNITS)])
    first, last = gradient_flow(model, x, np.zeros((len(x), UNITS)), loss="mse").values()
    assert "gradient of its own" in str(first.verdict)
    assert "gradient of its own" not in str(last.verdict)


def test_a_second_state_without_a_gradient_is_not_what_the_verdict_speaks_of():
    """A step counter, say: the layer's output counts all the same."""
    h, counter = np.array([[0.25, 0.5, 1.0]]), np.zeros((1, 3))
    flow = GradientFlow(name="own", kind="Own", h=h, more={"t": counter}, loss=1.0, memory="t", keeper="clock")
    assert (flow.verdict.name, flow.verdict.symbol, flow.verdict.retained) == ("healthy", "h", 0.25)
    assert GradientFlow(name="own", kind="Own", h=counter, more={"t": counter}, loss=1.0, memory="t").verdict.name == (
        "no gradient"
    )


def test_the_memory_is_the_state_that_a_gate_keeps():
    states = ("h", "t")
    assert Description("own", "Own", states, {"f": Symbol("gate", "share", keeps="h")}).memory == "h"
    assert Description("own", "Own", states, {"f": Symbol("gate", "share", keeps="h")}).keeper == "f"
    assert Description("own", "Own", states, {"f": Symbol("gate", "share")}).memory == "t"
