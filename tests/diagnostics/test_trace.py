"""`trace` against the NumPy oracle, and against what the model itself gives out."""

from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_lstm_custom import LSTM, LSTMCell, VanillaRNN, trace
from keras_lstm_custom.diagnostics import GateTrace, RNNTrace, Traces, tracing
from keras_lstm_custom.diagnostics.progress import Progress
from keras_lstm_custom.errors import ArgumentError, DataError, InputError
from keras_lstm_custom.models.walk import recurrent_layers
from tests.oracles import numpy_cells

BATCH, TIMESTEPS, FEATURES, UNITS = 3, 6, 2, 4
ORACLES = {"lstm": numpy_cells.lstm, "vanilla_rnn": numpy_cells.vanilla_rnn}
OURS = {"lstm": LSTM, "vanilla_rnn": VanillaRNN}
KERAS = {"lstm": layers.LSTM, "vanilla_rnn": layers.SimpleRNN}
TOLERANCE = {"rtol": 2e-5, "atol": 2e-6}  # float32 against float64 over a few steps


@pytest.fixture
def x(rng):
    return rng.normal(size=(BATCH, TIMESTEPS, FEATURES)).astype("float32")


def randomised(model, rng):
    """Give every weight a random value, so that no bias is zero and no gate like another."""
    model.set_weights([rng.normal(scale=0.7, size=w.shape) for w in model.get_weights()])
    return model


def oracle(layer, x, states=(), mask=None, go_backwards=False):
    """Return the oracle's steps in the order of time."""
    order = slice(None, None, -1 if go_backwards else 1)
    weights = [ops.convert_to_numpy(w) for w in layer.weights if "seed" not in w.path]
    kind = "lstm" if isinstance(layer, (LSTM, layers.LSTM)) else "vanilla_rnn"
    steps = ORACLES[kind](x[:, order], *weights, *states, mask=None if mask is None else mask[:, order])
    return {symbol: values[:, order] for symbol, values in steps.items()}


def assert_agrees(traced, expected):
    for symbol in traced.symbols:
        np.testing.assert_allclose(getattr(traced, symbol), expected[symbol], err_msg=symbol, **TOLERANCE)


@pytest.mark.parametrize("kind", ["lstm", "vanilla_rnn"])
@pytest.mark.parametrize("source", [OURS, KERAS], ids=["ours", "keras"])
@pytest.mark.parametrize(("go_backwards", "unroll"), [(False, False), (True, False), (False, True)])
def test_agrees_with_the_oracle_from_a_given_state_and_under_a_mask(kind, source, go_backwards, unroll, rng, x):
    states = [rng.normal(size=(BATCH, UNITS)).astype("float32") for _ in range(2 if kind == "lstm" else 1)]
    sequences = keras.Input((TIMESTEPS, FEATURES))
    state_inputs = [keras.Input((UNITS,)) for _ in states]
    mask_input = keras.Input((TIMESTEPS,), dtype="bool")  # beside a state, Keras drops the mask of a Masking layer
    layer = source[kind](UNITS, go_backwards=go_backwards, unroll=unroll, return_sequences=True, name="memory")
    output = layer(sequences, initial_state=state_inputs, mask=mask_input)
    model = randomised(keras.Model([sequences, mask_input, *state_inputs], output), rng)
    mask = np.ones((BATCH, TIMESTEPS), bool)
    mask[0, 2:4] = mask[1, 0] = mask[2, -1] = False  # in the middle, at the start, at the end
    traced = trace(model, [x, mask, *states])["memory"]
    assert_agrees(traced, oracle(layer, x, states, mask, go_backwards))
    np.testing.assert_array_equal(traced.mask, mask)
    np.testing.assert_array_equal(traced.x, x)
    np.testing.assert_array_equal(traced.initial_h, states[0])


@pytest.mark.parametrize("kind", ["lstm", "vanilla_rnn"])
def test_h_is_the_layers_output_bit_for_bit(kind, rng, x):
    layer = OURS[kind](UNITS, return_sequences=True, engine="reference")
    model = randomised(keras.Sequential([keras.Input((TIMESTEPS, FEATURES)), layer]), rng)
    output = ops.convert_to_numpy(model(ops.convert_to_tensor(x), training=False))
    assert layer.last_engine == "reference"
    np.testing.assert_array_equal(trace(model, x)[layer.name].h, output)


def test_finds_every_layer_however_deep_and_names_it_by_its_place(rng, x):
    inner = keras.Sequential([keras.Input((None, FEATURES)), layers.LSTM(5, return_sequences=True)], name="encoder")
    shared = LSTM(UNITS, return_sequences=True, name="shared")
    sequences = keras.Input((TIMESTEPS, FEATURES))
    y = inner(sequences)
    y = layers.Bidirectional(layers.SimpleRNN(3, return_sequences=True), name="both")(y)
    y = layers.RNN(
        layers.StackedRNNCells([layers.LSTMCell(2), LSTMCell(7), layers.SimpleRNNCell(UNITS)]),
        return_sequences=True,
        go_backwards=True,
        name="stack",
    )(y)
    y = layers.RNN(layers.LSTMCell(UNITS), return_sequences=True, name="loop")(y)
    model = randomised(keras.Model(sequences, layers.Dense(1)(shared(shared(y)))), rng)
    steps = trace(model, x)
    encoder = inner.layers[0].name
    cells = [f"stack/{cell.name}" for cell in model.get_layer("stack").cell.cells]
    assert list(steps)[1:3] == ["both/forward_simple_rnn", "both/backward_simple_rnn"] or "both/" in list(steps)[1]
    assert [name for name in steps if "both/" not in name] == [
        f"encoder/{encoder}",
        *cells,
        "loop",
        "shared",
        "shared#2",
    ]
    assert [type(step) for step in steps.values()] == [
        GateTrace,
        *[RNNTrace] * 2,
        *[GateTrace] * 2,
        RNNTrace,
        *[GateTrace] * 3,
    ]
    # Each layer was given what the one before it gave out, up to the model's own output.
    np.testing.assert_array_equal(steps["loop"].x, steps[cells[-1]].h[:, ::-1])
    np.testing.assert_array_equal(steps["shared#2"].x, steps["shared"].h)
    weights, bias = model.layers[-1].get_weights()
    expected = ops.convert_to_numpy(model(ops.convert_to_tensor(x), training=False))
    np.testing.assert_allclose(steps["shared#2"].h @ weights + bias, expected, **TOLERANCE)
    assert list(trace(model, x, layers=["both", "shared"])) == [n for n in steps if n.startswith(("both/", "shared"))]


@pytest.mark.parametrize("return_sequences", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_a_stack_of_cells_computes_what_keras_computes(return_sequences, masked, rng, x):
    x[0, 2:4] = x[1, 0] = x[2, -1] = 0
    stack = layers.StackedRNNCells([layers.LSTMCell(5), layers.SimpleRNNCell(UNITS)])
    model = keras.Sequential(
        [
            keras.Input((TIMESTEPS, FEATURES)),
            *([layers.Masking()] if masked else []),
            layers.RNN(stack, return_sequences=return_sequences, go_backwards=True),
            layers.Activation("linear") if return_sequences else layers.RepeatVector(2),
            LSTM(3, name="after"),
        ]
    )
    randomised(model, rng)
    given = trace(model, x)["after"].x
    expected = ops.convert_to_numpy(keras.Sequential(model.layers[:-1])(ops.convert_to_tensor(x)))
    np.testing.assert_allclose(given, expected, **TOLERANCE)


class Subclassed(keras.Model):
    def __init__(self, layer):
        super().__init__()
        self.memory = layer
        self.head = layers.Dense(1)

    def call(self, x):
        return self.head(self.memory(x))


def test_a_subclassed_model_with_our_layers_needs_no_copy(rng, x):
    model = Subclassed(LSTM(UNITS, return_sequences=True, name="memory"))
    model(x)
    assert_agrees(trace(randomised(model, rng), x)["memory"], oracle(model.memory, x))


@keras.saving.register_keras_serializable(package="tests")
class Fold(layers.Layer):
    """Make two short sequences of each long one."""

    def call(self, x):
        return ops.reshape(x, (-1, TIMESTEPS // 2, FEATURES))


def test_a_model_may_fold_an_axis_into_the_batch(x):
    model = small(Fold(), LSTM(UNITS, name="memory"))
    whole, parts = trace(model, x)["memory"], trace(model, x, batch_size=2)["memory"]
    assert whole.h.shape == (2 * BATCH, TIMESTEPS // 2, UNITS)
    np.testing.assert_array_equal(whole.x, x.reshape(-1, TIMESTEPS // 2, FEATURES))
    np.testing.assert_allclose(parts.h, whole.h, **TOLERANCE)


HIDDEN = LSTM(2, return_sequences=True, name="hidden")


class Forgetful(Subclassed):
    """A model that calls a layer which it does not hold."""

    def call(self, x):
        return super().call(HIDDEN(x))


def test_a_layer_that_the_model_does_not_hold_goes_by_its_own_path(x):
    model = Forgetful(LSTM(UNITS, name="memory"))
    HIDDEN.build(x.shape)
    model(x)
    first, second = trace(model, x)
    assert (first.split("/")[0], second) == ("hidden", "memory")


def test_a_stateful_layer_is_read_from_its_state_and_left_in_it(rng, x):
    for source in (LSTM, layers.LSTM):
        layer = source(UNITS, stateful=True, return_sequences=True, name="memory")
        model = randomised(keras.Sequential([keras.Input(batch_shape=(BATCH, TIMESTEPS, FEATURES)), layer]), rng)
        model(x)
        before = [ops.convert_to_numpy(state) for state in layer.states]
        assert np.abs(before).min() > 0
        assert_agrees(trace(model, x)["memory"], oracle(layer, x, before))
        np.testing.assert_array_equal([ops.convert_to_numpy(state) for state in layer.states], before)


@pytest.mark.parametrize("return_sequences", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("go_backwards", [False, True])
def test_chunks_of_batch_and_time_change_nothing(return_sequences, masked, go_backwards, rng, x, monkeypatch):
    x[0, 2:5] = x[1, :4] = x[2, -3:] = 0
    model = keras.Sequential(
        [
            keras.Input((TIMESTEPS, FEATURES)),
            *([layers.Masking()] if masked else []),
            LSTM(UNITS, return_sequences=return_sequences, go_backwards=go_backwards, name="first"),
            *([] if return_sequences else [layers.RepeatVector(TIMESTEPS)]),
            VanillaRNN(3, name="second"),
        ]
    )
    randomised(model, rng)
    whole = trace(model, x)
    monkeypatch.setattr(tracing, "CHUNK", 2 * 2 * UNITS * 10)  # two steps of two sequences
    parts = trace(model, x, batch_size=2)
    for name in whole:
        for symbol in ("x", *whole[name].symbols):
            # Products of fewer rows may be summed in another order: a few roundings of numbers of order 1.
            np.testing.assert_allclose(getattr(parts[name], symbol), getattr(whole[name], symbol), rtol=1e-6, atol=1e-6)


def test_mixed_precision_is_traced_as_it_was_computed(x):
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = keras.Sequential(
        [keras.Input((TIMESTEPS, FEATURES)), LSTM(UNITS, return_sequences=True, engine="reference", name="lstm")]
    )
    traced = trace(model, x)["lstm"]
    assert traced.h.dtype == np.float32
    np.testing.assert_array_equal(traced.h, ops.convert_to_numpy(ops.cast(model(x), "float32")))


def test_what_is_forgotten_kept_and_entered_adds_up(rng, x):
    for go_backwards in (False, True):
        layer = LSTM(UNITS, go_backwards=go_backwards)
        model = randomised(keras.Sequential([keras.Input((TIMESTEPS, FEATURES)), layer]), rng)
        t = trace(model, x)[layer.name]
        np.testing.assert_allclose(t.kept + t.entered, t.c, **TOLERANCE)
        np.testing.assert_allclose(t.kept + t.forgotten, t.c_before, **TOLERANCE)
        first, second = (-1, -2) if go_backwards else (0, 1)
        np.testing.assert_array_equal(t.c_before[:, first], t.initial_c)
        np.testing.assert_array_equal(t.h_before[:, second], t.h[:, first])


def test_a_frame_has_one_row_for_each_sequence_step_and_unit(x):
    model = keras.Sequential([keras.Input((TIMESTEPS, FEATURES)), LSTM(UNITS, return_sequences=True), VanillaRNN(3)])
    steps = trace(model, x)
    frame = steps.to_frame()
    assert list(frame) == ["layer", "sequence", "step", "unit", *"ifgoch", "z"]
    assert len(frame) == BATCH * TIMESTEPS * (UNITS + 3)
    first = next(iter(steps))
    row = frame.query(f"layer == '{first}' and sequence == 2 and step == 4 and unit == 1").iloc[0]
    assert row["f"] == steps[first].f[2, 4, 1]


def test_a_file_gives_back_what_was_written(x, tmp_path):
    x[0, 3] = 0
    backwards = LSTM(UNITS, return_sequences=True, go_backwards=True)
    model = keras.Sequential([keras.Input((TIMESTEPS, FEATURES)), layers.Masking(), backwards, VanillaRNN(3)])
    steps = trace(model, x)
    steps.to_npz(tmp_path / "steps.npz")
    again = Traces.from_npz(tmp_path / "steps.npz")
    assert list(again) == list(steps)
    for name, step in steps.items():
        assert (type(again[name]), again[name].go_backwards) == (type(step), step.go_backwards)
        for field in ("x", "mask", "initial_h", *step.symbols):
            np.testing.assert_array_equal(getattr(again[name], field), getattr(step, field))
    np.savez(tmp_path / "other.npz", a=x)
    with pytest.raises(DataError, match="does not hold traces"):
        Traces.from_npz(tmp_path / "other.npz")


def small(*inner):
    return keras.Sequential([keras.Input((TIMESTEPS, FEATURES)), *inner])


def test_a_progress_bar_is_shown_when_asked_for(x, capsys):
    trace(small(LSTM(2)), x, batch_size=1, verbose=1)
    assert f"{BATCH}/{BATCH}" in capsys.readouterr().out
    trace(small(LSTM(2)), x, batch_size=1, verbose=0)
    assert capsys.readouterr().out == ""


class Odd(layers.GRUCell):
    """A cell of Keras' that computes who knows what."""


def test_says_what_is_not_a_model_to_look_into(x):
    with pytest.raises(ArgumentError, match=r"no recurrent layer(.|\n)*no recurrent layer at all"):
        trace(small(layers.Dense(2)), x)
    with pytest.raises(ArgumentError, match=r"no recurrent layer(.|\n)*odd"):
        trace(small(layers.RNN(Odd(2, name="odd"))), x)
    with pytest.raises(ArgumentError, match="Only a Keras model"):
        trace(LSTM(2), x)
    with pytest.raises(InputError, match="no weights yet"):
        trace(keras.Sequential([LSTM(2)]), x)
    with pytest.raises(ArgumentError, match=r"'lstm'(.|\n)*'lsmt'"):
        trace(small(LSTM(2, name="lstm")), x, layers="lsmt")


def test_says_which_layers_it_leaves_out(x):
    model = small(layers.RNN(Odd(2), return_sequences=True, name="odd"), LSTM(2, name="lstm"))
    with pytest.warns(UserWarning, match="'odd'"):
        steps = trace(model, x)
    assert list(steps) == ["lstm"]


def test_layers_of_keras_are_traced_where_they_are_in_a_subclassed_model(x):
    model = Subclassed(layers.LSTM(2, name="memory"))
    output = ops.convert_to_numpy(model(x))
    (traced,) = trace(model, x).values()
    kernel, bias = model.head.get_weights()
    np.testing.assert_allclose(traced.h[:, -1] @ kernel + bias, output, atol=1e-6)
    assert "inner_loop" not in vars(next(iter(recurrent_layers(model).values())))


class Block(layers.Layer):
    """Makes its own layer of Keras."""

    def __init__(self, **options):
        super().__init__(**options)
        self.held = {"memory": [layers.LSTM(FEATURES, return_sequences=True, name="hidden")]}

    def build(self, shape):
        self.held["memory"][0].build(shape)

    def call(self, x):
        return self.held["memory"][0](x)


def test_a_layer_inside_a_custom_layer_is_traced_with_live_weights(rng, x):
    model = keras.Sequential([keras.Input(x.shape[1:]), Block(name="block"), layers.LSTM(2, name="memory")])
    randomised(model, rng)
    steps = trace(model, x)
    assert list(steps) == ["block/hidden", "memory"]
    np.testing.assert_allclose(steps["memory"].x, steps["block/hidden"].h, atol=1e-6)
    np.testing.assert_allclose(steps["memory"].h[:, -1], ops.convert_to_numpy(model(x)), atol=1e-6)


def test_what_stands_before_a_layer_of_keras_is_the_model_itself(x):
    normalise = layers.Normalization()
    normalise.adapt(x * 5 + 3)
    factor = 0.5
    scale = layers.Lambda(lambda v: v * factor)
    model = keras.Sequential([keras.Input(x.shape[1:]), normalise, scale, layers.LSTM(2, name="memory")])
    np.testing.assert_allclose(trace(model, x)["memory"].h[:, -1], ops.convert_to_numpy(model(x)), atol=1e-6)


def test_two_threads_trace_one_model_of_keras(rng, x):
    model = randomised(keras.Sequential([keras.Input(x.shape[1:]), layers.LSTM(2, name="memory")]), rng)
    expected = trace(model, x)["memory"].h
    with ThreadPoolExecutor(2) as pool:
        traced = list(pool.map(lambda part: trace(model, part)["memory"].h, [x[k % 3 :] for k in range(6)]))
    for k, h in enumerate(traced):
        np.testing.assert_allclose(h, expected[k % 3 :], atol=1e-6)


def test_says_where_an_unrolled_loop_of_keras_reads_the_mask_in_another_way(x):
    options = {"unroll": True, "go_backwards": True, "return_sequences": True, "zero_output_for_mask": True}
    sequences, mask = keras.Input(x.shape[1:]), keras.Input(x.shape[1:2], dtype="bool")
    if keras.backend.backend() == "torch":
        return  # Keras' own raises
    model = keras.Model([sequences, mask], layers.LSTM(2, **options)(sequences, mask=mask))
    with pytest.warns(UserWarning, match="unroll=True"):
        trace(model, [x, np.ones(x.shape[:2], bool)])


def test_the_progress_bar_counts_the_sequences_that_are_through():
    shown = []
    progress = Progress(10, 1, verbose=1)
    progress.begin(4)
    progress._bar.update = lambda done, finalize: shown.append(done)
    for share in (0.5, 0.5, 1.0):  # a layer in two parts, and another that was not reckoned with
        progress.add(share)
    progress.begin(6)
    progress.add(1.0)
    progress.add(1.0)
    progress.finish()
    assert shown == [2, 4, 4, 4, 7, 9, 10]


@keras.saving.register_keras_serializable(package="tests")
class Compiled(layers.Layer):
    """A layer that cannot be replayed step by step: what is inside runs in a compiled function."""

    def __init__(self, **options):
        super().__init__(**options)
        self.memory = LSTM(2)

    def build(self, shape):
        self.memory.build(shape)

    def call(self, x):
        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            return tf.function(lambda x: self.memory(x), autograph=False)(x)
        import jax

        return jax.jit(lambda x: self.memory(x))(x)


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="torch does not trace a compiled call")
def test_says_that_a_compiled_call_cannot_be_read(x):
    with pytest.raises(InputError, match="inside a compiled function"):
        trace(small(Compiled()), x)


def test_says_what_is_wrong_with_the_input(x):
    model = small(LSTM(UNITS, name="lstm"))
    bad = x.copy()
    bad[1, 2, 0] = np.nan
    with pytest.raises(InputError, match=r"not finite(.|\n)*1 of 36 values, the first nan at \(1, 2, 0\)"):
        trace(model, bad)
    with pytest.raises(InputError, match="at least one sequence"):
        trace(model, x[:0])
    with pytest.raises(InputError, match=r"'lstm' would need(.|\n)*3 sequences x 6 steps x 4 units"):
        trace(model, x, max_bytes=1000)


def test_only_the_traces_asked_for_count_against_the_limit(x):
    model = small(LSTM(UNITS, return_sequences=True, name="large"), LSTM(1, name="small"))
    needed = 4 * BATCH * (TIMESTEPS * (UNITS + 6) + 2)
    assert list(trace(model, x, layers="small", max_bytes=needed)) == ["small"]
    with pytest.raises(InputError):
        trace(model, x, layers="small", max_bytes=needed - 1)
