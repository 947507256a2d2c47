"""Train one model on several devices, or on several machines, under TensorFlow; `docs/many-devices.md` explains it.

    python examples/many_devices_tensorflow.py                 # all GPUs of this machine, or its CPU
    python examples/many_devices_tensorflow.py --virtual 2     # to try it: the CPU as two devices

On several machines the same script runs on each, with the same addresses and a number of its own:

    TF_CONFIG='{"cluster": {"worker": ["host-a:2222", "host-b:2222"]}, "task": {"type": "worker", "index": 0}}' \
        python examples/many_devices_tensorflow.py
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable

os.environ["KERAS_BACKEND"] = "tensorflow"

import keras
import numpy as np
import tensorflow as tf

from keras_lstm_custom import GRU, LSTM, tasks


def virtual_devices(count: int) -> None:
    """Let TensorFlow see the CPU as several devices; before anything else is done with it."""
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * count)


def strategy_for(virtual: int = 0) -> tf.distribute.Strategy:
    """Return what spreads the work: over the machines of TF_CONFIG, or over the devices of this one."""
    if "TF_CONFIG" in os.environ:
        return tf.distribute.MultiWorkerMirroredStrategy()
    return tf.distribute.MirroredStrategy([f"CPU:{n}" for n in range(virtual)] or None)


def train(
    strategy: tf.distribute.Strategy,
    network: Callable[[], keras.Model],
    x: np.ndarray,
    y: np.ndarray,
    *,
    optimizer: Callable[[], keras.optimizers.Optimizer] = lambda: keras.optimizers.Adam(0.01),
    batch_size: int,
    epochs: int,
    report: Callable[[str], None] = print,
) -> keras.Model:
    """Return the trained model: the same, within rounding, on any number of devices.

    Args:
        strategy: every device gets its part of each batch; the gradients are added up over all.
        network: makes the model, from the same seed on every machine.
        x: `(rows, timesteps, features)`, on every machine the whole data.
        y: `(rows, outputs)`.
        optimizer: makes the optimizer.
        batch_size: of all devices together.
        epochs: how often the data is read.
        report: gets a line for each epoch.
    """
    with strategy.scope():
        model, updates = network(), optimizer()
        updates.build(model.trainable_variables)

    def on_device(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            # Over the whole batch, not the part of it that is here: the parts' gradients are added up.
            loss = tf.reduce_sum((model(x, training=True) - y) ** 2) / (batch_size * y.shape[1])
        updates.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
        return loss

    @tf.function
    def step(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        return strategy.reduce("SUM", strategy.run(on_device, args=(x, y)), axis=None)

    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(batch_size, drop_remainder=True)
    for epoch in range(epochs):
        losses = [step(*batch) for batch in strategy.experimental_distribute_dataset(data)]
        report(f"epoch {epoch + 1}: loss {np.mean(losses):.4f}")
    return model


def network() -> keras.Model:
    """Return a small network for the adding problem."""
    keras.utils.set_random_seed(1)
    return keras.Sequential([keras.Input((None, 2)), LSTM(32, return_sequences=True), GRU(16), keras.layers.Dense(1)])


def main() -> None:
    """Train on what there is, and save from one machine alone."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--virtual", type=int, default=0, help="so many devices made of the CPU")
    parser.add_argument("--rows", type=int, default=2048)
    parser.add_argument("--batch", type=int, default=64, help="rows in a batch, over all devices together")
    parser.add_argument("--length", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--out", default="many_devices.weights.h5")
    asked = parser.parse_args()
    if asked.virtual:
        virtual_devices(asked.virtual)
    strategy = strategy_for(asked.virtual)
    print(f"{strategy.num_replicas_in_sync} devices")
    data = tasks.adding_problem(asked.rows, asked.length, np.random.default_rng(0))
    model = train(strategy, network, data.x, data.y, batch_size=asked.batch, epochs=asked.epochs)
    if strategy.cluster_resolver is None or strategy.cluster_resolver.task_id == 0:
        model.save_weights(asked.out)  # any layer, on any backend, and on one device reads them
        print(f"weights in {asked.out}")


if __name__ == "__main__":
    main()
