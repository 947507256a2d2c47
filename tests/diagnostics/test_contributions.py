"""`memory_contributions`: sums, and values against the oracle's cell state with one step's entry taken out."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_lstm_custom import LSTM, VanillaRNN, memory_contributions, trace
from keras_lstm_custom.errors import ArgumentError
from tests.oracles import numpy_cells

BATCH, STEPS, FEATURES, UNITS = 3, 6, 2, 4


@pytest.fixture
def x(rng):
    x = rng.normal(size=(BATCH, STEPS, FEATURES)).astype("float32")
    x[1, 4:] = x[2, 0] = x[2, 3] = 0
    return x


def randomised(model, rng):
    """Give every weight a random value, so that no bias is zero and no gate like another."""
    model.set_weights([rng.normal(scale=0.7, size=w.shape) for w in model.get_weights()])
    return model


def assert_sums(parts, steps=None):
    """The parts of c and of h add up, within rounding of float32."""
    np.testing.assert_allclose(parts.values.sum(1) + parts.initial, parts.c, rtol=2e-6, atol=1e-6)
    np.testing.assert_allclose(parts.hidden.sum(1) + parts.initial * parts.slope, parts.h, rtol=2e-5, atol=1e-6)
    if parts.mask is not None:
        assert (parts.values[~parts.mask] == 0).all()


@pytest.mark.parametrize("source", [LSTM, layers.LSTM], ids=["ours", "keras"])
@pytest.mark.parametrize("go_backwards", [False, True])
@pytest.mark.parametrize("step", [-1, 3])
def test_agrees_with_the_oracle(source, go_backwards, step, rng, x):
    """In float64: with the gates as they were, c without what one step added differs by what that step contributes."""
    states = [rng.normal(size=(BATCH, UNITS)).astype("float32") for _ in range(2)]
    sequences, mask_input = keras.Input((STEPS, FEATURES)), keras.Input((STEPS,), dtype="bool")
    state_inputs = [keras.Input((UNITS,)) for _ in states]
    layer = source(UNITS, go_backwards=go_backwards, name="memory")
    output = layer(sequences, initial_state=state_inputs, mask=mask_input)
    model = randomised(keras.Model([sequences, mask_input, *state_inputs], output), rng)
    mask = (x != 0).any(-1)
    order = slice(None, None, -1 if go_backwards else 1)
    weights = [w.astype(np.float64) for w in model.get_weights()]
    found = numpy_cells.lstm(x[:, order].astype(float), *weights, *states, mask=mask[:, order])

    def final(entering, c):
        for t in range(step % STEPS + 1):
            read = mask[:, order][:, t, None]
            c = np.where(read, np.nan_to_num(found["f"][:, t]) * c + entering[:, t], c)
        return c

    entering = np.where(mask[:, order, None], found["i"] * found["g"], 0)
    expected = np.zeros((BATCH, STEPS, UNITS))
    for t in range(STEPS):
        without = entering.copy()
        without[:, t] = 0
        expected[:, t] = final(entering, states[1]) - final(without, states[1])
    parts = memory_contributions(model, [x, mask, *states], step=step)["memory"]
    np.testing.assert_allclose(parts.values, expected[:, order], rtol=2e-5, atol=2e-6)
    np.testing.assert_allclose(parts.initial, final(0 * entering, states[1]), rtol=2e-5, atol=2e-6)
    np.testing.assert_allclose(parts.c, found["c"][:, step], rtol=2e-5, atol=2e-6)
    assert_sums(parts)
    assert np.abs(expected).max() > 0.1


def test_every_lstm_of_a_model_and_only_those(rng, x):
    inner = keras.Sequential(
        [keras.Input((None, FEATURES)), layers.Masking(), LSTM(3, return_sequences=True)], name="in"
    )
    sequences = keras.Input((STEPS, FEATURES))
    h = layers.SimpleRNN(3, return_sequences=True, name="plain")(inner(sequences))
    h = layers.Bidirectional(layers.LSTM(UNITS, return_sequences=True, name="a"), name="both")(h)
    model = randomised(keras.Model(sequences, layers.LSTM(2, name="last")(h)), rng)
    parts = memory_contributions(model, x)
    assert list(parts) == [name for name, t in trace(model, x).items() if t.kind == "lstm"]
    assert len(parts) == 4
    for each in parts.values():
        assert_sums(each)
    assert list(memory_contributions(model, x, "last")) == ["last"]
    np.testing.assert_array_equal(np.asarray(parts["last"]), parts["last"].values)


def test_closed_forget_gates_do_no_harm(rng, x):
    layer = LSTM(UNITS, recurrent_activation="hard_sigmoid", name="lstm")
    model = randomised(keras.Sequential([keras.Input((STEPS, FEATURES)), layer]), rng)
    kernel, recurrent_kernel, bias = layer.get_weights()
    bias[UNITS : 2 * UNITS] = [-99, -99, 99, 0]  # shut, shut, open, between
    layer.set_weights([kernel, recurrent_kernel, bias])
    parts = memory_contributions(model, x)["lstm"]
    assert_sums(parts)
    assert (parts.values[:, :-1, :2] == 0).all(), "a shut gate leaves what the last step put there, nothing else"
    np.testing.assert_allclose(parts.values[:, :, 2], trace(model, x)["lstm"].entered[:, :, 2], rtol=1e-6)


def test_parts_that_cancel_add_up_all_the_same(rng):
    layer = LSTM(1, name="lstm", use_bias=False)
    model = keras.Sequential([keras.Input((2, 1)), layer])
    kernel, recurrent_kernel = np.zeros((1, 4)), np.zeros((1, 4))
    kernel[0, 2] = 1  # g = tanh(x), all gates 1/2
    layer.set_weights([kernel, recurrent_kernel])
    second = -np.tanh(1.0) / 2
    x = np.array([[[1.0], [np.arctanh(second)]]])  # f i g_1 + i g_2 = 0
    parts = memory_contributions(model, x)["lstm"]
    np.testing.assert_allclose(parts.c, 0, atol=1e-7)
    np.testing.assert_allclose(parts.values[0, :, 0], [np.tanh(1) / 4, -np.tanh(1) / 4], rtol=1e-5)
    np.testing.assert_allclose(parts.hidden[0, :, 0], parts.values[0, :, 0] / 2, rtol=1e-5)  # o = 1/2, tanh'(0) = 1
    assert_sums(parts)


def readouts():
    sequences = keras.Input((STEPS, FEATURES))
    masked = layers.Masking()(sequences)
    h = layers.Bidirectional(layers.LSTM(UNITS), name="both")(LSTM(3, return_sequences=True)(masked))
    return {
        "linear": keras.Model(sequences, layers.Dense(2)(h)),
        "softmax": keras.Model(sequences, layers.Dense(2, activation="softmax")(layers.Dense(5, activation="tanh")(h))),
    }


@pytest.mark.parametrize("head", ["linear", "softmax"])
def test_parts_of_the_prediction_add_up(head, rng, x):
    model = randomised(readouts()[head], rng)
    parts = memory_contributions(model, x, target=1, batch_size=2)
    assert [name.split("/")[0] for name in parts] == ["both", "both"], "only what gives out its last state"
    output = ops.convert_to_numpy(model(x, training=False))[:, 1]
    readout = next(iter(parts.values())).readout
    np.testing.assert_allclose(readout.prediction, output, rtol=1e-5)
    total = sum(each.prediction.sum((1, 2)) for each in parts.values())
    np.testing.assert_allclose(total + readout.rest, output, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(readout.gap, 0, atol=1e-5)
    forward, backward = parts.values()
    np.testing.assert_allclose(forward.by_step, forward.prediction.sum(2))
    if head == "linear":
        kernel, bias = model.layers[-1].get_weights()
        for each, rows in ((forward, kernel[:UNITS, 1]), (backward, kernel[UNITS:, 1])):
            np.testing.assert_allclose(each.prediction, each.hidden * rows, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(readout.rest, bias[1], rtol=1e-5)


def test_tidy_table(rng, x):
    model = randomised(keras.Sequential([keras.Input((STEPS, FEATURES)), LSTM(UNITS, name="lstm")]), rng)
    parts = memory_contributions(model, x)["lstm"]
    frame = parts.to_frame()
    assert list(frame.columns) == ["layer", "sequence", "step", "unit", "contribution"]
    sums = frame.groupby(["sequence", "unit"])["contribution"].sum().to_numpy().reshape(BATCH, UNITS)
    np.testing.assert_allclose(sums, parts.c, atol=1e-6)


def test_bad_input(rng, x):
    plain = keras.Sequential([keras.Input((STEPS, FEATURES)), VanillaRNN(2, name="plain"), layers.Dense(1)])
    with pytest.raises(ArgumentError, match=r"(?s)no LSTM layer.*'plain' \(vanilla_rnn\)"):
        memory_contributions(plain, x)
    with pytest.raises(ArgumentError, match="no recurrent layer"):
        memory_contributions(keras.Sequential([keras.Input((STEPS, FEATURES)), layers.Dense(1)]), x)
    every = keras.Sequential([keras.Input((STEPS, FEATURES)), LSTM(2, return_sequences=True, name="lstm")])
    with pytest.raises(ArgumentError, match=r"(?s)-6 to 5.*step=6"):
        memory_contributions(every, x, step=6)
    with pytest.raises(ArgumentError, match=r"(?s)return_sequences=False.*'lstm'"):
        memory_contributions(every, x, target=(0, 0))
    with pytest.raises(ArgumentError, match=r"(?s)'lstm'.*'other'"):
        memory_contributions(every, x, "other")
    with pytest.raises(ArgumentError, match="a target"):
        _ = memory_contributions(every, x)["lstm"].prediction
    last = keras.Sequential([keras.Input((STEPS, FEATURES)), LSTM(2, name="lstm")])
    with pytest.raises(ArgumentError, match="no value 2: that axis has 2"):
        memory_contributions(last, x, target=2)


def test_options_after_which_c_or_h_is_another_sum_are_refused(rng, x):
    fine = {"peepholes": True, "coupled": True, "layer_normalization": "gate"}
    model = randomised(keras.Sequential([keras.Input((STEPS, FEATURES)), LSTM(UNITS, name="lstm", **fine)]), rng)
    assert_sums(memory_contributions(model, x)["lstm"])
    for option, value in {"cell_clip": 0.1, "cell_zoneout": 0.1, "zoneout": 0.1, "projection": 2}.items():
        model = keras.Sequential([keras.Input((STEPS, FEATURES)), LSTM(UNITS, name="lstm", **{option: value})])
        with pytest.raises(ArgumentError, match=rf"(?s)not the sums.*own {option}"):
            memory_contributions(model, x)
    model = keras.Sequential([keras.Input((STEPS, FEATURES)), LSTM(UNITS, name="lstm", layer_normalization="joint")])
    with pytest.raises(ArgumentError, match="layer_normalization"):
        memory_contributions(model, x)
