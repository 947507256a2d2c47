"""Models that the export tests share, each a function of no arguments."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np

import keras_lstm_custom as klc

layers = keras.layers

T, F = 7, 5  #: timesteps and features of every model that does not say otherwise


def randomised(model: keras.Model, amount: float = 0.2, seed: int = 3) -> keras.Model:
    """Return the model with noise on all weights, so that no bias is zero and no two gates are alike."""
    rng = np.random.default_rng(seed)
    model.set_weights([w + amount * rng.standard_normal(w.shape).astype(w.dtype) for w in model.get_weights()])
    return model


def inputs_for(model: keras.Model, rows: int, seed: int = 5, timesteps: int = T) -> list[np.ndarray]:
    """Return random input for a model, one array for each of its inputs."""
    rng = np.random.default_rng(seed)
    arrays = []
    for tensor in model.inputs:
        shape = (rows, *(timesteps if size is None else size for size in tensor.shape[1:]))
        if "int" in str(tensor.dtype):
            arrays.append(rng.integers(0, 11, shape).astype(tensor.dtype))
        else:
            arrays.append(rng.standard_normal(shape).astype(np.float32))
    return arrays


def timesteps_of(model: keras.Model) -> int | None:
    """Return what to pass as `timesteps` for a model: something only where it leaves the length open."""
    return T if any(None in tensor.shape[1:] for tensor in model.inputs) else None


def _sequential(*parts, shape=(T, F), **kwargs) -> keras.Model:
    return keras.Sequential([keras.Input(shape, **kwargs), *parts])


def ours() -> keras.Model:
    return _sequential(klc.LSTM(6, return_sequences=True), klc.LSTM(4), layers.Dense(3))


def theirs() -> keras.Model:
    return _sequential(layers.LSTM(6, return_sequences=True), layers.LSTM(4), layers.Dense(3))


def open_length() -> keras.Model:
    return _sequential(layers.LSTM(6, return_sequences=True), shape=(None, F))


def bidirectional() -> keras.Model:
    return _sequential(
        layers.Bidirectional(layers.LSTM(6, return_sequences=True)),
        layers.Bidirectional(klc.LSTM(4), merge_mode="sum"),
        layers.Dense(2),
    )


def two_cell_sizes() -> keras.Model:
    return _sequential(layers.Bidirectional(layers.LSTM(6), backward_layer=layers.LSTM(3, go_backwards=True)))


def convolution() -> keras.Model:
    return _sequential(layers.Conv1D(8, 3, activation="relu"), layers.LSTM(6), layers.Dense(4, activation="softmax"))


def backwards() -> keras.Model:
    return _sequential(klc.LSTM(6, go_backwards=True, return_sequences=True), layers.LSTM(4, go_backwards=True))


def no_bias() -> keras.Model:
    return _sequential(layers.LSTM(6, use_bias=False))


def cells() -> keras.Model:
    return _sequential(
        layers.RNN(layers.LSTMCell(6), return_sequences=True),
        layers.RNN([klc.LSTMCell(4), layers.SimpleRNNCell(3), layers.LSTMCell(5)]),
    )


def vanilla() -> keras.Model:
    return _sequential(layers.SimpleRNN(6, return_sequences=True), klc.VanillaRNN(4), layers.Dense(2))


def vanilla_sequences() -> keras.Model:
    return _sequential(layers.Bidirectional(layers.SimpleRNN(6, return_sequences=True)))


def skip() -> keras.Model:
    x = keras.Input((T, F))
    h = layers.LSTM(6, return_sequences=True)(x)
    return keras.Model(x, layers.Add()([h, layers.LSTM(6, return_sequences=True)(h)]))


def skip_concatenate() -> keras.Model:
    x = keras.Input((T, F))
    h = layers.LSTM(6, return_sequences=True)(x)
    return keras.Model(x, layers.Dense(3)(layers.Concatenate()([x, h, layers.LSTM(4, return_sequences=True)(h)])))


def several() -> keras.Model:
    """Two inputs whose order is not that of the alphabet, three outputs of different shapes."""
    z, a = keras.Input((T, F), name="zulu"), keras.Input((3,), name="alpha")
    h = layers.LSTM(6, return_sequences=True)(z)
    last = layers.Concatenate()([layers.LSTM(4)(h), a])
    return keras.Model(
        [z, a], [layers.Dense(2, name="yes")(last), h, layers.Dense(3, activation="sigmoid", name="class")(last)]
    )


def nested() -> keras.Model:
    inner = keras.Sequential([keras.Input((T, F)), layers.LSTM(6, return_sequences=True)], name="inner")
    x = keras.Input((T, F))
    return keras.Model(x, layers.Dense(2)(layers.LSTM(4)(inner(x))))


def shared() -> keras.Model:
    """One layer called on two inputs."""
    layer = layers.LSTM(6)
    a, b = keras.Input((T, F), name="a"), keras.Input((T, F), name="b")
    return keras.Model([a, b], layers.Subtract()([layer(a), layer(b)]))


def time_distributed() -> keras.Model:
    return _sequential(layers.TimeDistributed(layers.LSTM(6)), layers.LSTM(4), shape=(3, T, F))


def embedding() -> keras.Model:
    return _sequential(layers.Embedding(11, F), layers.LSTM(6), layers.Dense(2), shape=(T,), dtype="int32")


def state_from_input() -> keras.Model:
    x, z = keras.Input((T, F), name="x"), keras.Input((3,), name="z")
    h, c = layers.Dense(6, activation="tanh")(z), layers.Dense(6)(z)
    return keras.Model([x, z], layers.LSTM(6, return_sequences=True)(x, initial_state=[h, c]))


def state_is_input() -> keras.Model:
    x, h, c = keras.Input((T, F), name="x"), keras.Input((6,), name="h"), keras.Input((6,), name="c")
    return keras.Model([x, h, c], layers.LSTM(6, return_sequences=True, return_state=True)(x, initial_state=[h, c]))


def constant_state() -> keras.Model:
    x = keras.Input((T, F))
    h = keras.ops.tile(keras.ops.convert_to_tensor(np.linspace(-0.9, 0.9, 6, dtype="float32")[None]), (1, 1))
    zero = keras.ops.sum(keras.ops.zeros_like(x), axis=(1, 2), keepdims=False)[:, None]
    return keras.Model(x, layers.LSTM(6)(x, initial_state=[zero + h, zero + 2 * h]))


def returned_state() -> keras.Model:
    x = keras.Input((T, F))
    return keras.Model(x, list(layers.LSTM(6, return_sequences=True, return_state=True)(x)))


def encoder_decoder() -> keras.Model:
    x, y = keras.Input((T, F), name="source"), keras.Input((4, 3), name="target")
    _, h, c = layers.LSTM(6, return_state=True)(layers.Conv1D(8, 3, activation="relu")(x))
    return keras.Model([x, y], layers.LSTM(6, return_sequences=True)(y, initial_state=[h, c]))


def normalised() -> keras.Model:
    return _sequential(layers.BatchNormalization(), layers.LSTM(6, return_sequences=True), layers.LayerNormalization())


def pooled() -> keras.Model:
    return _sequential(
        layers.Conv1D(8, 3, padding="same", activation="relu"),
        layers.MaxPooling1D(2),
        layers.LSTM(6, return_sequences=True),
        layers.GlobalAveragePooling1D(),
        layers.Dense(3, activation="sigmoid"),
    )


def hardly_moving() -> keras.Model:
    """A sigmoid within 0.01 of 0.5, which takes 5 of the 256 steps of int8. Not in MODELS."""
    model = randomised(_sequential(layers.LSTM(6), layers.Dense(2, "sigmoid", name="p")))
    kernel, bias = model.layers[-1].get_weights()
    model.layers[-1].set_weights([0.02 * kernel, 0 * bias])
    return model


#: Every model by name. All are exported in float, and in int8.
MODELS: dict[str, Callable[[], keras.Model]] = {
    build.__name__: build
    for build in (
        ours,
        theirs,
        open_length,
        bidirectional,
        two_cell_sizes,
        convolution,
        backwards,
        no_bias,
        cells,
        vanilla,
        vanilla_sequences,
        skip,
        skip_concatenate,
        several,
        nested,
        shared,
        time_distributed,
        embedding,
        state_from_input,
        state_is_input,
        constant_state,
        returned_state,
        encoder_decoder,
        normalised,
        pooled,
    )
}
