"""Distributed training gives what one device gives, with the engines that "auto" takes, within rounding."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import pytest

ROOT = Path(__file__).parents[2]

COMMON = """
import os, sys
import keras, numpy as np
import keras_lstm_custom as klc

TOLERANCE = 1e-6  #: sums over the batch are taken in another order
rng = np.random.default_rng(0)
X, Y = rng.normal(size=(8, 5, 3)).astype("float32"), rng.normal(size=(8, 2)).astype("float32")
X[1, 3:] = 0

def network():
    keras.utils.set_random_seed(1)
    both = keras.layers.Bidirectional(klc.LSTM(4, return_sequences=True))
    after = [klc.VanillaRNN(6), keras.layers.Dense(2)]
    return keras.Sequential([keras.Input(X.shape[1:]), keras.layers.Masking(), both, *after])

def engines(model):
    return [model.layers[1].forward_layer.last_engine, model.layers[2].last_engine]

def compare(alone, together, least=1e-3):
    start = network().get_weights()
    for before, a, b in zip(start, alone, together, strict=True):
        assert np.abs(a - before).max() > least, "nothing was trained"
        assert np.abs(a - b).max() <= TOLERANCE, np.abs(a - b).max()
"""

MIRRORED = """
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

def train(strategy):
    with strategy.scope():
        model, optimizer = network(), keras.optimizers.SGD(0.1)
        optimizer.build(model.trainable_variables)

    def on_replica(x, y):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum((model(x, training=True) - y) ** 2) / len(X)
        gradients = tape.gradient(loss, model.trainable_variables)
        context = tf.distribute.get_replica_context()
        gradients = context.all_reduce(tf.distribute.ReduceOp.SUM, gradients)
        for variable, gradient in zip(model.trainable_variables, gradients):
            variable.value.assign_sub(0.1 * gradient)

    @tf.function
    def step(x, y):
        strategy.run(on_replica, args=(x, y))

    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(len(X))
    for _ in range(4):
        for x, y in strategy.experimental_distribute_dataset(data):
            step(x, y)
    return model

one, two = (train(tf.distribute.MirroredStrategy(d)) for d in (["CPU:0"], ["CPU:0", "CPU:1"]))
assert two.layers[1].forward_layer.cell.kernel.value.values[1].device.endswith("CPU:1")
compare(one.get_weights(), two.get_weights())
print(*engines(two))
"""

JAX = """
import jax
devices = jax.devices()
assert len(devices) == 2

def train(distribution=None):
    if distribution is not None:
        keras.distribution.set_distribution(distribution)
    model = network()
    model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=True)
    model.fit(X, Y, batch_size=8, epochs=4, shuffle=False, verbose=0)
    return model

names = keras.distribution.list_devices()
one = train()
expected = one.get_weights()
data = train(keras.distribution.DataParallel(devices=names))
compare(expected, data.get_weights())
layout = keras.distribution.LayoutMap(keras.distribution.DeviceMesh((1, 2), ["batch", "model"], names))
layout[".*kernel"] = (None, "model")
split = train(keras.distribution.ModelParallel(layout_map=layout, batch_dim_name="batch"))
assert len(split.layers[1].forward_layer.cell.kernel.value.sharding.device_set) == 2
compare(expected, split.get_weights())
print(*engines(split))
"""

TORCH = """
import torch
import torch.distributed
import torch.multiprocessing

def trained(model):
    return [w for w in model.parameters() if w.requires_grad]  # Keras' seeds are parameters, too

def steps(model, x, y, call=None):
    call = call or model
    optimizer = torch.optim.SGD(trained(model), 0.1)
    for _ in range(4):
        optimizer.zero_grad()
        ((call(x) - y) ** 2).mean().backward()
        optimizer.step()
    return [w.detach().numpy() for w in trained(model)]

def on_rank(rank, folder):
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    model = network()
    half = slice(4 * rank, 4 * rank + 4)
    x, y = torch.as_tensor(X[half]), torch.as_tensor(Y[half])
    weights = steps(model, x, y, torch.nn.parallel.DistributedDataParallel(model))
    if rank == 0:
        np.savez(folder + "/together.npz", *weights)
        print(*engines(model))
    torch.distributed.destroy_process_group()

if __name__ == "__main__":
    folder = os.getcwd()
    torch.multiprocessing.spawn(on_rank, (folder,), nprocs=2)
    model = network()
    before = [w.detach().numpy().copy() for w in trained(model)]
    alone = steps(model, torch.as_tensor(X), torch.as_tensor(Y))
    with np.load("together.npz") as together:
        for start, a, b in zip(before, alone, together.values(), strict=True):
            assert np.abs(a - start).max() > 1e-5, "nothing was trained"
            assert np.abs(a - b).max() <= TOLERANCE, np.abs(a - b).max()
"""


def run(script, folder, **environment):
    """Run a script in a process of its own, since devices are set up once; return the engines that it names."""
    (folder / "script.py").write_text(COMMON + script)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "KERAS_BACKEND": keras.backend.backend(), **environment}
    command = [sys.executable, "script.py"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=240)
    assert not done.returncode, done.stderr[-3000:]
    return done.stdout.split()


def needs(backend):
    return pytest.mark.skipif(keras.backend.backend() != backend, reason=f"needs the {backend} backend")


@needs("tensorflow")
def test_mirrored_strategy(tmp_path):
    assert set(run(MIRRORED, tmp_path)) <= {"native", "portable"}


@needs("jax")
def test_data_and_model_parallel(tmp_path):
    flags = "--xla_force_host_platform_device_count=2"
    assert set(run(JAX, tmp_path, XLA_FLAGS=flags)) == {"jax_scan"}


@needs("torch")
def test_distributed_data_parallel(tmp_path):
    assert set(run(TORCH, tmp_path)) == {"torch_loop"}
