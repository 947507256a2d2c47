"""Train the main job again, and put its artefacts in `saved_models/` with a record of their making and their errors.

    python examples/publish_forecast.py

`run` and `held_out_errors` are also what `tests/test_saved_models.py` measures them by.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import forecast
import keras
import numpy as np

import keras_lstm_custom
from keras_lstm_custom import timeseries

TARGET = "temperature"
ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "saved_models" / "jfk_temperature"


def run_keras(path: Path, x: np.ndarray) -> np.ndarray:
    """Return the outputs of a `.keras` file."""
    return keras.models.load_model(path).predict(x, verbose=0)


def run_saved_model(path: Path, x: np.ndarray) -> np.ndarray:
    """Return the outputs of a SavedModel, by its serving signature."""
    import tensorflow as tf

    (y,) = tf.saved_model.load(str(path)).signatures["serving_default"](tf.constant(x)).values()
    return y.numpy()


def run_tflite(path: Path, x: np.ndarray) -> np.ndarray:
    """Return the outputs of a TFLite file, one window after another in the same interpreter."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    source, result = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]

    def one(window: np.ndarray) -> np.ndarray:
        interpreter.set_tensor(source, window[None])
        interpreter.invoke()
        return interpreter.get_tensor(result)[0].copy()

    return np.stack([one(window) for window in x])


#: The artefacts by name, and what runs each.
ARTEFACTS: dict[str, Callable[[Path, np.ndarray], np.ndarray]] = {
    "vanilla_rnn.keras": run_keras,
    "lstm.keras": run_keras,
    "saved_model": run_saved_model,
    "model.tflite": run_tflite,
}


def held_out(plan: dict[str, Any]) -> forecast.Samples:
    """Return the windows of the shipped record, cut as for the training."""
    frame = timeseries.read_csv(forecast.SHIPPED, TARGET)
    return forecast.cut(frame, forecast.Plan(**plan))


def held_out_errors(samples: forecast.Samples, outputs: np.ndarray) -> dict[str, float]:
    """Return MAE and RMSE of an artefact's outputs on all held-out windows, in °C."""
    std = samples.scaler.std[TARGET]
    return {
        "mae": std * timeseries.mae(samples.test.y, outputs),
        "rmse": std * timeseries.rmse(samples.test.y, outputs),
    }


def files_of(path: Path) -> Iterator[Path]:
    """Give the files of an artefact, a file or a folder."""
    yield from [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())


def sha256(path: Path) -> str:
    """Return the hash of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def versions() -> dict[str, str]:
    """Return what the artefacts are made with."""
    try:
        tensorflow = importlib.metadata.version("tensorflow")
    except importlib.metadata.PackageNotFoundError:
        tensorflow = importlib.metadata.version("tensorflow-cpu")
    others = {name: importlib.metadata.version(name) for name in ("keras", "numpy", "pandas", "ai-edge-litert")}
    ours = {"python": platform.python_version(), "keras_lstm_custom": keras_lstm_custom.__version__}
    return ours | {"tensorflow": tensorflow} | others


def publish() -> None:
    """Run the main job, copy its artefacts, and write a JSON beside each."""
    out = Path("runs") / "forecast"
    metrics = forecast.run(out=out, unit="°C")
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    samples = held_out(metrics["plan"])
    some = samples.test.x[:: len(samples.test.x) // 3]
    best = forecast.file_name(metrics["best"])
    outputs = {name: run(out / name, samples.test.x) for name, run in ARTEFACTS.items()}
    for name, y in outputs.items():
        path = FOLDER / name
        (shutil.copytree if (out / name).is_dir() else shutil.copy)(out / name, path)
        network = name.removesuffix(".keras") if name.endswith(".keras") else best
        difference = np.max(np.abs(y - outputs[f"{network}.keras"]))
        np.savez(FOLDER / f"{name}.npz", x=some, y=y[:: len(samples.test.x) // 3])
        record = {
            "artefact": name,
            "network": network,
            "script": Path(__file__).relative_to(ROOT).as_posix(),
            "command": "python examples/publish_forecast.py",
            "versions": versions(),
            "processor": platform.machine(),
            "data": {"file": forecast.SHIPPED.relative_to(ROOT).as_posix(), "sha256": sha256(forecast.SHIPPED)},
            "plan": metrics["plan"],
            "scaler": metrics["scaler"],
            "held_out": metrics["held_out"],
            "unit": "°C",
            "errors": held_out_errors(samples, y),
            "seasonal_naive_errors": {name: metrics["errors"][forecast.NAIVE][name] for name in ("mae", "rmse")},
            "max_difference_to_keras_file": float(difference) * samples.scaler.std[TARGET],
            "bytes": sum(file.stat().st_size for file in files_of(path)),
            "sha256": {file.relative_to(FOLDER).as_posix(): sha256(file) for file in files_of(path)},
        }
        text = json.dumps(record, indent=2, ensure_ascii=False) + "\n"
        (FOLDER / f"{name}.json").write_text(text, encoding="utf-8")
        print(f"{path.relative_to(ROOT)}: RMSE {record['errors']['rmse']:.3f} °C, {record['bytes']:,} bytes")


if __name__ == "__main__":
    publish()
