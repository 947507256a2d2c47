"""The examples of distributed training give what one device gives, within rounding, with the engines of "auto"."""

import json
import os
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import keras
import pytest

ROOT = Path(__file__).parents[2]

COMMON = """
import os, sys
sys.path.insert(0, os.environ["EXAMPLES"])
import numpy as np

TOLERANCE = 1e-6  #: sums over the batch are taken in another order
rng = np.random.default_rng(0)
X, Y = rng.normal(size=(8, 5, 3)).astype("float32"), rng.normal(size=(8, 2)).astype("float32")
X[1, 3:] = 0
SIZES = {"batch_size": 8, "epochs": 4}

def network(gru=True):
    import keras, keras_lstm_custom as klc
    keras.utils.set_random_seed(1)
    both = keras.layers.Bidirectional(klc.LSTM(4, return_sequences=True))
    after = [klc.VanillaRNN(6, return_sequences=gru), *([klc.GRU(4)] if gru else []), keras.layers.Dense(2)]
    return keras.Sequential([keras.Input(X.shape[1:]), keras.layers.Masking(), both, *after])

def engines(model):
    return [model.layers[1].forward_layer.last_engine, *(layer.last_engine for layer in model.layers[2:-1])]

def compare(alone, together):
    start = network().get_weights()
    assert len(start) == len(alone) == len(together)
    for before, a, b in zip(start, alone, together):
        assert np.abs(a - before).max() > 1e-5, "nothing was trained"
        assert np.abs(a - b).max() <= TOLERANCE, np.abs(a - b).max()
"""

MIRRORED = """
from many_devices_tensorflow import keras, strategy_for, tf, train, virtual_devices
from functools import partial
virtual_devices(2)
network = partial(network, gru=False)  # as on several machines below: it would be compiled three times here
SGD = {"optimizer": lambda: keras.optimizers.SGD(0.1), "report": lambda _: None}
one, two = (train(strategy_for(count), network, X, Y, **SGD, **SIZES) for count in (1, 2))
assert two.layers[1].forward_layer.cell.kernel.value.values[1].device.endswith("CPU:1")
compare(one.get_weights(), two.get_weights())
print(*engines(two))

with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
    fitted = network()
    fitted.compile(keras.optimizers.SGD(0.1), "mse")
fitted.fit(X, Y, batch_size=8, epochs=4, shuffle=False, verbose=0)
compare(one.get_weights(), fitted.get_weights())
"""

WORKERS = """
from many_devices_tensorflow import keras, strategy_for, tf, train
SGD = {"optimizer": lambda: keras.optimizers.SGD(0.1), "report": lambda _: None}
def network():
    from keras_lstm_custom import GRU, LSTM
    keras.utils.set_random_seed(1)
    return keras.Sequential([keras.Input(X.shape[1:]), LSTM(4, return_sequences=True), GRU(3), keras.layers.Dense(2)])

strategy = strategy_for()
assert strategy.num_replicas_in_sync == 2
together = train(strategy, network, X, Y, **SGD, **SIZES)
print(*(layer.last_engine for layer in together.layers[:2]))
if strategy.cluster_resolver.task_id == 0:
    together = together.get_weights()
    alone = train(tf.distribute.get_strategy(), network, X, Y, **SGD, **SIZES)
    compare(alone.get_weights(), together)
"""

JAX = """
from many_devices_jax import distribution_for, keras, train, virtual_devices
virtual_devices(2)
SGD = {"optimizer": lambda: keras.optimizers.SGD(0.1), "verbose": 0}
assert len(keras.distribution.list_devices()) == 2
expected = train(None, network, X, Y, **SGD, **SIZES).get_weights()
for split in ("batch", "model"):
    model = train(distribution_for(split), network, X, Y, **SGD, **SIZES)
    sharding = model.layers[1].forward_layer.cell.kernel.value.sharding
    assert len(sharding.device_set) == 2
    assert sharding.is_fully_replicated == (split == "batch")
    compare(expected, model.get_weights())
print(*engines(model))
"""

TORCH = """
from many_devices_torch import torch, train
SGD = {"optimizer": lambda weights: torch.optim.SGD(weights, 0.1), "report": lambda _: None}

def on_rank(rank, folder):
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    model = train(network, X, Y, **SGD, **SIZES)
    if rank == 0:
        np.savez(folder + "/together.npz", *model.get_weights())
        print(*engines(model))
    torch.distributed.destroy_process_group()

if __name__ == "__main__":
    torch.multiprocessing.spawn(on_rank, (os.getcwd(),), nprocs=2)
    alone = train(network, X, Y, **SGD, **SIZES)
    with np.load("together.npz") as together:
        compare(alone.get_weights(), list(together.values()))
"""


def start(script, folder, **environment):
    """Start a script in a process of its own, since devices are set up once."""
    (folder / "script.py").write_text(COMMON + script)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "EXAMPLES": str(ROOT / "examples"), **environment}
    told = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "script.py"], cwd=folder, env=environment, **told)


def engines(process):
    """Wait for a script; return the engines that it names."""
    try:
        out, errors = process.communicate(timeout=240)
    finally:
        process.kill()
    assert not process.returncode, errors[-3000:]
    return out.split()


def run(script, folder):
    return engines(start(script, folder))


def needs(backend):
    return pytest.mark.skipif(keras.backend.backend() != backend, reason=f"needs the {backend} backend")


def free_ports(count):
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("localhost", 0))
        return [each.getsockname()[1] for each in sockets]


@needs("tensorflow")
def test_devices_under_tensorflow(tmp_path):
    """By a loop of one's own and, on one machine, by `fit`."""
    assert set(run(MIRRORED, tmp_path)) <= {"native", "portable"}


@needs("tensorflow")
def test_machines_under_tensorflow(tmp_path):
    cluster = {"worker": [f"localhost:{port}" for port in free_ports(2)]}
    tasks = [json.dumps({"cluster": cluster, "task": {"type": "worker", "index": n}}) for n in range(2)]
    processes = [start(WORKERS, tmp_path, TF_CONFIG=task) for task in tasks]
    first, second = (engines(process) for process in processes)
    assert first == second
    assert set(first) <= {"native", "portable", "derived"}


@needs("jax")
def test_data_and_model_parallel_under_jax(tmp_path):
    assert run(JAX, tmp_path) == ["jax_scan", "derived", "derived"]


@needs("torch")
def test_distributed_data_parallel_under_torch(tmp_path):
    assert set(run(TORCH, tmp_path)) <= {"torch_loop", "torch_nn", "derived"}
