"""Train the two networks of `saved_models/`, and put them there with a record of their making and their errors.

    python examples/publish_forecast.py

with the oldest versions that the package runs with (`.venv-floor`, which `make test-floor` makes), since an older Keras
may not read what a newer one writes.

They are plain networks of one recurrent and one Dense layer, which see scaled windows: small files that anyone can run.
(What `forecast.py` trains knows its scaling and has intervals.) `cut`, `ARTEFACTS` and `held_out_errors` are also what
the tests measure them by.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import pandas as pd

import keras_lstm_custom
from keras_lstm_custom import LSTM, VanillaRNN, export, timeseries

TARGET = "temperature"
NETWORKS = {"vanilla_rnn": VanillaRNN, "lstm": LSTM}
ROOT = Path(__file__).parents[1]
DATA = ROOT / "examples" / "data" / "jfk_weather_2013.csv"
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


class Plan(NamedTuple):
    """What is forecast from what; counts are in time steps."""

    target: str
    features: tuple[str, ...]
    period: int
    window: int
    horizon: int
    stride: int  #: of the windows that are learnt from; all held-out windows are used


class Samples(NamedTuple):
    """The windows of each part, scaled, and the way back to the data's units."""

    train: timeseries.Windows
    validation: timeseries.Windows
    test: timeseries.Windows
    scaler: timeseries.Scaler


def cut(frame: pd.DataFrame, plan: Plan) -> Samples:
    """Return the scaled windows of the three parts; the scaler knows the training part only."""
    parts = timeseries.split(frame, at_least=plan.window + plan.horizon)
    scaler = timeseries.Scaler.fit(parts.train)
    sizes = {"window": plan.window, "horizon": plan.horizon, "relative": True}
    train, validation, test = (
        timeseries.windows(scaler.transform(part), plan.target, stride=stride, **sizes)
        for part, stride in zip(parts, (plan.stride, plan.stride, 1), strict=True)
    )
    return Samples(train, validation, test, scaler)


def train(network: type, samples: Samples, *, units: int = 32, epochs: int = 15) -> tuple[keras.Model, float]:
    """Return a network trained on the change since the last known value, and its loss on the validation part."""
    keras.utils.set_random_seed(1)
    _, window, features = samples.train.x.shape
    model = keras.Sequential(
        [keras.Input((window, features)), network(units), keras.layers.Dense(samples.train.y.shape[1])],
        name=network.__name__.lower(),
    )
    model.compile(keras.optimizers.Adam(2e-3), "mse")
    history = model.fit(
        samples.train.x,
        samples.train.y,
        validation_data=(samples.validation.x, samples.validation.y),
        epochs=epochs,
        batch_size=64,
        callbacks=[keras.callbacks.EarlyStopping(patience=4, restore_best_weights=True)],
    ).history
    return model, min(history["val_loss"])


def held_out(plan: dict[str, Any]) -> Samples:
    """Return the windows of the shipped record, cut as for the training."""
    return cut(timeseries.read_csv(DATA, TARGET), Plan(**plan))


def held_out_errors(samples: Samples, outputs: np.ndarray) -> dict[str, float]:
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
    return ours | {"tensorflow": tensorflow} | others | {"written_by_keras": keras.__version__}


def publish() -> None:
    """Train both networks, export the better one, and write all artefacts with a JSON beside each."""
    frame = timeseries.read_csv(DATA, TARGET)
    plan = Plan(TARGET, tuple(frame.columns), period=24, window=48, horizon=24, stride=1)
    samples = cut(frame, plan)
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder)
        losses = {}
        for name, network in NETWORKS.items():
            model, losses[name] = train(network, samples)
            model.save(made / f"{name}.keras")
        best = min(losses, key=lambda name: losses[name])
        model = keras.models.load_model(made / f"{best}.keras")
        some = samples.test.x[:: -(-len(samples.test.x) // 50)]
        export.saved_model(model, made / "saved_model", x=some)
        export.tflite(model, made / "model.tflite", calibration=some)
        shutil.rmtree(FOLDER, ignore_errors=True)
        FOLDER.mkdir()
        for name in ARTEFACTS:
            (shutil.copytree if (made / name).is_dir() else shutil.copy)(made / name, FOLDER / name)
    record(plan, samples, best)


def record(plan: Plan, samples: Samples, best: str) -> None:
    """Write the JSON and the stored outputs beside each artefact."""
    every = len(samples.test.x) // 3
    naive = timeseries.seasonal_naive(samples.test.past, horizon=plan.horizon, period=plan.period)
    outputs = {name: run(FOLDER / name, samples.test.x) for name, run in ARTEFACTS.items()}
    for name, y in outputs.items():
        path = FOLDER / name
        network = name.removesuffix(".keras") if name.endswith(".keras") else best
        difference = np.max(np.abs(y - outputs[f"{network}.keras"]))
        np.savez(FOLDER / f"{name}.npz", x=samples.test.x[::every], y=y[::every])
        facts = {
            "artefact": name,
            "network": network,
            "script": Path(__file__).relative_to(ROOT).as_posix(),
            "command": "python examples/publish_forecast.py",
            "versions": versions(),
            "processor": platform.machine(),
            "data": {"file": DATA.relative_to(ROOT).as_posix(), "sha256": sha256(DATA)},
            "plan": plan._asdict(),
            "scaler": samples.scaler.to_dict(),
            "held_out": {
                "from": f"{pd.Timestamp(samples.test.times[0, 0]):%Y-%m-%d %H:%M}",
                "to": f"{pd.Timestamp(samples.test.times[-1, -1]):%Y-%m-%d %H:%M}",
            },
            "unit": "°C",
            "errors": held_out_errors(samples, y),
            "seasonal_naive_errors": held_out_errors(samples, naive - samples.test.past[:, -1:]),
            "max_difference_to_keras_file": float(difference) * samples.scaler.std[TARGET],
            "bytes": sum(file.stat().st_size for file in files_of(path)),
            "sha256": {file.relative_to(FOLDER).as_posix(): sha256(file) for file in files_of(path)},
        }
        text = json.dumps(facts, indent=2, ensure_ascii=False) + "\n"
        (FOLDER / f"{name}.json").write_text(text, encoding="utf-8")
        print(f"{path.relative_to(ROOT)}: RMSE {facts['errors']['rmse']:.3f} °C, {facts['bytes']:,} bytes")


if __name__ == "__main__":
    publish()
