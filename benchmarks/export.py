"""Ways from an LSTM model to a TFLite file, side by side: does it convert, and what is the file worth?

    python benchmarks/export.py                     # all models, all ways
    python benchmarks/export.py --models micro_3674 --ways keras ours ours_int8

Every conversion runs in a process of its own, since some end it. Every file is run on the LiteRT Interpreter and on
TensorFlow Lite for Microcontrollers, twice on each of four samples without a reset, and compared with the Keras
model. `tf_keras` takes part where it is installed. A time is the median of one invocation on this computer, one thread.

Errors are root mean squared, as a share of the standard deviation of the model's output.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

ROWS = 4  #: samples each file is run on
CALIBRATION = 50
TIME_LIMIT = 300  #: seconds for one conversion


# The models. `K` is keras or tf_keras, `batch` None or 1.


def one_lstm(K: Any, batch: int | None) -> Any:
    """Classify a sequence by one LSTM."""
    return K.Sequential([K.Input((20, 6), batch), K.layers.LSTM(16), K.layers.Dense(3)])


def micro_3674(K: Any, batch: int | None) -> Any:
    """The model of github.com/tensorflow/tflite-micro/issues/3674: four LSTM(128), 100 steps of 32 features."""
    lstms = [K.layers.LSTM(128, return_sequences=True) for _ in range(3)]
    return K.Sequential([K.Input((100, 32), batch), *lstms, K.layers.LSTM(128), K.layers.Dense(10)])


def bidirectional(K: Any, batch: int | None) -> Any:
    """Label every step by two LSTMs that read in both directions."""
    both = [K.layers.Bidirectional(K.layers.LSTM(24, return_sequences=True)) for _ in range(2)]
    return K.Sequential([K.Input((50, 8), batch), *both, K.layers.Dense(4)])


def conv_lstm(K: Any, batch: int | None) -> Any:
    """Convolve, then classify by two LSTMs."""
    return K.Sequential(
        [
            K.Input((64, 6), batch),
            K.layers.Conv1D(16, 5, activation="relu"),
            K.layers.LSTM(32, return_sequences=True),
            K.layers.LSTM(32),
            K.layers.Dense(5),
        ]
    )


MODELS = {build.__name__: build for build in (one_lstm, conv_lstm, bidirectional, micro_3674)}


# The ways. Each gets the function that builds the model, its weights and samples, and returns the file.


def keras(build: Callable, weights: list, x: np.ndarray) -> bytes:
    """`model.export(format="litert")`."""
    import keras as K

    model = _with_weights(build(K, None), weights)
    with tempfile.TemporaryDirectory() as folder:
        model.export(f"{folder}/model.tflite", format="litert", verbose=False)
        return Path(folder, "model.tflite").read_bytes()


def converter(build: Callable, weights: list, x: np.ndarray) -> bytes:
    """`TFLiteConverter.from_keras_model`, any batch."""
    import keras as K

    return _converted(_with_weights(build(K, None), weights))


def converter_batch1(build: Callable, weights: list, x: np.ndarray) -> bytes:
    """`TFLiteConverter.from_keras_model`, batch 1."""
    import keras as K

    return _converted(_with_weights(build(K, 1), weights))


def converter_int8(build: Callable, weights: list, x: np.ndarray) -> bytes:
    """`TFLiteConverter.from_keras_model`, batch 1, int8."""
    import keras as K

    return _converted(_with_weights(build(K, 1), weights), x)


def tf_keras(build: Callable, weights: list, x: np.ndarray) -> bytes:
    """Legacy tf_keras and `TFLiteConverter`, batch 1."""
    import tf_keras as K

    return _converted(_with_weights(build(K, 1), weights))


def tf_keras_int8(build: Callable, weights: list, x: np.ndarray) -> bytes:
    """Legacy tf_keras and `TFLiteConverter`, batch 1, int8."""
    import tf_keras as K

    return _converted(_with_weights(build(K, 1), weights), x)


def ours(build: Callable, weights: list, x: np.ndarray, quantize: str | None = None, runtime: str = "both") -> bytes:
    """`export.tflite`."""
    import keras as K

    from keras_lstm_custom import export

    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/model.tflite"
        export.tflite(_with_weights(build(K, None), weights), path, quantize, x, runtime=runtime)
        return Path(path).read_bytes()


def ours_int8(build: Callable, weights: list, x: np.ndarray) -> bytes:
    """`export.tflite`, int8."""
    return ours(build, weights, x, "int8")


def ours_int16x8(build: Callable, weights: list, x: np.ndarray) -> bytes:
    """`export.tflite`, int16x8."""
    return ours(build, weights, x, "int16x8", "micro")


WAYS = {
    way.__name__: way
    for way in (
        *(keras, converter, converter_batch1, converter_int8),
        *(tf_keras, tf_keras_int8, ours, ours_int8, ours_int16x8),
    )
}


def _with_weights(model: Any, weights: list) -> Any:
    model.set_weights(weights)
    return model


def _converted(model: Any, calibration: np.ndarray | None = None) -> bytes:
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    if calibration is not None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([row[None]] for row in calibration)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
    return converter.convert()


# The comparison.


def prepare(name: str, folder: Path) -> Path:
    """Write weights, samples and the Keras model's outputs of a model to a file; return its path."""
    import keras as K

    rng = np.random.default_rng(0)
    K.utils.set_random_seed(0)
    model = MODELS[name](K, None)
    weights = [w + 0.05 * rng.standard_normal(w.shape).astype("float32") for w in model.get_weights()]
    model.set_weights(weights)
    x = rng.standard_normal((CALIBRATION, *model.input_shape[1:])).astype("float32")
    path = folder / f"{name}.npz"
    outputs = model.predict(x[:ROWS], verbose=0)
    np.savez(path, x=x, outputs=outputs, **{f"weight_{k:03}": weight for k, weight in enumerate(weights)})
    return path


def convert(name: str, way: str, data: str, out: str) -> None:
    """Convert a model in one way; this is what the process for it runs."""
    with np.load(data) as loaded:
        weights = [loaded[key] for key in sorted(loaded.files) if key.startswith("weight_")]
        content = WAYS[way](MODELS[name], weights, loaded["x"])
    Path(out).write_bytes(content)


def compare(name: str, way: str, data: Path, folder: Path) -> dict[str, Any]:
    """Return what came of one way for one model."""
    from keras_lstm_custom.export.running.runtimes import run_file, smallest_arena
    from keras_lstm_custom.export.running.verify import contents

    out = folder / f"{name}-{way}.tflite"
    command = [sys.executable, __file__, "--convert", name, way, str(data), str(out)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=TIME_LIMIT)
    except subprocess.TimeoutExpired:
        return {"model": name, "way": way, "failure": f"no file after {TIME_LIMIT} s"}
    if not out.exists():
        raised = re.findall(r"^(?:[\w.]*(?:Error|Exception)|<unknown>\S*)\b.*", done.stderr, re.MULTILINE)
        died = f"the process was ended by signal {-done.returncode}" if done.returncode < 0 else "no file"
        return {"model": name, "way": way, "failure": died if done.returncode < 0 else (raised or [died])[-1][:200]}
    with np.load(data) as loaded:
        x, expected = np.repeat(loaded["x"][:ROWS], 2, 0), np.repeat(loaded["outputs"], 2, 0)
    found: dict[str, Any] = {"model": name, "way": way, "bytes": out.stat().st_size, "ops": contents(out)[0]}
    for runtime in ("litert", "micro"):
        run = run_file(out, x, runtime, timed_invocations=30)
        found[runtime] = _error(run, expected)
        found[f"{runtime}_ms"] = run.ms_per_invocation
    found["arena"] = smallest_arena(out, [x])[0]
    return found


def _error(run: Any, expected: np.ndarray) -> float | str:
    if not run.ok:
        return run.message
    return float(np.sqrt(np.mean((run.outputs[0].reshape(expected.shape) - expected) ** 2)) / np.std(expected))


def show(found: dict[str, Any]) -> None:
    """Print one line, and below it why something did not run."""
    head = f"{found['model']:<14} {found['way']:<17}"
    if "failure" in found:
        print(f"{head} does not convert: {found['failure']}")
        return
    count = found["ops"].get("UNIDIRECTIONAL_SEQUENCE_LSTM", 0)
    form = f"{count} fused" if count else f"{found['ops']['WHILE']} WHILE" if "WHILE" in found["ops"] else ""
    form += " + Flex" if any(op.startswith("Flex") for op in found["ops"]) else ""
    cells = [
        f"{found[runtime]:.1e}" if isinstance(found[runtime], float) else "fails" for runtime in ("litert", "micro")
    ]
    ms = "" if found["litert_ms"] is None else f"{found['litert_ms']:.3f}"
    arena = "" if found["arena"] is None else f"{found['arena']:,}"
    print(f"{head} {form:<10} {sum(found['ops'].values()):>5} {found['bytes']:>10,} {arena:>10} "
          f"{cells[0]:>9} {cells[1]:>9} {ms:>9}", flush=True)  # fmt: skip
    for runtime in ("litert", "micro"):
        if isinstance(found[runtime], str):
            print(f"{'':<32} {runtime}: {found[runtime][:140]}")


def main() -> None:
    """Compare, print, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--json", type=Path, help="write the results to this file as well")
    parser.add_argument("--convert", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.convert:
        convert(*arguments.convert)
        return
    print(f"{'model':<14} {'way':<17} {'LSTMs':<10} {'ops':>5} {'bytes':>10} {'arena':>10} {'litert':>9} {'micro':>9}"
          f" {'ms litert':>9}")  # fmt: skip
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.models:
            data = prepare(name, Path(folder))
            for way in arguments.ways:
                results.append(compare(name, way, data, Path(folder)))
                show(results[-1])
    for way in arguments.ways:
        print(f"{way:<17} {WAYS[way].__doc__}")
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
