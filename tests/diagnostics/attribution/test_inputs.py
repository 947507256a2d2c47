"""Padding, tokens and several inputs."""

import warnings

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_lstm_custom import attribute
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
    token_model,
)

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


@slow_on_jax
def test_whole_numbers_that_the_model_reads_as_floats_are_numbers(rng):
    model = randomised(sequential(layers.LSTM(UNITS), layers.Dense(1)), rng)
    counts = rng.integers(-2, 3, size=(BATCH, STEPS, FEATURES))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        found = attribute(model, counts)
    np.testing.assert_allclose(found.values, attribute(model, counts.astype("float32")).values)
