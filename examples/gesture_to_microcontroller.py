"""Recognise a motion from an accelerometer on a microcontroller: trained by `fit`, exported, proved on the test set.

    python examples/gesture_to_microcontroller.py

The data is BasicMotions (aeon's, in its wheel): 6 channels of a smart watch's accelerometer and gyroscope, 100 steps
(10 s), four motions, 40 recordings to learn from and 40 to test. A convolution that halves the rate, an LSTM and a
softmax learn to tell them apart. The float model, int8 and int16x8 are then run on the test set by the
interpreter of TensorFlow Lite for Microcontrollers.

`runs/gesture/` gets the model, a folder of C++ files for each kind, and `results.json`.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

from keras_lstm_custom import LSTM, export, writing
from keras_lstm_custom.export.running.runtimes import run_file

#: What is exported, by the name of its folder.
KINDS = {"float32": None, "int8": "int8", "int16x8": "int16x8"}


def load() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, list[str]]:
    """Return recordings (rows, 100, 6) and class numbers to learn from and to test, and the classes' names."""
    from aeon.datasets import load_basic_motions

    (x_train, y_train), (x_test, y_test) = (load_basic_motions(split=split) for split in ("train", "test"))
    names, classes = np.unique([*y_train, *y_test], return_inverse=True)
    x_train, x_test = (x.transpose(0, 2, 1).astype("float32") for x in (x_train, x_test))
    mean, deviation = x_train.mean((0, 1)), x_train.std((0, 1))
    x_train, x_test = ((x - mean) / deviation for x in (x_train, x_test))
    count = len(y_train)
    return x_train, classes[:count], x_test, classes[count:], [str(name) for name in names]


def build(timesteps: int, features: int, classes: int, units: int) -> keras.Model:
    """Return the untrained classifier."""
    return keras.Sequential(
        [
            keras.Input((timesteps, features), name="motion"),
            keras.layers.Conv1D(16, 5, strides=2, activation="relu"),
            LSTM(units, dropout=0.2),
            keras.layers.Dense(classes, activation="softmax", name="probability"),
        ],
        name="gesture",
    )


def run(
    out: Path = Path("runs/gesture"), *, units: int = 24, epochs: int = 60, seed: int = 1, verbose: int = 0
) -> dict:
    """Train, export, and measure; return accuracy, flash, arena and error of each kind."""
    keras.utils.set_random_seed(seed)
    x_train, y_train, x_test, y_test, names = load()
    model = build(*x_train.shape[1:], len(names), units)
    model.compile(keras.optimizers.Adam(5e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(x_train, y_train, batch_size=8, epochs=epochs, verbose=verbose)
    with writing.new_file(out / "gesture.keras") as file:
        model.save(file)

    by_keras = model.predict(x_test, verbose=0)
    kinds: dict[str, Any] = {"keras": {"accuracy": accuracy(by_keras, y_test)}}
    for kind, quantize in KINDS.items():
        folder = out / kind
        written = export.micro(model, folder, quantize, calibration=x_train, name="gesture")
        (probabilities,) = run_file(folder / "model.tflite", x_test, "micro").outputs
        kinds[kind] = {
            "accuracy": accuracy(probabilities, y_test),
            "flash_bytes": written.bytes,
            "arena_bytes": written.arena_bytes,
            "rmse": float(np.sqrt(np.mean((probabilities - by_keras) ** 2))),
            "max_error": float(np.max(np.abs(probabilities - by_keras))),
            "confusion": confusion(by_keras, probabilities, len(names)),
        }
    results = {"classes": names, "test_rows": len(x_test), "parameters": model.count_params(), "kinds": kinds}
    writing.write_text(out / "results.json", json.dumps(results, indent=2) + "\n")
    return results


def accuracy(probabilities: np.ndarray, classes: np.ndarray) -> float:
    """Return the share of rows whose likeliest class is the true one."""
    return float(np.mean(probabilities.argmax(1) == classes))


def confusion(by_keras: np.ndarray, by_file: np.ndarray, classes: int) -> list[list[int]]:
    """Count the rows by the class that Keras gives (down) and the class that the file gives (across)."""
    counts = np.zeros((classes, classes), int)
    np.add.at(counts, (by_keras.argmax(1), by_file.argmax(1)), 1)
    return counts.tolist()


def show(results: dict) -> None:
    """Print the table and the confusion matrices."""
    print(
        f"{results['parameters']:,} parameters; {results['test_rows']} test recordings on the microcontroller runtime\n"
    )
    print(f"{'':<9} {'accuracy':>9} {'flash':>9} {'arena':>9} {'rmse':>10} {'max error':>10}")
    for kind, found in results["kinds"].items():
        accuracy = f"{kind:<9} {found['accuracy']:>9.1%}"
        if kind == "keras":
            print(accuracy)
            continue
        print(
            f"{accuracy} {found['flash_bytes']:>9,} {found['arena_bytes']:>9,}"
            f" {found['rmse']:>10.5f} {found['max_error']:>10.5f}"
        )
    width = max(map(len, results["classes"]))
    for kind, found in results["kinds"].items():
        if "confusion" in found:
            print(f"\nclass by Keras (down) and by the {kind} file (across)")
            print(" " * (width + 1) + " ".join(f"{name:>{width}}" for name in results["classes"]))
            for name, row in zip(results["classes"], found["confusion"], strict=True):
                print(f"{name:<{width}} " + " ".join(f"{count:>{width}}" for count in row))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/gesture"), help="folder for the results")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--units", type=int, default=24, help="of the LSTM")
    arguments = parser.parse_args()
    show(run(arguments.out, units=arguments.units, epochs=arguments.epochs, verbose=2))
