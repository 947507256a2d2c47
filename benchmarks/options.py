"""Options beside the plain layer, engine by engine: `python benchmarks/options.py [name ...] [--shape B T F U]`.

What the rules of `engines/measured.py` rest on: few steps, masks, dropout, other cells, other dtypes, against the Keras
layer with the same options (its plain LSTM for a cell or option that it has not), in a graph of unknown batch size, as
in `fit` and `predict`; with `--eager`, called eagerly. All engines, and what `auto` takes, have their turns in one run;
a figure is the median, in milliseconds, and behind it how many times as fast as Keras that is.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import time
from pathlib import Path

from layers import predict_function

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

#: What Keras has for each of our layers.
TWINS = {"LSTM": "LSTM", "VanillaRNN": "SimpleRNN", "GRU": "GRU", "SLSTM": "LSTM", "own": "LSTM"}
#: (batch, steps, features, units)
SHAPES = [(1, 100, 32, 128), (32, 100, 32, 128), (64, 100, 64, 256), (128, 50, 128, 512), (32, 500, 16, 64)]
SHAPES += [(32, 1, 64, 256)]
#: name: (our layer and Keras', masked?, options of the layer)
OPTIONS = {
    "plain": ("LSTM", False, {}),
    "mask": ("LSTM", True, {}),
    "dropout": ("LSTM", False, {"dropout": 0.2}),
    "recurrent_dropout": ("LSTM", False, {"recurrent_dropout": 0.2}),
    "float64": ("LSTM", False, {"dtype": "float64"}),
    "mixed_float16": ("LSTM", False, {"dtype": "mixed_float16"}),
    "mixed_bfloat16": ("LSTM", False, {"dtype": "mixed_bfloat16"}),
    "vanilla_rnn": ("VanillaRNN", False, {}),
    "vanilla_rnn mask": ("VanillaRNN", True, {}),
    "vanilla_rnn dropout": ("VanillaRNN", False, {"dropout": 0.2, "recurrent_dropout": 0.2}),
    "vanilla_rnn float16": ("VanillaRNN", False, {"dtype": "mixed_float16"}),
    "vanilla_rnn bfloat16": ("VanillaRNN", False, {"dtype": "mixed_bfloat16"}),
    "gru": ("GRU", False, {}),
    "gru mask": ("GRU", True, {}),
    "gru before": ("GRU", False, {"reset_after": False}),
    "peepholes": ("LSTM", False, {"peepholes": True}),
    "coupled": ("LSTM", False, {"coupled": True}),
    "projection": ("LSTM", False, {"projection": 32}),
    "gate norm": ("LSTM", False, {"layer_normalization": "gate"}),
    "joint norm": ("LSTM", False, {"layer_normalization": "joint"}),
    "zoneout": ("LSTM", False, {"zoneout": 0.1, "cell_zoneout": 0.1}),
    "slstm": ("SLSTM", False, {"heads": 4}),
    "own cell": ("own", False, {}),
}
WAYS = {True: "training", False: "inference"}
SECONDS, MOST = 1.5, 30  #: how long each row is measured, and how many turns at most


def own_layer():
    """Return the layer that `docs/your-own-cell.md` writes."""
    page = (Path(__file__).parents[1] / "docs" / "your-own-cell.md").read_text()
    names = {"__name__": "__page__"}
    exec(re.search(r"```python\n(.*?)```", page, re.DOTALL).group(1), names)
    return names["MinimalGatedUnit"]


def candidates(shape, name, masked, options, training, eager=False):
    """Return a function without arguments, compiled unless `eager`, for Keras and each engine that serves."""
    import keras
    import numpy as np

    import keras_lstm_custom as klc

    batch, steps, features, units = shape
    lengths = np.random.default_rng(0).integers(max(1, steps // 2), steps + 1, batch)  # right padding
    mask = np.arange(steps) < lengths[:, None] if masked else None
    keras_class = getattr(keras.layers, TWINS[name])
    our_class = own_layer() if name == "own" else getattr(klc, name)
    known = {option: value for option, value in options.items() if option == "dtype" or hasattr(keras_class, option)}
    layers = {"keras": keras_class(units, return_sequences=True, **known)}
    for engine in ("reference", "derived", "portable", "native", "auto"):
        layer = our_class(units, return_sequences=True, engine=engine, **options)
        if layer.explain_engine(shape[:3], masked=masked, training=training).chosen:
            layers[engine] = layer
    if keras.backend.backend() != "tensorflow":
        import backends

        functions = backends.FUNCTIONS[keras.backend.backend()](shape, layers, mask, training)
        return {name: functions[name] for name in layers}
    import tensorflow as tf

    call = [tf.random.normal((batch, steps, features)), *([] if mask is None else [tf.constant(mask)])]
    functions = {}
    for name, layer in layers.items():
        layer.build((None, steps, features))
        if not training:
            functions[name] = (
                (lambda layer=layer: layer(call[0], mask=call[-1] if masked else None))
                if eager
                else predict_function(layer, *call)
            )
            continue

        def run(x, mask=None, layer=layer):
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(tf.cast(layer(x, mask=mask, training=True), "float32") ** 2)
            return tape.gradient(loss, [w.value for w in layer.weights])

        if eager:
            functions[name] = lambda run=run: run(*call)
            continue
        signature = [tf.TensorSpec((None, *value.shape[1:]), value.dtype) for value in call]
        compiled = tf.function(run, input_signature=signature, autograph=False)
        functions[name] = lambda compiled=compiled: compiled(*call)
    return functions


def measure(functions) -> dict[str, float]:
    """Return the median milliseconds of each, all taking turns."""
    for run in functions.values():
        run(), run()
    times = {name: [] for name in functions}
    names = list(functions)
    end = time.perf_counter() + SECONDS
    while (turn := len(times["keras"])) < 4 or (time.perf_counter() < end and turn < MOST):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:  # nobody always follows the same
            start = time.perf_counter()
            functions[name]()
            times[name].append(1e3 * (time.perf_counter() - start))
    return {name: statistics.median(values) for name, values in times.items()}


def means(rows: list[dict[str, float]]) -> list[str]:
    """Return how many times as fast as Keras, and as `reference`, each is over shapes of more than one step."""
    names = [name for name in rows[0] if all(name in row for row in rows)]

    def mean(slow: str, name: str) -> float:
        return statistics.geometric_mean(row[slow] / row[name] for row in rows)

    return [f"{name} {mean('keras', name):.2f} (reference {mean('reference', name):.2f})" for name in names[1:]]


def main() -> None:
    """Measure and print one row at a time."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", choices=[*OPTIONS, []], help="which options; all if none is named")
    parser.add_argument("--eager", action="store_true", help="call the layers eagerly, not in a graph")
    parser.add_argument("--shape", type=int, nargs=4, action="append", help="instead of the six shapes")
    arguments = parser.parse_args()
    for name in arguments.names or OPTIONS:
        layer, masked, options = OPTIONS[name]
        found = {True: [], False: []}
        for shape in arguments.shape or SHAPES:
            for training in (True, False):
                if not training and "dropout" in name:
                    continue  # no dropout there
                median = measure(candidates(tuple(shape), layer, masked, options, training, arguments.eager))
                if shape[1] > 1:
                    found[training].append(median)
                figures = [f"{key} {ms:.2f} ({median['keras'] / ms:.2f})" for key, ms in median.items()]
                way = WAYS[training]
                print(f"{name:<20} {', '.join(map(str, shape)):<18} {way:<10}", *figures, flush=True)
        for training, rows in found.items():
            if rows:
                print(f"{name:<20} {'geometric mean':<18} {WAYS[training]:<10}", *means(rows), flush=True)


if __name__ == "__main__":
    main()
