"""Streamed integer files against the Keras model on whole sequences: random models, one step per invocation.

    python benchmarks/export_streaming.py --count 10

Each model is an LSTM(6) with noise on its weights, read by a Dense(2) at every step and by a vanilla RNN(4) whose
last state is the second output. The errors are root mean squared over the 4 held-back sequences of 12 steps, as a
share of the standard deviation of the model's output; of the runtimes on which a file runs, the worse counts.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import keras
import numpy as np

from keras_lstm_custom import LSTM, VanillaRNN, export

TIMESTEPS, FEATURES = 12, 3
CALIBRATION = 64
#: State, kind of integers, and where the file runs.
FORMS = [("kept", "int8", "both"), ("explicit", "int8", "both"), ("explicit", "int16x8", "both")]


def random_model(seed: int) -> keras.Model:
    """Return the model with noise on all its weights."""
    keras.utils.set_random_seed(seed)
    x = keras.Input((None, FEATURES))
    h = LSTM(6, return_sequences=True)(x)
    model = keras.Model(x, [keras.layers.Dense(2, name="of_lstm")(h), VanillaRNN(4, name="of_rnn")(h)])
    rng = np.random.default_rng(seed)
    model.set_weights([w + 0.2 * rng.standard_normal(w.shape) for w in model.get_weights()])
    return model


def errors(model: keras.Model, state: str, quantize: str, runtime: str, x: np.ndarray) -> dict[str, float]:
    """Return the error of each output, of the runtime where it is larger."""
    with tempfile.TemporaryDirectory() as folder:
        options = {"runtime": runtime, "bound": 1e9}  # whatever it is, it is shown
        report = export.streaming(model, f"{folder}/step.tflite", state, quantize, x, **options)
    found: dict[str, float] = {}
    for check in report.checks:
        for output in check.outputs:
            found[output.name] = max(found.get(output.name, 0.0), output.relative_to_signal)
    return found


def main() -> None:
    """Print the table, and the range of each column."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10)
    count = parser.parse_args().count
    x = np.random.default_rng(1).standard_normal((CALIBRATION, TIMESTEPS, FEATURES)).astype("float32")
    columns = [f"{state} {quantize} {name}" for state, quantize, _ in FORMS for name in ("of_lstm", "of_rnn")]
    print("seed  " + "  ".join(columns))
    table = []
    for seed in range(count):
        model = random_model(seed)
        rows = [errors(model, *form, x) for form in FORMS]
        table.append([row[name] for row in rows for name in ("of_lstm", "of_rnn")])
        cells = (f"{value:{len(column)}.3f}" for value, column in zip(table[-1], columns, strict=True))
        print(f"{seed:4}  " + "  ".join(cells), flush=True)
    for column, values in zip(columns, zip(*table, strict=True), strict=True):
        print(f"{column}: {min(values):.1%} to {max(values):.1%}")


if __name__ == "__main__":
    main()
