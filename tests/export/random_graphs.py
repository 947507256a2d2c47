"""Random recurrent models: 1 to 4 layers, T 1 to 100, units 4 to 128, with what people build around LSTMs."""

from __future__ import annotations

from functools import partial

import keras
import numpy as np

import keras_lstm_custom as klc

layers = keras.layers


KINDS = (klc.LSTM, layers.LSTM, layers.LSTM, klc.VanillaRNN)
#: Cells that only plain C, and loops, can express.
VARIANTS = (
    layers.GRU,
    klc.GRU,
    klc.SLSTM,
    *(
        partial(klc.LSTM, **options)
        for options in (
            {"peepholes": True},
            {"coupled": True, "zoneout": 0.1},
            {"layer_normalization": "gate"},
            {"layer_normalization": "joint", "peepholes": True},
            {"cell_clip": 1.0, "recurrent_activation": "hard_sigmoid"},
        )
    ),
)


def random_graph(
    seed: int, largest_units: int = 128, longest: int = 100, randomise: bool = True, variants: bool = False
) -> keras.Model:
    """Return a model with random graph, sizes and weights; the same for the same seed.

    With `randomise=False` the weights are what the initializers draw; with `variants` the cells are of `VARIANTS`.
    """
    rng = np.random.default_rng(seed)
    keras.utils.set_random_seed(seed)

    def pick(*choices):
        return choices[rng.integers(len(choices))]

    timesteps = int(np.round(np.exp(rng.uniform(0, np.log(longest)))))
    inputs = [keras.Input((timesteps, int(rng.integers(1, 17))))]
    h = inputs[0]
    if timesteps >= 6 and rng.random() < 0.3:
        h = layers.Conv1D(int(rng.integers(4, 17)), 3, activation="relu", padding=pick("valid", "same"))(h)
        if rng.random() < 0.3:
            h = layers.MaxPooling1D(2)(h)
    elif rng.random() < 0.2:
        h = layers.BatchNormalization()(h)
    depth = int(rng.integers(1, 5))
    for k in range(depth):
        last = k == depth - 1
        units = int(np.round(np.exp(rng.uniform(np.log(4), np.log(largest_units)))))
        options = {"return_sequences": not last or rng.random() < 0.4, "go_backwards": bool(rng.random() < 0.15)}
        kind = pick(*(VARIANTS if variants else KINDS))
        layer = kind(units, **options)
        if rng.random() < 0.3:
            merge = pick("concat", "sum", "ave", "concat")
            layer = layers.Bidirectional(kind(units, return_sequences=options["return_sequences"]), merge_mode=merge)
        y = layer(h)
        if len(y.shape) == 3 and y.shape[1] == h.shape[1] and rng.random() < 0.4:
            y = layers.Add()([h, y]) if y.shape == h.shape else layers.Concatenate()([h, y])
        if rng.random() < 0.15:
            y = layers.Dropout(0.2)(y)
        h = y
    if len(h.shape) == 3 and rng.random() < 0.4:
        h = layers.GlobalAveragePooling1D()(h)
    if len(h.shape) == 2 and rng.random() < 0.25:
        inputs.append(keras.Input((3,)))
        h = layers.Concatenate()([h, inputs[1]])
    if rng.random() < 0.3:
        h = layers.Dense(int(rng.integers(4, 33)), activation=pick("relu", "tanh", "sigmoid"))(h)
    heads = [
        layers.Dense(int(rng.integers(2, 9)), activation=pick(None, None, "softmax", "sigmoid", "tanh"), name="head")(h)
    ]
    heads += [layers.Dense(2)(h)] if rng.random() < 0.25 else []
    heads = [h] if rng.random() < 0.2 else heads
    model = keras.Model(inputs, heads)
    if randomise:
        _randomise(model, rng)
    return model


def _randomise(model: keras.Model, rng: np.random.Generator) -> None:
    """Add noise in proportion to what the weights are, so that none stays at a start value that hides a fault."""
    changed = []
    for weight in model.weights:
        values = np.asarray(weight)
        if "variance" in weight.path:
            changed.append(rng.uniform(0.5, 2, values.shape))
        elif weight.path.endswith("head/kernel"):
            changed.append(4 * values)  # so that softmax and sigmoid use their range, as after training
        else:
            noise = 0.3 * (values.std() or 0.3) if values.ndim > 1 else 0.1
            changed.append(values + noise * rng.standard_normal(values.shape))
    model.set_weights(changed)


def samples_of(model: keras.Model, rows: int, seed: int = 1) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal((rows, *tensor.shape[1:])).astype(np.float32) for tensor in model.inputs]
