"""Memory and time of training on long sequences: `python benchmarks/long_sequences.py [--steps 16384] [--every 128]`.

One LSTM with all outputs, on batches of 16 rows, with and without `checkpoint_every`, on each engine, in two ways:
`gradients` is one forward and backward pass of the sum of squares with all gradients (weights, input, states) in a
`tf.function`; `fit` is `model.fit` of the LSTM and a Dense layer with Adam. Each runs in a process of its own, whose
peak is that of the whole process (TensorFlow alone is about 0.7 GiB). Without segments the portable engine
takes about 8 GiB at the default length.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys

import worker

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

BATCH, FEATURES = 16, 16


def train(way: str, engine: str, steps: int, units: int, every: int | None) -> dict:
    """Train in this process, and return the peak memory in GiB and the seconds of the first and of a later pass."""
    import time

    import keras
    import numpy as np
    import tensorflow as tf

    import keras_lstm_custom as klc

    keras.utils.set_random_seed(0)
    layer = klc.LSTM(units, return_sequences=True, engine=engine, checkpoint_every=every)
    layer.build((None, steps, FEATURES))
    x = np.random.default_rng(0).normal(size=(BATCH, steps, FEATURES)).astype("float32")

    @tf.function(autograph=False)
    def gradients(x, h, c):
        with tf.GradientTape() as tape:
            tape.watch([x, h, c])
            loss = tf.reduce_sum(layer(x, initial_state=[h, c], training=True) ** 2)
        return tape.gradient(loss, [x, h, c, *(w.value for w in layer.weights)])

    def fit():
        model = keras.Sequential([keras.Input((steps, FEATURES)), layer, keras.layers.Dense(1)])
        model.compile("adam", "mse")
        return lambda: model.fit(x, x[..., :1], batch_size=BATCH, verbose=0)

    state = [tf.zeros((BATCH, units))] * 2
    run = fit() if way == "fit" else lambda: gradients(tf.constant(x), *state)
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    assert layer.last_engine == engine
    return {"peak_gib": worker.resident("VmHWM") / 1024, "seconds": seconds}


def main() -> None:
    """Run every case in a process of its own and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=16384)
    parser.add_argument("--units", type=int, default=256)
    parser.add_argument("--every", type=int, default=128)
    parser.add_argument("--only-checkpointed", action="store_true", help="leave out the runs that keep all gates")
    parser.add_argument("--case", help=argparse.SUPPRESS)  # what the processes are started with
    options = parser.parse_args()
    if options.case:
        print(json.dumps(train(*json.loads(options.case))))
        return
    print(f"batch {BATCH}, steps {options.steps}, features {FEATURES}, units {options.units}, float32")
    print(f"{'way':>10} {'engine':>10} {'checkpoint_every':>17} {'peak GiB':>9} {'first, s':>9} {'later, s':>9}")
    for way in ("gradients", "fit"):
        for engine in ("native", "portable"):
            for every in (options.every, *([] if options.only_checkpointed else [None])):
                case = json.dumps([way, engine, options.steps, options.units, every])
                done = subprocess.run(
                    [sys.executable, __file__, "--case", case], stdout=subprocess.PIPE, text=True, check=False
                )
                if done.returncode:  # the reason is on the screen
                    print(f"{way:>10} {engine:>10} {every or 'None':>17} failed with {done.returncode}")
                    continue
                result = json.loads(done.stdout)
                first, later = result["seconds"]
                row = f"{way:>10} {engine:>10} {every or 'None':>17} {result['peak_gib']:>9.2f}"
                print(f"{row} {first:>9.1f} {later:>9.1f}", flush=True)


if __name__ == "__main__":
    main()
