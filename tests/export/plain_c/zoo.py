"""Small models that plain C must be able to express, each a function of no arguments, by what they are about."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
from keras import ops
from packaging.version import Version

import keras_lstm_custom as klc
from keras_lstm_custom.equations import project
from keras_lstm_custom.structures import LSTMState

layers = keras.layers

T, F = 7, 5


def sequential(*parts, shape=(T, F), **options) -> keras.Model:
    return keras.Sequential([keras.Input(shape, **options), *parts])


def small() -> keras.Model:
    return randomised(sequential(layers.LSTM(4), layers.Dense(2)))


def _activation(name: str) -> Callable[[], keras.Model]:
    return lambda: sequential(layers.Dense(4, activation=name), layers.GRU(3, activation="softsign"))


ACTIVATIONS = [
    *("relu", "relu6", "sigmoid", "softplus", "softsign", "tanh", "selu", "elu", "exponential", "leaky_relu", "silu"),
    *("hard_silu", "gelu", "hard_sigmoid", "linear", "mish", "log_sigmoid", "log_softmax", "celu"),
    *("hard_tanh", "tanh_shrink", "hard_shrink", "soft_shrink", "softmax", "sparsemax", "squareplus", "sparse_plus"),
    *("sparse_sigmoid",),
]


def _lstm(options: dict) -> Callable[[], keras.Model]:
    return lambda: sequential(klc.LSTM(6, **options), layers.Dense(2))


LSTM_OPTIONS = [
    {"peepholes": True, "cell_clip": 0.3},
    {"coupled": True, "zoneout": 0.2, "cell_zoneout": 0.1},
    {"projection": 3, "projection_clip": 0.2},
    {"layer_normalization": "joint", "peepholes": True},
    {"layer_normalization": "gate", "projection": 2},
    {"use_bias": False, "activation": "relu", "recurrent_activation": "hard_sigmoid"},
]


@keras.saving.register_keras_serializable(package="tests")
class LeakyCell(klc.RecurrentCell):
    """h leaks, and c remembers what h was a step before: a state that becomes what another one is."""

    gates = ("a", "b")
    state_type = LSTMState
    step_type = LSTMState

    def step(self, z_x, state, recurrent_dropout=None):
        z_a, z_b = ops.split(z_x + project(state.h, self.tensor("recurrent_kernel")), 2, axis=-1)
        a = ops.sigmoid(z_a)
        return LSTMState(h=a * state.h + (1 - a) * ops.tanh(z_b) + 0.1 * state.c, c=state.h)


class Leaky(klc.Recurrent):
    cell_class = LeakyCell


@keras.saving.register_keras_serializable(package="tests")
class Scaled(keras.layers.Layer):
    """A layer of a user's own."""

    def call(self, x):
        return ops.concatenate([x[..., :2] * 2, ops.mean(x, axis=-1, keepdims=True)], axis=-1)


@keras.saving.register_keras_serializable(package="tests")
class OwnAttention(keras.layers.Layer):
    """Products of two computed tensors."""

    def call(self, x):
        return ops.matmul(ops.softmax(ops.matmul(x, ops.transpose(x, (0, 2, 1))), axis=-1), x)


@keras.saving.register_keras_serializable(package="tests")
class FastWeights(keras.layers.Layer):
    """A cell of Keras' own kind whose memory is a matrix (Ba et al. 2016)."""

    def __init__(self, units, **options):
        super().__init__(**options)
        self.units, self.state_size, self.output_size = units, units * units, units

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], 3 * self.units), name="kernel")
        super().build(shape)

    def call(self, x, states):
        query, key, value = ops.split(ops.tanh(ops.matmul(x, self.kernel)), 3, axis=-1)
        memory = 0.8 * ops.reshape(states[0], (-1, self.units, self.units))
        memory = memory + ops.expand_dims(value, 2) * ops.expand_dims(key, 1)
        read = ops.squeeze(ops.matmul(memory, ops.expand_dims(query, 2)), 2)
        return read, [ops.reshape(memory, (-1, self.units * self.units))]

    def get_config(self):
        return {**super().get_config(), "units": self.units}


def functional(build: Callable, *shapes: tuple[int, ...]) -> Callable[[], keras.Model]:
    def make() -> keras.Model:
        inputs = [keras.Input(shape) for shape in shapes]
        return keras.Model(inputs, build(*inputs))

    return make


def _encoder_decoder(x, y):
    _, h, c = layers.LSTM(4, return_state=True)(x)
    decoded, *states = layers.LSTM(4, return_sequences=True, return_state=True)(y, initial_state=[h, c])
    return [layers.Dense(2)(decoded), *states]


def _attention_pooling(x):
    h = layers.LSTM(4, return_sequences=True)(x)
    weights = layers.Softmax(axis=1)(layers.Dense(1)(h))
    return layers.Flatten()(layers.Dot(axes=1)([weights, h]))


def _causal(x):
    h = layers.GRU(4, return_sequences=True)(x)
    y, scores = layers.Attention(score_mode="concat", use_scale=True)(
        [h, h], use_causal_mask=True, return_attention_scores=True
    )
    return [layers.MultiHeadAttention(2, 3)(h, y, use_causal_mask=True), scores]


def _masked_heads(tokens):
    x = layers.Embedding(9, 4, mask_zero=True)(tokens)
    return layers.LSTM(3)(layers.MultiHeadAttention(2, 3)(x, x))


def _masked_attention(tokens):
    h = layers.LSTM(4, return_sequences=True)(layers.Embedding(9, 4, mask_zero=True)(tokens))
    y = layers.Attention()([h, layers.AdditiveAttention()([h, h])], use_causal_mask=True)
    return layers.GlobalAveragePooling1D()(y)


def _products(x, y, v):
    scores = layers.Dot(axes=(2, 2), normalize=True)([x, y])
    mixed = layers.Dot(axes=(2, 1))([layers.Softmax()(scores), y])
    over_time = layers.Dot(axes=(1, 1))([x, layers.Dense(3)(y)])
    return [
        mixed,
        over_time,
        layers.Dot(axes=(2, 1))([y, v]),
        layers.Dot(axes=1, normalize=True)([v, layers.Dense(F)(v)]),
    ]


@keras.saving.register_keras_serializable(package="tests")
class WithConstant(keras.layers.Layer):
    """What is not computed from the input, but given with it."""

    def call(self, x):
        return 1 * x, ops.convert_to_tensor(np.array([[0.3, -0.2, 0.1]], "float32"))


def _constant(x):
    x, constant = WithConstant()(x)
    return layers.Add()([layers.Dense(4)(constant), layers.LSTM(4)(x)])


def _tokens_twice(x, tokens):
    both = layers.Concatenate()([x, layers.Embedding(9, 2)(tokens)])
    return layers.Concatenate()([layers.LSTM(3)(both), layers.Dense(2)(tokens)])


def _operations(x):
    h = klc.LSTM(3, return_sequences=True)(x[:, 1::2])
    return ops.concatenate([ops.max(x, axis=1) - 0.5 * x[:, -1], ops.mean(h, axis=1)], axis=-1)


def _masked(tokens, x):
    e = layers.Embedding(9, 4, mask_zero=True)(tokens)
    y = layers.Bidirectional(layers.LSTM(3, return_sequences=True))(e)
    y = layers.TimeDistributed(layers.Dense(3, activation="tanh"))(y)
    z = layers.Masking(0.0)(x)
    both = layers.Concatenate()([y, layers.GRU(3, return_sequences=True)(z)])
    return [layers.LSTM(3, go_backwards=True)(y), layers.GlobalAveragePooling1D()(y), klc.VanillaRNN(2)(both)]


MODELS: dict[str, Callable[[], keras.Model]] = {
    "lstm": lambda: sequential(layers.LSTM(6), layers.Dense(3, activation="softmax")),
    "ours": lambda: sequential(klc.LSTM(6, return_sequences=True), klc.LSTM(4), layers.Dense(3)),
    "gru": lambda: sequential(layers.GRU(6, return_sequences=True), klc.GRU(4, reset_after=False), layers.Dense(2)),
    "rnn": lambda: sequential(layers.SimpleRNN(6, return_sequences=True), klc.VanillaRNN(4, go_backwards=True)),
    "slstm": lambda: sequential(klc.SLSTM(6, heads=2, return_sequences=True), layers.Dense(2)),
    **{
        f"lstm {' '.join(options)}": _lstm(options)
        for options in LSTM_OPTIONS
    },
    "own cell": lambda: sequential(Leaky(4, return_sequences=True), Leaky(3, return_state=True)),
    "stacked cells": lambda: sequential(layers.RNN([layers.LSTMCell(4), layers.GRUCell(3), klc.LSTMCell(2)])),
    "bidirectional": lambda: sequential(
        layers.Bidirectional(layers.LSTM(6, return_sequences=True)),
        layers.Bidirectional(klc.GRU(4), merge_mode="ave"),
        layers.Dense(2),
    ),
    "convolutions": lambda: sequential(
        layers.Conv1D(4, 3, padding="causal", activation="relu"),
        layers.SeparableConv1D(6, 3, padding="same", strides=2, depth_multiplier=2),
        layers.DepthwiseConv1D(2, depth_multiplier=2, activation="gelu"),
        layers.LSTM(3),
    ),
    "more convolutions": lambda: sequential(
        layers.Conv1D(4, 2, dilation_rate=2), layers.Conv1D(6, 2, groups=2), layers.LSTM(3, return_sequences=True)
    ),
    "crnn": lambda: sequential(
        layers.Conv2D(3, (3, 3), padding="same", activation="relu"),
        layers.BatchNormalization(),
        layers.MaxPooling2D((1, 2)),
        layers.Conv2D(4, (2, 3), strides=(2, 1)),
        layers.AveragePooling2D((1, 2)),
        layers.TimeDistributed(layers.Flatten()),
        layers.GRU(3, return_sequences=True),
        shape=(9, 12, 2),
    ),
    "planes": lambda: sequential(
        layers.Conv2D(3, 2, padding="same"),
        layers.MaxPooling2D((2, 3), padding="same"),
        layers.AveragePooling2D((3, 2), strides=(2, 1), padding="same"),
        layers.GlobalAveragePooling2D(),
        shape=(7, 8, 2),
    ),
    "sequences within steps": lambda: sequential(
        layers.TimeDistributed(layers.Conv1D(4, 3, activation="relu")),
        layers.TimeDistributed(layers.Bidirectional(layers.GRU(3))),
        layers.LSTM(3),
        shape=(4, 6, 2),
    ),
    "pooling": lambda: sequential(
        layers.MaxPooling1D(2, padding="same"),
        layers.AveragePooling1D(3, strides=1, padding="same"),
        layers.GRU(3, return_sequences=True),
        layers.GlobalMaxPooling1D(),
    ),
    "normalisation": lambda: sequential(
        layers.Normalization(mean=np.arange(F) / 4, variance=np.arange(F) + 1.0),
        layers.BatchNormalization(),
        layers.LSTM(4, return_sequences=True),
        layers.LayerNormalization(),
        layers.Rescaling(0.5, 0.1),
        layers.BatchNormalization(scale=False),
        layers.Dense(3),
    ),
    "shapes": lambda: sequential(
        layers.Permute((2, 1)),
        layers.ZeroPadding1D(1),
        layers.LSTM(4, return_sequences=True),
        layers.Cropping1D((1, 2)),
        layers.UpSampling1D(2),
        layers.Reshape((4, -1)),
        layers.Dropout(0.5),
        layers.SimpleRNN(3, return_sequences=True),
        layers.Flatten(),
        layers.Dense(2),
    ),
    "words of sentences": lambda: sequential(
        layers.TimeDistributed(
            keras.Sequential([keras.Input((T,)), layers.Embedding(9, 3, mask_zero=True), layers.LSTM(4)])
        ),
        layers.GRU(3),
        shape=(3, T),
    ),
    "autoencoder": lambda: sequential(
        layers.LSTM(4),
        layers.RepeatVector(T),
        layers.LSTM(4, return_sequences=True),
        layers.TimeDistributed(layers.Dense(F)),
    ),
    "encoder and decoder": functional(_encoder_decoder, (T, F), (4, 3)),
    "initial states": functional(
        lambda x, h: layers.Bidirectional(layers.GRU(3, return_state=True))(x, initial_state=[h, h * 2.0]), (T, F), (3,)
    ),
    "merges": functional(
        lambda x, v: layers.Multiply()([
            layers.Add()([layers.LSTM(4, return_sequences=True)(x), layers.Dense(4)(x)]),
            layers.RepeatVector(T)(layers.Subtract()([v, layers.Maximum()([v, layers.Dense(4)(v)])])),
        ]),
        (T, F), (4,),
    ),
    "attention": functional(
        lambda x, y: layers.Attention(use_scale=True)([layers.LSTM(4, return_sequences=True)(x), layers.Dense(4)(y)]),
        (T, F), (3, 2),
    ),
    "additive attention": functional(
        lambda x: layers.AdditiveAttention()([layers.Dense(4)(x), layers.GRU(4, return_sequences=True)(x)]), (T, F)
    ),
    "heads of attention": functional(
        lambda x: layers.MultiHeadAttention(2, 3)(layers.LSTM(4, return_sequences=True)(x), x), (T, F)
    ),
    "causal attention": functional(_causal, (T, F)),
    "masked heads": functional(_masked_heads, (T,)),
    "masked attention": functional(_masked_attention, (T,)),
    "products": functional(_products, (T, F), (T, F), (F,)),
    "a product of one's own": lambda: sequential(OwnAttention(), layers.RNN(FastWeights(2), return_sequences=True)),
    "attention over time": functional(_attention_pooling, (T, F)),
    "masks": functional(_masked, (T,), (T, F)),
    "operations": functional(_operations, (T, F)),
    "the last input": functional(lambda x: layers.Concatenate()([layers.LSTM(3)(x), x[:, -1]]), (T, F)),
    "tokens as steps and as a vector": functional(_tokens_twice, (T, F), (T,)),
    "a vector as steps": functional(
        lambda x, v: layers.LSTM(3)(layers.Concatenate()([x, layers.Reshape((T, 2))(layers.Dense(2 * T)(v))])),
        (T, F), (4,),
    ),
    "a product of a constant": functional(_constant, (T, F)),
    "masked tokens": lambda: sequential(layers.Embedding(9, 3, mask_zero=True), layers.GRU(4), shape=(T,)),
    "a layer of one's own": lambda: sequential(Scaled(), layers.LSTM(3)),
    "more activations": lambda: sequential(
        layers.Dense(4), layers.ReLU(2.0, negative_slope=0.1, threshold=0.2), layers.PReLU(shared_axes=[1]),
        layers.ELU(0.5), layers.LeakyReLU(negative_slope=0.3), layers.Activation("tanh"), layers.Softmax(),
        layers.LSTM(2),
    ),
    "nested": lambda: sequential(
        keras.Sequential([keras.Input((T, F)), layers.LSTM(4, return_sequences=True)]), layers.LSTM(3), layers.Dense(2)
    ),
    **{f"activation {name}": _activation(name) for name in ACTIVATIONS},
}  # fmt: skip


if Version(keras.__version__) < Version("3.13"):  # in 3.10 Keras itself raises: at two masks, and at an open batch
    del MODELS["masked attention"], MODELS["masks"]


def randomised(model: keras.Model, seed: int = 3) -> keras.Model:
    """Return the model with noise on all weights, so that no bias is zero and no two gates are alike."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        if "seed" not in weight.path:
            noise = rng.uniform(0.5, 1.5) if "variance" in weight.path else 0.3 * rng.standard_normal(weight.shape)
            weight.assign(np.asarray(weight) + noise)
    return model


def inputs_for(model: keras.Model, rows: int, seed: int = 5) -> list[np.ndarray]:
    """Return input with masked steps: tokens of which some are 0, and steps of zeros."""
    rng = np.random.default_rng(seed)
    arrays = []
    for tensor in model.inputs:
        shape = (rows, *tensor.shape[1:])
        x = rng.standard_normal(shape).astype(np.float32)
        if shape[-1] == T:
            x = rng.integers(0, 9, shape).astype(np.float32)
            x[0, ..., :2] = 0
        elif len(shape) == 3:
            x[:, min(3, shape[1] - 1)] = 0
        arrays.append(x)
    return arrays
