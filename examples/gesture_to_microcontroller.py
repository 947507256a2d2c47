"""Recognise a motion from an accelerometer on a microcontroller: trained by `fit`, exported, proved on the test set.

    python examples/gesture_to_microcontroller.py      # pip install aeon, which holds the data

The data is BasicMotions (aeon's, in its wheel): 6 channels of a smart watch's accelerometer and gyroscope, 100 steps
(10 s), four motions, 40 recordings to learn from and 40 to test. A convolution that halves the rate, an LSTM and a
softmax learn to tell them apart. The model is then written in float, int8 and int16x8, each as plain C and as a package
for TensorFlow Lite for Microcontrollers (TFLM), which runs on the library's own kernels and on those of CMSIS-NN. Both
are run on the test set here: the C by this computer's compiler, the packages by TFLM's interpreter.

`runs/gesture/` gets the model, a folder for each way and kind, and `results.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for the emulator of the tests

import keras
import numpy as np

from keras_lstm_custom import LSTM, export, writing
from keras_lstm_custom.export.running.runtimes import run_file
from tests.export.plain_c import arm

#: What is exported, by the name of its folder.
KINDS = {"float32": None, "int8": "int8", "int16x8": "int16x8"}
WAYS = PLAIN_C, CMSIS_NN, REFERENCE = "plain C", "TFLM, CMSIS-NN", "TFLM, reference"
#: Columns of the table: what they are, and how they are printed.
COLUMNS = {
    "way": "<22",
    "numbers": "<8",
    "flash": ">8,",
    "ram": ">8,",
    "instructions": ">12,",
    "accuracy": ">8.1%",
    "rmse": ">9.5f",
    "max_error": ">9.5f",
}
NOTES = """\
flash: of plain C its code and constants on a Cortex-M4{constants}; of TFLM the model's file, to which the library
adds its own code. ram: of plain C the struct{stack}; of TFLM the arena, that for CMSIS-NN by its formulas.
instructions of one recording: {instructions}; of TFLM they are not counted here, for want of the library.
The kernels of CMSIS-NN run on Arm alone, so that their errors are not known here."""
#: Reads recordings, writes probabilities.
DRIVER = """\
#include <stdio.h>
#include "gesture.h"
static struct gesture m;
static float x[{inputs}], y[{outputs}];
int main(void) {{
  while (fread(x, sizeof x, 1, stdin) == 1) {{
    gesture_run(&m, x, y);
    fwrite(y, sizeof y, 1, stdout);
  }}
  return 0;
}}
"""


def load() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, list[str]]:
    """Return recordings (rows, 100, 6) and class numbers to learn from and to test, and the classes' names."""
    try:
        from aeon.datasets import load_basic_motions
    except ImportError as error:
        raise SystemExit("The recordings are those of the package aeon: pip install aeon") from error

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
    """Train, export, and measure; return what each way costs, and how it errs."""
    keras.utils.set_random_seed(seed)
    x_train, y_train, x_test, y_test, names = load()
    model = build(*x_train.shape[1:], len(names), units)
    model.compile(keras.optimizers.Adam(5e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(x_train, y_train, batch_size=8, epochs=epochs, verbose=verbose)
    with writing.new_file(out / "gesture.keras") as file:
        model.save(file)

    by_keras = model.predict(x_test, verbose=0)
    rows: list[dict[str, Any]] = []
    confusions = {}
    for numbers, quantize in KINDS.items():
        for row, probabilities in (
            *plain_c(model, out, quantize, x_train, x_test),
            *tflm(model, out, quantize, x_train, x_test),
        ):
            row["numbers"] = numbers
            if probabilities is not None:
                difference = probabilities - by_keras
                row["accuracy"] = accuracy(probabilities, y_test)
                row["rmse"] = float(np.sqrt(np.mean(difference**2)))
                row["max_error"] = float(np.max(np.abs(difference)))
                confusions[f"{row['way']}, {numbers}"] = confusion(by_keras, probabilities, len(names))
            rows.append(row)
    results = {
        "classes": names,
        "test_rows": len(x_test),
        "parameters": model.count_params(),
        "accuracy_by_keras": accuracy(by_keras, y_test),
        "emulated": not arm.missing(),
        "rows": sorted(rows, key=lambda row: WAYS.index(row["way"])),
        "confusions": confusions,
    }
    writing.write_text(out / "results.json", json.dumps(results, indent=2) + "\n")
    return results


Measured = tuple[dict[str, Any], np.ndarray | None]  #: a row of the table, and the probabilities if it was run here


def plain_c(
    model: keras.Model, out: Path, quantize: str | None, x_train: np.ndarray, x_test: np.ndarray
) -> Iterator[Measured]:
    """Write plain C, and run it on this computer; on an emulated Cortex-M4, too, where there is one."""
    folder = out / "c" / (quantize or "float32")
    written = export.c(model, folder, quantize, calibration=x_train, name="gesture")
    row: dict[str, Any] = {"way": PLAIN_C, "flash": written.bytes, "ram": written.arena_bytes}
    if not arm.missing():
        with tempfile.TemporaryDirectory() as place:
            for file in folder.glob("*.[ch]"):
                (Path(place) / file.name).write_text(file.read_text())
            call = "gesture_run_q(&m, tx0, y0)" if quantize == "int16x8" else "gesture_run(&m, tx0, y0)"
            cost = arm.cost(Path(place), "gesture", "M4F", call)
        row |= {"flash": cost.text, "ram": cost.struct + cost.stack, "instructions": round(cost.instructions)}
    yield row, run_c(folder, x_test, model.output_shape[-1]) if written.ok else None


def run_c(folder: Path, x: np.ndarray, classes: int) -> np.ndarray:
    """Compile a package with a program that feeds it, and return the probabilities that it gives."""
    with tempfile.TemporaryDirectory() as place:
        (Path(place) / "driver.c").write_text(DRIVER.format(inputs=x[0].size, outputs=classes))
        sources = ["driver.c", str(folder.resolve() / "gesture.c")]
        command = [os.environ.get("CC", "cc"), "-O1", f"-I{folder.resolve()}", *sources, "-lm", "-o", "driver"]
        subprocess.run(command, cwd=place, check=True)
        done = subprocess.run([f"{place}/driver"], input=x.tobytes(), capture_output=True, check=True)
    return np.frombuffer(done.stdout, np.float32).reshape(len(x), classes)


def tflm(
    model: keras.Model, out: Path, quantize: str | None, x_train: np.ndarray, x_test: np.ndarray
) -> Iterator[Measured]:
    """Write the package for TFLM, and run it by its interpreter, which has the library's own kernels."""
    folder = out / "tflm" / (quantize or "float32")
    written = export.micro(model, folder, quantize, calibration=x_train, name="gesture")
    (probabilities,) = run_file(folder / "model.tflite", x_test, "micro").outputs
    row = {"way": REFERENCE, "flash": written.bytes, "ram": written.arena_bytes}
    yield row, probabilities
    if "cmsis-nn" in written.kernels:
        yield {"way": CMSIS_NN, "flash": written.bytes, "ram": arena_of_cmsis_nn(folder)}, None


def arena_of_cmsis_nn(folder: Path) -> int:
    """Return the arena that a package states for the kernels of CMSIS-NN."""
    settings = (folder / "model_settings.h").read_text()
    (size,) = re.findall(r"kArenaBytesCmsisNn = (\d+);", settings)
    return int(size)


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
    print(f"{results['parameters']:,} parameters; {results['test_rows']} test recordings", end="; ")
    print(f"Keras is right on {results['accuracy_by_keras']:.1%}\n")
    print(" ".join(f"{name:{re.sub('[,.].*', '', form)}}" for name, form in COLUMNS.items()))
    for row in results["rows"]:
        known = ((row.get(name), form) for name, form in COLUMNS.items())
        print(" ".join(f"{'-':{re.sub('[,.].*', '', f)}}" if value is None else f"{value:{f}}" for value, f in known))
    told = {"constants": "", "stack": " and the stack below it", "instructions": "QEMU's count, on a Cortex-M4"}
    if not results["emulated"]:
        missing = f"no emulator is installed ({arm.missing()}; Debian: gcc-arm-none-eabi, qemu-system-arm)"
        told = {"constants": " (here its constants)", "stack": "", "instructions": f"not counted, since {missing}"}
    print("\n" + NOTES.format(**told))
    width = max(map(len, results["classes"]))
    for way, counts in results["confusions"].items():
        if np.trace(counts) == results["test_rows"]:
            print(f"\n{way}: every recording in the class that Keras gives")
            continue
        print(f"\nclass by Keras (down) and by {way} (across)")
        print(" " * (width + 1) + " ".join(f"{name:>{width}}" for name in results["classes"]))
        for name, row in zip(results["classes"], counts, strict=True):
            print(f"{name:<{width}} " + " ".join(f"{count:>{width}}" for count in row))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/gesture"), help="folder for the results")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--units", type=int, default=24, help="of the LSTM")
    arguments = parser.parse_args()
    show(run(arguments.out, units=arguments.units, epochs=arguments.epochs, verbose=2))
