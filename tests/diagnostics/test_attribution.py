"""`attribute` against the NumPy oracle, finite differences and what the equations say must be so."""

import re
import warnings

import keras
import numpy as np
import pytest
from keras import layers, ops, tree

from keras_lstm_custom import LSTM, VanillaRNN, attribute
from keras_lstm_custom.errors import ArgumentError, InputError
from tests.oracles import numpy_cells

BATCH, STEPS, FEATURES, UNITS = 3, 5, 2, 4
#: JAX compiles each call of `attribute` for several seconds; what is left passes there, too.
slow_on_jax = pytest.mark.skipif(
    keras.backend.backend() == "jax", reason="compiles for minutes; runs under TensorFlow and torch"
)


@pytest.fixture
def x(rng):
    return rng.normal(size=(BATCH, STEPS, FEATURES)).astype("float32")


def randomised(model, rng, scale=0.6):
    """Give every weight a random value, so that no bias is zero and no gate like another."""
    model.set_weights([rng.normal(scale=scale, size=w.shape) for w in model.get_weights()])
    return model


def sequential(*parts, shape=(STEPS, FEATURES), **options):
    return keras.Sequential([keras.Input(shape, **options), *parts])


def predicted(model, x):
    """Return what `model.predict` gives, without compiling it first."""
    outputs = model(tree.map_structure(ops.convert_to_tensor, x), training=False)
    return tree.map_structure(ops.convert_to_numpy, outputs)


def assert_complete(found, tolerance=1e-3):
    np.testing.assert_allclose(found.total, found.prediction - found.reference, atol=1e-5, rtol=tolerance)
    np.testing.assert_allclose(found.gap, found.total - found.delta)


# ---- right values ----


@pytest.mark.parametrize("source", ["ours", "keras"])
@pytest.mark.parametrize("kind", ["lstm", "vanilla_rnn"])
def test_agrees_with_the_oracle_in_float64(source, kind, rng, x):
    makers = {"lstm": (LSTM, layers.LSTM), "vanilla_rnn": (VanillaRNN, layers.SimpleRNN)}
    model = sequential(layers.Masking(), makers[kind][source == "keras"](UNITS), layers.Dense(1))
    randomised(model, rng)
    x[1, 3:] = 0
    mask = (x != 0).any(-1)
    *weights, kernel, bias = [w.astype(np.float64) for w in model.get_weights()]
    run = getattr(numpy_cells, kind)

    def output(rows):
        return run(rows, *weights, mask=mask)["h"][:, -1] @ kernel[:, 0] + bias[0]

    def gradient(rows, width=1e-5):
        found = np.zeros(rows.shape)
        for t, j in np.ndindex(rows.shape[1:]):
            moved = np.zeros(rows.shape)
            moved[:, t, j] = width
            found[:, t, j] = (output(rows + moved) - output(rows - moved)) / (2 * width)
        return found

    data, reference = x.astype(np.float64), np.broadcast_to([0.3, -0.2], x.shape)
    nodes, shares = np.polynomial.legendre.leggauss(12)
    positions = (nodes + 1) / 2
    mean = sum(w / 2 * gradient(reference + a * (data - reference)) for a, w in zip(positions, shares, strict=True))
    found = attribute(model, x, baseline=[0.3, -0.2])
    np.testing.assert_allclose(found.values, (data - reference) * mean, rtol=2e-4, atol=2e-6)
    np.testing.assert_allclose(found.prediction, output(data), rtol=1e-5)
    np.testing.assert_allclose(found.reference, output(reference), rtol=1e-5)
    assert_complete(found)
    assert (found.values[1, 3:] == 0).all()
    np.testing.assert_array_equal(found.mask, mask)


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.memory, self.head = layers.GRU(UNITS), layers.Dense(1)

    def call(self, x):
        return self.head(self.memory(x))


def nested():
    inner = keras.Sequential([keras.Input((None, FEATURES)), layers.Masking(), layers.LSTM(5, return_sequences=True)])
    sequences = keras.Input((STEPS, FEATURES))
    both = layers.Bidirectional(layers.SimpleRNN(3))(inner(sequences))
    return keras.Model(sequences, layers.Dense(1, activation="sigmoid")(both))


MODELS = {
    "gru, every step": lambda: sequential(layers.GRU(UNITS, return_sequences=True), layers.Flatten(), layers.Dense(1)),
    "stack of cells": lambda: sequential(
        layers.RNN([layers.LSTMCell(3), layers.GRUCell(UNITS)], go_backwards=True), layers.Dense(1)
    ),
    "layers of Keras only": lambda: sequential(
        layers.Conv1D(4, 2, activation="gelu"), layers.LayerNormalization(), layers.GRU(UNITS), layers.Dense(1)
    ),
    "ours": lambda: sequential(LSTM(3, return_sequences=True), layers.Bidirectional(VanillaRNN(2)), layers.Dense(1)),
    "nested": nested,
    "subclassed": Subclassed,
}


@slow_on_jax
@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("baseline", [None, "mean"])
def test_sums_are_the_change_of_the_output(make, baseline, rng, x):
    model = make()
    model(x)
    randomised(model, rng)
    found = attribute(model, x, baseline=baseline)
    assert_complete(found)
    assert found.values.shape == x.shape
    np.testing.assert_allclose(found.prediction, predicted(model, x)[:, 0], rtol=1e-5, atol=1e-6)
    if baseline is None and make is not nested:  # without a mask, the baseline is what the model says
        np.testing.assert_allclose(found.reference, predicted(model, 0 * x)[:, 0], rtol=1e-5, atol=1e-6)
    assert np.abs(found.values).max() > 1e-3


@slow_on_jax
def test_the_way_is_cut_where_the_output_changes_abruptly(rng, x):
    smooth = randomised(sequential(layers.LSTM(UNITS), layers.Dense(1)), rng)
    end, start = predicted(smooth, x)[0, 0], predicted(smooth, 0 * x)[0, 0]
    switch = layers.Lambda(lambda z: ops.sigmoid(200 * (z - (start + end) / 2) / (end - start)))
    gate = sequential(smooth, switch)
    found = attribute(gate, x)
    assert_complete(found)
    assert found.points.max() > 16 >= found.points.min()
    with pytest.warns(UserWarning, match=r"\d of 3 rows do not add up .* after 16 points: in row \d the sum is .*gap"):
        few = attribute(gate, x, max_points=16)
    assert (few.points == 16).all()
    assert np.abs(few.gap).max() > 1e-3 * np.abs(few.delta).max()


@slow_on_jax
def test_a_slope_that_jumps_takes_some_more_points_and_no_warning(rng, x):
    """However short, the piece of the way around it is off by the same share of its length."""
    smooth = randomised(sequential(layers.LSTM(UNITS), layers.Dense(1)), rng)
    end, start = predicted(smooth, x)[0, 0], predicted(smooth, 0 * x)[0, 0]
    bent = sequential(smooth, layers.Lambda(lambda z: ops.relu((z - 0.7 * start - 0.3 * end) / (end - start))))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        found = attribute(bent, x[:1])
    assert_complete(found)
    assert 16 < found.points.max() < 800


@slow_on_jax
def test_what_has_no_gradient_is_told(rng, x):
    model = randomised(sequential(layers.Lambda(ops.round), layers.LSTM(UNITS), layers.Dense(1)), rng)
    with pytest.warns(UserWarning, match=r"3 of 3 rows .*no gradient"):
        attribute(model, x, max_points=64)


@slow_on_jax
def test_a_sample_gives_the_mean_over_its_rows(rng, x):
    model = randomised(sequential(layers.LSTM(UNITS), layers.Dense(1)), rng)
    sample = rng.normal(size=(4, STEPS, FEATURES))
    found = attribute(model, x, baseline=sample)
    single = [attribute(model, x, baseline=row) for row in sample]
    np.testing.assert_allclose(found.values, np.mean([s.values for s in single], axis=0), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(found.reference, predicted(model, sample).mean(), rtol=1e-5)
    assert found.method == "expected_gradients"
    assert_complete(found)


@slow_on_jax
def test_mean_is_that_of_each_feature_over_what_is_read(rng, x):
    model = randomised(sequential(layers.Masking(-9.0), layers.LSTM(UNITS), layers.Dense(1)), rng)
    x[0, 2:] = -9
    mean = x[(x != -9).any(-1)].mean(0)
    np.testing.assert_allclose(
        attribute(model, x, baseline="mean").values, attribute(model, x, baseline=mean).values, atol=1e-6
    )


@slow_on_jax
def test_occlusion_is_what_the_model_says_without_a_number(rng, x):
    model = randomised(sequential(layers.LSTM(UNITS), layers.Dense(2)), rng)
    found = attribute(model, x, target=1, baseline=0.5, method="occlusion")
    whole = predicted(model, x)[:, 1]
    for t, j in np.ndindex(STEPS, FEATURES):
        without = x.copy()
        without[:, t, j] = 0.5
        np.testing.assert_allclose(found.values[:, t, j], whole - predicted(model, without)[:, 1], atol=1e-6)


def test_agrees_with_shap_where_it_is_installed(rng, x):
    shap = pytest.importorskip("shap")
    if keras.backend.backend() != "tensorflow":
        pytest.skip("shap's GradientExplainer takes Keras models under TensorFlow")
    model = randomised(sequential(layers.LSTM(UNITS), layers.Dense(1)), rng)
    sample = rng.normal(size=(4, STEPS, FEATURES)).astype("float32")
    theirs = shap.GradientExplainer(model, sample).shap_values(x, nsamples=4000)
    ours = attribute(model, x, baseline=sample).values
    # Theirs draws points and rows at random: the error of a mean of 4000.
    np.testing.assert_allclose(np.reshape(theirs, ours.shape), ours, atol=0.05 * np.abs(ours).max())


# ---- masks ----


PADDINGS = [
    (0.0, None, "integrated_gradients"),
    (0.0, "mean", "integrated_gradients"),
    (-1.0, None, "integrated_gradients"),
    (-1.0, "sample", "integrated_gradients"),
    (0.0, None, "occlusion"),
    (-1.0, 1.0, "occlusion"),
]


@pytest.mark.parametrize(("value", "baseline", "method"), PADDINGS)
def test_padding_changes_nothing(value, baseline, method, rng, x):
    """A padded sequence has the attributions of the bare one, although baseline and padding may look alike."""
    parts = [layers.Masking(value), layers.GRU(UNITS, return_sequences=True), layers.GlobalAveragePooling1D()]
    model = randomised(sequential(*parts, layers.Dense(1), shape=(None, FEATURES)), rng)
    padded = np.concatenate([np.full((BATCH, 2, FEATURES), value), x, np.full((BATCH, 1, FEATURES), value)], axis=1)
    bare_baseline = padded_baseline = baseline
    if baseline == "sample":
        padded_baseline = rng.normal(size=(2, STEPS + 3, FEATURES))
        bare_baseline = padded_baseline[:, 2:-1]
    bare = attribute(model, x, baseline=bare_baseline, method=method)
    found = attribute(model, padded, baseline=padded_baseline, method=method)
    np.testing.assert_allclose(found.values[:, 2:-1], bare.values, atol=2e-5)
    assert (found.values[:, [0, 1, -1]] == 0).all()
    np.testing.assert_allclose(found.reference, bare.reference, atol=1e-5)
    np.testing.assert_array_equal(found.mask[0], [False] * 2 + [True] * STEPS + [False])


def test_a_mask_that_the_model_computes_itself_is_held(rng, x):
    sequences = keras.Input((STEPS, FEATURES))
    mask = ops.any(ops.not_equal(sequences, 0), axis=-1)
    model = keras.Model(sequences, layers.Dense(1)(layers.LSTM(UNITS)(sequences, mask=mask)))
    randomised(model, rng)
    x[1, 3:] = 0
    found = attribute(model, x)
    assert_complete(found)
    assert (found.values[1, 3:] == 0).all()
    other = randomised(sequential(layers.Masking(), layers.LSTM(UNITS), layers.Dense(1)), rng)
    other.set_weights(model.get_weights())
    np.testing.assert_allclose(found.values, attribute(other, x).values, atol=1e-6)


# ---- tokens, several inputs ----


@pytest.fixture
def ids(rng):
    ids = rng.integers(1, 9, size=(BATCH, STEPS))
    ids[1, 3:] = 0
    return ids


def token_model(rng):
    embedding = layers.Embedding(9, 3, mask_zero=True)
    inner = keras.Sequential([keras.Input((None,)), embedding, layers.LSTM(UNITS)], name="encoder")
    tokens = keras.Input((STEPS,), dtype="int32")
    return randomised(keras.Model(tokens, layers.Dense(1)(inner(tokens))), rng), embedding


@slow_on_jax
def test_tokens_have_what_their_vectors_have(rng, ids):
    model, embedding = token_model(rng)
    vectors = ops.convert_to_numpy(embedding(ids))
    behind = sequential(layers.Masking(-99.0), layers.LSTM(UNITS), layers.Dense(1), shape=(STEPS, 3))
    behind.set_weights(model.get_weights()[1:])
    vectors[ids == 0] = -99
    table = ops.convert_to_numpy(embedding.embeddings)
    for baseline, same in [(None, None), ("mean", "mean"), (4, table[4]), (ids[:2], table[ids[:2]])]:
        found = attribute(model, ids, baseline=baseline)
        expected = attribute(behind, vectors, baseline=same).values.sum(-1)
        np.testing.assert_allclose(found.values, expected, atol=2e-6, err_msg=str(baseline))
        assert found.values.shape == ids.shape
        assert (found.values[ids == 0] == 0).all()
        assert_complete(found)
    np.testing.assert_array_equal(found.mask, ids != 0)


def test_tokens_are_occluded_whole(rng, ids):
    model, _ = token_model(rng)
    found = attribute(model, ids, baseline=5, method="occlusion")
    whole = predicted(model, ids)[:, 0]
    for t in range(3):
        without = ids.copy()
        without[:, t] = 5
        np.testing.assert_allclose(found.values[:, t], whole - predicted(model, without)[:, 0], atol=1e-6)


def test_several_inputs_have_values_each_and_one_sum(rng, x, ids):
    sequences, tokens = (
        keras.Input((STEPS, FEATURES), name="series"),
        keras.Input((STEPS,), dtype="int32", name="words"),
    )
    static, mask = keras.Input((3,), name="static"), keras.Input((STEPS,), dtype="bool", name="read")
    words = layers.GRU(3)(layers.Embedding(9, 2)(tokens))
    memory = layers.LSTM(UNITS)(sequences, mask=mask)
    output = layers.Dense(1)(layers.Concatenate()([words, memory, static]))
    model = randomised(keras.Model([sequences, tokens, static, mask], output), rng)
    read = ids != 0
    data = {"series": x, "words": ids, "static": rng.normal(size=(BATCH, 3)), "read": read}
    found = attribute(model, data, baseline={"series": 0.2, "words": 3, "static": None, "read": None})
    assert_complete(found)
    shapes = {name: values.shape for name, values in found.values.items()}
    assert shapes == {name: np.shape(values) for name, values in data.items()}
    assert (found.of("series")[1, 3:] == 0).all()
    assert (found.of("read") == 0).all()
    listed = attribute(model, [x, ids, data["static"], read], baseline=[0.2, 3, None, None])
    np.testing.assert_allclose(listed.values[1], found.of("words"), atol=1e-6)


def test_columns_that_embeddings_read_have_their_tokens_part(rng, x):
    sequences = keras.Input((STEPS, 3))
    vectors = layers.Embedding(6, 2)(sequences[:, :, 1])
    joined = layers.Concatenate()([sequences[:, :, :1], vectors, sequences[:, :, 2:]])
    model = randomised(keras.Model(sequences, layers.Dense(1)(layers.LSTM(UNITS)(joined))), rng)
    data = np.stack([x[..., 0], rng.integers(0, 6, size=(BATCH, STEPS)), x[..., 1]], axis=-1)
    found = attribute(model, data)
    assert_complete(found)
    assert (np.abs(found.values).sum((0, 1)) > 1e-3).all()


# ---- targets ----


@slow_on_jax
def test_targets_name_one_value(rng, x):
    sequences = keras.Input((STEPS, FEATURES))
    h = layers.GRU(UNITS, return_sequences=True)(sequences)
    steps = layers.Dense(3, name="steps")(h)
    last = layers.Dense(2, name="last")(layers.LSTM(UNITS)(h))
    model = randomised(keras.Model(sequences, [steps, last]), rng)
    outputs = predicted(model, x)
    named = {
        ("steps", 2, 1): outputs[0][:, 2, 1],
        ("steps", -1, 0): outputs[0][:, -1, 0],
        ("last", 1): outputs[1][:, 1],
    }
    for target, expected in named.items():
        found = attribute(model, x, target=target)
        np.testing.assert_allclose(found.prediction, expected, rtol=1e-5)
        assert_complete(found)
    early = attribute(model, x, target=("steps", 2, 1))
    assert (early.values[:, 3:] == 0).all(), "a step cannot matter before it comes"
    classes = outputs[1].argmax(-1)
    found = attribute(model, x, target=("last", classes))
    np.testing.assert_allclose(found.prediction, outputs[1].max(-1), rtol=1e-5)


TARGETS = {
    "several outputs": (None, "several outputs"),
    "no such name": ("first", "no output called 'first'"),
    "no class": ("last", "2 values for each row"),
    "class too large": (("last", 2), "no value 2: that axis has 2"),
    "too few numbers": (("steps", 1), "2 numbers say which"),
    "no number": (("last", 0.5), "0.5 is not the number"),
    "class of a row too large": (("last", np.array([0, 1, 7])), "row 2 asks for number 7"),
    "classes of too few rows": (("last", np.array([0, 1])), r"shape \(3,\)"),
}


@slow_on_jax
@pytest.mark.parametrize(("target", "says"), TARGETS.values(), ids=TARGETS)
def test_targets_that_do_not_exist(target, says, x):
    sequences = keras.Input((STEPS, FEATURES))
    h = layers.GRU(UNITS, return_sequences=True)(sequences)
    model = keras.Model(sequences, [layers.Dense(3, name="steps")(h), layers.Dense(2, name="last")(h[:, -1])])
    with pytest.raises(ArgumentError, match=rf"(?s){says}.*'steps' with values \(batch, 5, 3\), 'last' with"):
        attribute(model, x, target=target)


# ---- what else must hold ----


def test_the_model_is_left_as_it_was(rng, x):
    memory = layers.LSTM(UNITS, stateful=True)
    model = randomised(sequential(layers.Masking(), memory, layers.Dense(1), batch_size=BATCH), rng)
    predicted(model, x)
    states = [ops.convert_to_numpy(state) for state in memory.states]
    assert_complete(attribute(model, x))
    for state, before in zip(memory.states, states, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(state), before)
    with pytest.raises(ArgumentError):
        attribute(model, x, target=5)
    for layer in model.layers:
        assert not {"call", "compute_mask"} & set(vars(layer)), "a replaced method was left behind"


@slow_on_jax
@pytest.mark.parametrize("rows", [1, 7])
def test_no_more_sequences_run_at_a_time_than_asked(rows, rng):
    sizes = []

    class Counting(keras.Model):
        def __init__(self):
            super().__init__()
            self.memory, self.head = layers.SimpleRNN(UNITS), layers.Dense(1)

        def call(self, x):
            sizes.append(x.shape[0])
            return self.head(self.memory(x))

    x = rng.normal(size=(rows, STEPS, FEATURES)).astype("float32")
    model = Counting()
    model(x)
    randomised(model, rng)
    whole = attribute(model, x)
    sizes.clear()
    small = attribute(model, x, batch_size=4)
    assert max(sizes) == 4
    np.testing.assert_allclose(small.values, whole.values, atol=1e-5)


@slow_on_jax
def test_a_table_and_sums(rng, x):
    found = attribute(randomised(sequential(layers.LSTM(UNITS), layers.Dense(1)), rng), x)
    np.testing.assert_allclose(found.by_step, found.values.sum(2))
    np.testing.assert_allclose(found.by_feature, found.values.sum(1))
    frame = found.to_frame().set_index(["sequence", "step", "feature"])["value"]
    assert frame.loc[2, 4, 1] == found.values[2, 4, 1]
    assert re.search(r"integrated gradients of output 'dense\w*' against zeros, 3 rows", str(found))
    assert "gap" in str(found)


BASELINES = {
    "features": (np.zeros(3), r"shape \(3,\)"),
    "steps": (np.zeros((STEPS + 1, FEATURES)), r"\(5, 2\) for one row.*shape \(6, 2\)"),
    "no rows": (np.zeros((0, STEPS, FEATURES)), r"shape \(0, 5, 2\)"),
    "word": ("median", "'zeros', 'mean'"),
    "nan": (np.full(FEATURES, np.nan), "10 of 10"),
}


@slow_on_jax
@pytest.mark.parametrize(("baseline", "says"), BASELINES.values(), ids=BASELINES)
def test_baselines_that_do_not_fit(baseline, says, x):
    with pytest.raises((InputError, ArgumentError), match=f"(?s){says}"):
        attribute(sequential(layers.LSTM(UNITS), layers.Dense(1)), x, baseline=baseline)


@slow_on_jax
def test_other_bad_input(rng, x, ids):
    plain = sequential(layers.LSTM(UNITS), layers.Dense(1))
    with pytest.raises(ArgumentError, match=r"(?s)'integrated_gradients', 'occlusion'.*'gradient'"):
        attribute(plain, x, method="gradient")
    with pytest.raises(InputError, match="not finite"):
        attribute(plain, np.where(x == x[0, 0, 0], np.nan, x))
    with pytest.raises(ArgumentError, match=r"(?s)keras\.Model.*GRU"):
        attribute(layers.GRU(2), x)
    with pytest.raises(ArgumentError, match="tolerance=2"):
        attribute(plain, x, tolerance=2)
    tokens = keras.Input((STEPS,), dtype="int32")
    one_hot = keras.Model(tokens, layers.Dense(1)(layers.LSTM(UNITS)(ops.one_hot(tokens, 9))))
    with pytest.raises(
        InputError, match=r"(?s)int32.*no Embedding reads it.*shape \(3, 5\); the model has no Embedding"
    ):
        attribute(one_hot, ids)
    model, _ = token_model(rng)
    with pytest.raises(InputError, match=r"(?s)token numbers.*from 0\.5"):
        attribute(model, ids, baseline=np.full(STEPS, 0.5))


@slow_on_jax
def test_whole_numbers_that_the_model_reads_as_floats_are_numbers(rng):
    model = randomised(sequential(layers.LSTM(UNITS), layers.Dense(1)), rng)
    counts = rng.integers(-2, 3, size=(BATCH, STEPS, FEATURES))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        found = attribute(model, counts)
    np.testing.assert_allclose(found.values, attribute(model, counts.astype("float32")).values)
