"""Train one model on several devices under JAX, with Keras' own `fit`; `docs/many-devices.md` explains it.

python examples/many_devices_jax.py                        # all devices of this machine
python examples/many_devices_jax.py --virtual 2            # to try it: the CPU as two devices
python examples/many_devices_jax.py --split model          # the kernels split over the devices, not the batch
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable

os.environ["KERAS_BACKEND"] = "jax"

import keras
import numpy as np

from keras_lstm_custom import GRU, LSTM, tasks


def virtual_devices(count: int) -> None:
    """Let JAX see the CPU as several devices; before anything else is done with it."""
    import jax

    jax.config.update("jax_num_cpu_devices", count)


def distribution_for(split: str) -> keras.distribution.Distribution:
    """Return what spreads the work over all devices.

    Args:
        split: "batch": every device has all weights and a part of each batch. "model": every device has a part of the
            columns of each kernel, and the whole batch; for models that one device cannot hold.
    """
    devices = keras.distribution.list_devices()
    if split == "batch":
        return keras.distribution.DataParallel(devices=devices)
    mesh = keras.distribution.DeviceMesh((1, len(devices)), ["batch", "model"], devices)
    layout = keras.distribution.LayoutMap(mesh)
    layout[".*kernel"] = (None, "model")  # kernel and recurrent_kernel, by the paths of Keras' variables
    return keras.distribution.ModelParallel(layout_map=layout, batch_dim_name="batch")


def train(
    distribution: keras.distribution.Distribution | None,
    network: Callable[[], keras.Model],
    x: np.ndarray,
    y: np.ndarray,
    *,
    optimizer: Callable[[], keras.optimizers.Optimizer] = lambda: keras.optimizers.Adam(0.01),
    batch_size: int,
    epochs: int,
    verbose: int = 2,
) -> keras.Model:
    """Return the trained model: the same, within rounding, on any number of devices.

    Args:
        distribution: from `distribution_for`; None for one device.
        network: makes the model.
        x: `(rows, timesteps, features)`.
        y: `(rows, outputs)`.
        optimizer: makes the optimizer.
        batch_size: of all devices together.
        epochs: how often the data is read.
        verbose: as for `fit`.
    """
    keras.distribution.set_distribution(distribution)  # before the model is made: its weights are laid out by it
    model = network()
    model.compile(optimizer(), "mse", jit_compile=True)
    model.fit(x, y, batch_size=batch_size, epochs=epochs, shuffle=False, verbose=verbose)
    return model


def network() -> keras.Model:
    """Return a small network for the adding problem."""
    keras.utils.set_random_seed(1)
    return keras.Sequential([keras.Input((None, 2)), LSTM(32, return_sequences=True), GRU(16), keras.layers.Dense(2)])


def main() -> None:
    """Train on what there is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--virtual", type=int, default=0, help="so many devices made of the CPU")
    parser.add_argument("--split", choices=["batch", "model"], default="batch")
    parser.add_argument("--rows", type=int, default=2048)
    parser.add_argument("--batch", type=int, default=64, help="rows in a batch, over all devices together")
    parser.add_argument("--length", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=5)
    asked = parser.parse_args()
    if asked.virtual:
        virtual_devices(asked.virtual)
    data = tasks.adding_problem(asked.rows, asked.length, np.random.default_rng(0))
    y = np.repeat(data.y, 2, axis=1)  # a width that two devices can share
    model = train(distribution_for(asked.split), network, data.x, y, batch_size=asked.batch, epochs=asked.epochs)
    print(model.layers[0].cell.kernel.value.sharding)


if __name__ == "__main__":
    main()
