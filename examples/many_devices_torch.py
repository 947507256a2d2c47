"""Train one model on several devices, or machines, under torch by DistributedDataParallel; `docs/many-devices.md`.

    torchrun --nproc-per-node 2 examples/many_devices_torch.py             # two processes of this machine
    torchrun --nnodes 2 --nproc-per-node 1 --rdzv-backend c10d --rdzv-endpoint host-a:29500 --rdzv-id 1 \
        examples/many_devices_torch.py                                      # the same on each of two machines

One process serves one device: its GPU, or the CPU.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable

os.environ["KERAS_BACKEND"] = "torch"

import keras
import numpy as np
import torch
import torch.distributed

from keras_lstm_custom import GRU, LSTM, tasks


def train(
    network: Callable[[], keras.Model],
    x: np.ndarray,
    y: np.ndarray,
    *,
    optimizer: Callable[..., torch.optim.Optimizer] = lambda weights: torch.optim.Adam(weights, 0.01),
    batch_size: int,
    epochs: int,
    report: Callable[[str], None] = print,
) -> keras.Model:
    """Return the trained model: the same, within rounding, on any number of processes.

    Args:
        network: makes the model, from the same seed in every process.
        x: `(rows, timesteps, features)`, in every process the whole data.
        y: `(rows, outputs)`.
        optimizer: makes the optimizer of the weights it is given.
        batch_size: of all processes together, which must divide it.
        epochs: how often the data is read.
        report: gets a line for each epoch.
    """
    together = torch.distributed.is_initialized()
    rank, count = (torch.distributed.get_rank(), torch.distributed.get_world_size()) if together else (0, 1)
    model = network()
    weights = [weight for weight in model.parameters() if weight.requires_grad]  # Keras' seeds are parameters, too
    call = torch.nn.parallel.DistributedDataParallel(model) if together else model
    updates = optimizer(weights)
    device, part = weights[0].device, batch_size // count
    for epoch in range(epochs):
        for first in range(0, len(x) - batch_size + 1, batch_size):
            rows = slice(first + rank * part, first + (rank + 1) * part)
            updates.zero_grad()
            inputs, targets = (torch.as_tensor(array[rows], device=device) for array in (x, y))
            loss = ((call(inputs) - targets) ** 2).mean()
            loss.backward()  # the mean of the processes' gradients
            updates.step()
        if rank == 0:
            report(f"epoch {epoch + 1}: loss of the last part {loss.item():.4f}")
    return model


def network() -> keras.Model:
    """Return a small network for the adding problem."""
    keras.utils.set_random_seed(1)
    return keras.Sequential([keras.Input((None, 2)), LSTM(32, return_sequences=True), GRU(16), keras.layers.Dense(1)])


def main() -> None:
    """Train on what `torchrun` started; alone, on one device."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2048)
    parser.add_argument("--batch", type=int, default=64, help="rows in a batch, over all processes together")
    parser.add_argument("--length", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--out", default="many_devices.weights.h5")
    asked = parser.parse_args()
    together = "RANK" in os.environ  # set by torchrun
    if together:
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        torch.distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    data = tasks.adding_problem(asked.rows, asked.length, np.random.default_rng(0))
    model = train(network, data.x, data.y, batch_size=asked.batch, epochs=asked.epochs)
    if not together or torch.distributed.get_rank() == 0:
        model.save_weights(asked.out)
        print(f"weights in {asked.out}")
    if together:
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
