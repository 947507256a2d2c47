"""Models of Keras 2, made by tf_keras, and an input for each: what people have in .h5 files."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as k2
from tf_keras import layers as l2

RNG = np.random.default_rng(11)
BATCH, STEPS, FEATURES, UNITS = 2, 6, 3, 4
X = RNG.normal(size=(BATCH, STEPS, FEATURES)).astype("float32")
TOKENS = np.array([[1, 5, 2, 0, 0, 0], [3, 3, 4, 1, 2, 0]], "int32")


def tokens():
    return k2.Sequential(
        [
            l2.Embedding(7, 5, mask_zero=True, input_length=STEPS),
            l2.Bidirectional(l2.LSTM(UNITS, recurrent_activation="hard_sigmoid", return_sequences=True)),
            l2.SpatialDropout1D(0.2),
            l2.Bidirectional(l2.GRU(UNITS), merge_mode="sum"),
            l2.Dense(2, activation="hard_sigmoid", kernel_regularizer="l2"),
        ]
    ), TOKENS


def translation():
    """An encoder whose states start a decoder, in a model that returns them, too."""
    source, target = k2.Input((None, FEATURES)), k2.Input((None, 2))
    _, h, c = l2.LSTM(UNITS, return_state=True)(source)
    y, h, c = l2.LSTM(UNITS, return_sequences=True, return_state=True)(target, initial_state=[h, c])
    y = l2.TimeDistributed(l2.Dense(3, activation="softmax"))(y)
    return k2.Model([source, target], [y, h, c]), [X, X[:, :4, :2]]


def masked_translation():
    """Both sequences are padded, and the decoder has states, too."""
    source, target = k2.Input((STEPS,)), k2.Input((STEPS,))
    h = l2.GRU(UNITS, recurrent_activation="hard_sigmoid")(l2.Embedding(7, 3, mask_zero=True)(source))
    y = l2.Embedding(7, 3, mask_zero=True)(target)
    y = l2.Bidirectional(l2.GRU(UNITS, return_sequences=True))(y, initial_state=[h, h])
    y = l2.LSTM(UNITS, return_sequences=True)(y, initial_state=[h, h])
    return k2.Model([source, target], l2.GlobalMaxPooling1D()(y)), [TOKENS, TOKENS[::-1] * (TOKENS != 5)]


def shared():
    """A nested functional model and a layer, each called twice, with attention between."""
    inner_in = k2.Input((STEPS, FEATURES))
    inner = k2.Model(inner_in, l2.GRU(UNITS, return_sequences=True, reset_after=False)(inner_in), name="inner")
    a, b = k2.Input((STEPS, FEATURES)), k2.Input((STEPS, FEATURES))
    rnn = l2.SimpleRNN(UNITS, activation="relu", go_backwards=True)
    both = [inner(a), inner(b)]
    y = l2.Concatenate()([rnn(both[0]), rnn(both[1]), l2.GlobalAveragePooling1D()(l2.Attention()(both))])
    return k2.Model([a, b], l2.Dense(1)(y)), [X, X[::-1]]


def convolution():
    """What has other names, axes or options in Keras 3."""
    model = k2.Sequential(
        [
            l2.InputLayer((STEPS, FEATURES)),
            l2.Masking(0.0),
            l2.Conv1D(UNITS, 2, padding="causal", kernel_constraint="max_norm"),
            l2.SeparableConv1D(UNITS, 2, activation=l2.LeakyReLU(alpha=0.1)),
            l2.LeakyReLU(alpha=0.2),
            l2.BatchNormalization(),
            l2.LayerNormalization(),
            l2.TimeDistributed(k2.Sequential([l2.Dense(3), l2.ELU(0.5)])),
            l2.ReLU(max_value=0.7),
            l2.LSTM(UNITS, kernel_initializer=k2.initializers.VarianceScaling(distribution="truncated_normal")),
            l2.RepeatVector(2),
            l2.Flatten(),
        ]
    )
    return model, X


def cells():
    stack = [l2.LSTMCell(UNITS), l2.GRUCell(3, reset_after=True), l2.SimpleRNNCell(2)]
    return k2.Sequential([l2.InputLayer((STEPS, FEATURES)), l2.RNN(stack, return_sequences=True)]), X


def stateful():
    model = k2.Sequential([l2.LSTM(UNITS, stateful=True, batch_input_shape=(BATCH, STEPS, FEATURES)), l2.Dense(1)])
    return model, X


def frozen():
    """A frozen nested model with BatchNormalization, behind a frozen layer."""
    inner = k2.Sequential([l2.InputLayer((STEPS, UNITS)), l2.BatchNormalization(), l2.LSTM(UNITS)], name="inner")
    first = l2.LSTM(UNITS, return_sequences=True)
    model = k2.Sequential([l2.InputLayer((STEPS, FEATURES)), first, inner, l2.Dense(1)])
    inner.layers[0].trainable = first.trainable = False
    return model, X


def deferred():
    """No shape was given: it was built by its first call."""
    model = k2.Sequential([l2.GRU(UNITS), l2.Dense(2)])
    model(X)
    return model, X


def directions():
    x = k2.Input((STEPS, FEATURES))
    options = {"return_sequences": True, "return_state": True}
    backward = l2.LSTM(UNITS, activation="relu", go_backwards=True, name="other", **options)
    forward = l2.LSTM(UNITS, **options)
    y, *states = l2.Bidirectional(forward, backward_layer=backward)(x)
    z = l2.Bidirectional(l2.GRU(UNITS))(y, initial_state=[states[0], states[1]])
    return k2.Model(x, [y, z, *states]), X


def named():
    """Inputs by name; names with a slash; heads of attention; states given by keyword to a layer called on a list."""
    a, b = k2.Input((STEPS, FEATURES), name="a"), k2.Input((UNITS,), name="b")
    y = l2.GRU(UNITS, return_sequences=True, name="block/gru")(a, initial_state=b)
    y = l2.MultiHeadAttention(2, 3)(y, y)
    y = l2.ConvLSTM1D(2, 2, recurrent_activation="hard_sigmoid")(l2.Reshape((2, STEPS // 2, UNITS))(y))
    return k2.Model({"a": a, "b": b}, {"out": l2.Flatten(name="out")(y)}), {"a": X, "b": X[:, 0, [0, 1, 2, 0]]}


@k2.saving.register_keras_serializable("Addons")
class PeepholeLSTMCell(l2.LSTMCell):
    """TensorFlow Addons' cell, from its equations; that package does not run on this TensorFlow."""

    def build(self, input_shape):
        super().build(input_shape)
        for gate in ("input", "forget", "output"):
            name = f"{gate}_gate_peephole_weights"
            setattr(self, name, self.add_weight(shape=(self.units,), name=name, initializer=self.kernel_initializer))

    def call(self, inputs, states, training=None):
        h, c = states
        z_i, z_f, z_g, z_o = tf.split(inputs @ self.kernel + h @ self.recurrent_kernel + self.bias, 4, axis=-1)
        i = self.recurrent_activation(z_i + self.input_gate_peephole_weights * c)
        f = self.recurrent_activation(z_f + self.forget_gate_peephole_weights * c)
        c = f * c + i * self.activation(z_g)
        h = self.recurrent_activation(z_o + self.output_gate_peephole_weights * c) * self.activation(c)
        return h, [h, c]


@k2.saving.register_keras_serializable("Addons")
class LayerNormLSTMCell(l2.LSTMCell):
    """TensorFlow Addons' cell, from its equations: the normalised c is carried on."""

    def __init__(self, units, norm_epsilon=1e-3, **kwargs):
        super().__init__(units, **kwargs)
        self.norm_epsilon = norm_epsilon
        for name in ("kernel_norm", "recurrent_norm", "state_norm"):
            setattr(self, name, l2.LayerNormalization(epsilon=norm_epsilon, name=name))

    def build(self, input_shape):
        super().build(input_shape)
        for name, width in {"kernel_norm": 4, "recurrent_norm": 4, "state_norm": 1}.items():
            with tf.name_scope(name):  # without it all are named gamma and beta, and no .h5 file takes them
                getattr(self, name).build([None, width * self.units])

    def call(self, inputs, states, training=None):
        h, c = states
        z = self.kernel_norm(inputs @ self.kernel) + self.recurrent_norm(h @ self.recurrent_kernel) + self.bias
        z_i, z_f, z_g, z_o = tf.split(z, 4, axis=-1)
        c = self.recurrent_activation(z_f) * c + self.recurrent_activation(z_i) * self.activation(z_g)
        c = self.state_norm(c)
        h = self.recurrent_activation(z_o) * self.activation(c)
        return h, [h, c]

    def get_config(self):
        return {**super().get_config(), "norm_epsilon": self.norm_epsilon}


def addons():
    x = k2.Input((STEPS, FEATURES))
    y = l2.RNN(PeepholeLSTMCell(UNITS), return_sequences=True)(x)
    return k2.Model(x, l2.RNN(LayerNormLSTMCell(UNITS), return_sequences=True)(y)), X


MODELS = [
    tokens,
    translation,
    masked_translation,
    shared,
    convolution,
    cells,
    stateful,
    frozen,
    deferred,
    directions,
    named,
    addons,
]


def randomised(model: Any) -> Any:
    """Give a model weights of which no two are alike; variances stay positive."""
    model.set_weights([np.abs(RNG.normal(scale=0.5, size=w.shape)) + 0.05 for w in model.get_weights()])
    for weight in model.weights:
        if "variance" not in weight.name:
            weight.assign(RNG.normal(scale=0.5, size=weight.shape))
    return model
