"""`attribute` against the NumPy oracle, finite differences and what the equations say must be so."""

import re

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_lstm_custom import LSTM, VanillaRNN, attribute
from keras_lstm_custom.errors import ArgumentError
from tests.diagnostics.attribution.models import (
    BATCH,
    FEATURES,
    STEPS,
    UNITS,
    assert_complete,
    predicted,
    randomised,
    sequential,
    slow_on_jax,
)
from tests.oracles import numpy_cells


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
