"""What `trace` and the others are given: all that `fit` and `predict` take, or an error that says what to pass."""

import itertools

import keras
import numpy as np
import pandas as pd
import pytest
from keras import layers, ops

from keras_lstm_custom import LSTM, gradient_flow, trace
from keras_lstm_custom.diagnostics.inputs import gathered
from keras_lstm_custom.errors import ArgumentError, InputError

SIZE, TIMESTEPS, FEATURES = 10, 4, 3


@pytest.fixture
def x(rng):
    return rng.normal(size=(SIZE, TIMESTEPS, FEATURES)).astype("float32")


@pytest.fixture
def model():
    model = keras.Sequential([keras.Input((TIMESTEPS, FEATURES)), LSTM(2, name="memory"), layers.Dense(1)])
    model.compile("sgd", "mse")
    return model


class Batches(keras.utils.PyDataset):
    def __init__(self, *arrays):
        super().__init__()
        self.arrays = arrays

    def __len__(self):
        return 3

    def __getitem__(self, number):
        return tuple(array[4 * number : 4 * number + 4] for array in self.arrays)


def _dataset(*arrays):
    tf = pytest.importorskip("tensorflow")
    return tf.data.Dataset.from_tensor_slices(arrays).batch(4)


def _loader(*arrays):
    torch = pytest.importorskip("torch")
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*map(torch.tensor, arrays)), batch_size=4)


def _generator(*arrays):
    return iter(Batches(*arrays)[number] for number in range(3))


BATCHES = pytest.mark.parametrize("batches", [Batches, _dataset, _loader, _generator])


@pytest.mark.parametrize("wrap", [ops.convert_to_tensor, lambda x: [x], lambda x: (x,), lambda x: x.tolist()])
def test_arrays_and_lists_are_one_input(wrap, model, x):
    np.testing.assert_allclose(trace(model, wrap(x))["memory"].h, trace(model, x)["memory"].h, atol=1e-6)


@BATCHES
def test_batches_are_put_together(batches, model, x):
    np.testing.assert_allclose(trace(model, batches(x))["memory"].h, trace(model, x)["memory"].h, atol=1e-6)


@BATCHES
def test_targets_and_weights_may_come_with_the_batches(batches, model, x):
    y, weight = x[:, 0, :1], np.linspace(0.5, 2, SIZE).astype("float32")
    got = gradient_flow(model, batches(x, y, weight))["memory"]
    expected = gradient_flow(model, x, y, sample_weight=weight)["memory"]
    np.testing.assert_allclose(got.norms("c"), expected.norms("c"), rtol=1e-5)
    np.testing.assert_allclose(got.loss, model.evaluate(x, y, sample_weight=weight, verbose=0), rtol=1e-5)


def test_a_frame_holds_tokens():
    tokens = pd.DataFrame(np.arange(12).reshape(3, 4) % 5)
    model = keras.Sequential([keras.Input((4,)), layers.Embedding(5, 2), LSTM(2, name="memory")])
    np.testing.assert_array_equal(trace(model, tokens)["memory"].h, trace(model, tokens.to_numpy())["memory"].h)


def test_inputs_by_name_and_by_nested_lists(x):
    a, b = keras.Input((TIMESTEPS, FEATURES), name="a"), keras.Input((TIMESTEPS, FEATURES), name="b")
    model = keras.Model([a, b], LSTM(2, name="memory")(layers.Add()([a, b])))
    expected = trace(model, [x, 2 * x])["memory"].h
    for given in ({"a": x, "b": 2 * x}, [x.tolist(), (2 * x).tolist()]):
        np.testing.assert_allclose(trace(model, given)["memory"].h, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (lambda x: [[1.0, 2.0], [3.0]], "np.asarray"),
        (lambda x: [x[0], x[1]], "np.stack"),
        (lambda x: iter([]), "no batches"),
        (lambda x: iter([x[:2], x[:2, :2]]), "do not fit together"),
        (lambda x: pd.DataFrame({"a": ["text"]}), "no array of numbers"),
        (lambda x: "text", "no array of numbers"),
    ],
)
def test_says_what_is_no_input(given, words, model, x):
    with pytest.raises(InputError, match=words):
        trace(model, given(x))


def test_batches_without_an_end_are_refused(model, x, monkeypatch):
    monkeypatch.setattr("keras_lstm_custom.diagnostics.inputs.MAX_BYTES", 10 * x.nbytes)
    with pytest.raises(InputError, match="islice"):
        gathered(model, itertools.repeat(x))


def test_targets_beside_batches_are_refused(model, x):
    with pytest.raises(ArgumentError, match="come with the batches"):
        gradient_flow(model, Batches(x), x[:, 0, :1])
