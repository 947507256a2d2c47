"""The one walk: what it finds, how it names places, and what it says of masks."""

import keras
import pytest
from keras import layers, ops

from keras_lstm_custom import LSTM
from keras_lstm_custom.models.masks import may_mask
from keras_lstm_custom.models.walk import children, outermost, recurrent_layers, unique, walk


class Holder(layers.Layer):
    """Holds layers in every way that Keras tracks, and one of them twice."""

    def __init__(self):
        super().__init__(name="holder")
        self.direct = layers.LSTM(2, name="direct")
        self.again = self.direct
        self.listed = [layers.Dense(2, name="dense"), [layers.LSTM(2, name="deep")]]
        self.named = {"key": layers.LSTM(2, name="named")}
        self._private = layers.LSTM(2, name="private")

    def call(self, x):
        return x


def test_finds_what_attributes_lists_and_dicts_hold_each_once():
    model = keras.Sequential([keras.Input((3, 2)), Holder(), LSTM(2, name="direct")])
    assert list(recurrent_layers(model)) == [
        "holder/direct",
        "holder/deep",
        "holder/named",
        "holder/private",
        "direct",
    ]
    assert list(children(model.layers[0])) == ["direct", "listed[0]", "listed[1][0]", "named['key']", "_private"]


def test_a_model_in_a_wrapper_in_a_model_has_the_names_on_the_way():
    inner = keras.Sequential([keras.Input((3, 2)), layers.LSTM(2, name="memory")], name="inner")
    model = keras.Sequential([keras.Input((4, 3, 2)), layers.TimeDistributed(inner, name="each")])
    assert [place for place, _ in walk(model)][:3] == ["each", "each/inner", "each/inner/memory"]
    assert list(outermost(dict(walk(model)))) == ["each"]


def test_layers_of_one_name_are_told_apart():
    holder = Holder()
    holder.direct2 = layers.LSTM(2, name="direct")
    assert {"direct", "direct_1"} < set(dict(walk(holder)))
    assert unique("a", {"a", "a_1"}) == "a_2"


class OwnMask(layers.Layer):
    """A layer that makes a mask of its own."""

    def call(self, x):
        return x

    def compute_mask(self, inputs, mask=None):
        return ops.any(ops.not_equal(inputs, 0), axis=-1)


def _with_boolean():
    x = keras.Input((3, 2))
    return keras.Model(x, layers.LSTM(2)(x, mask=ops.any(ops.not_equal(x, 0.0), axis=-1)))


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (lambda: keras.Sequential([keras.Input((3, 2)), layers.Bidirectional(layers.LSTM(2))]), False),
        (lambda: keras.Sequential([keras.Input((3, 2)), layers.Masking(), layers.LSTM(2)]), True),
        (lambda: keras.Sequential([keras.Input((3,)), layers.Embedding(4, 2, mask_zero=True), layers.LSTM(2)]), True),
        (lambda: keras.Sequential([keras.Input((3,)), layers.Embedding(4, 2), layers.LSTM(2)]), False),
        (lambda: keras.Sequential([keras.Input((3, 2)), OwnMask(), layers.LSTM(2)]), True),
        (_with_boolean, True),
    ],
)
def test_knows_where_masks_may_come_from(build, expected):
    assert may_mask(build()) is expected
