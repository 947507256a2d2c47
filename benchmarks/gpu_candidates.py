"""What `gpu.py` measures: one layer, ours on each engine, Keras' own, and the framework's plain call of cuDNN.

`candidates` gives functions without arguments that return when the device is done, by name; under JAX they are compiled
ahead, on many threads, so that compiling is no part of a time and takes little of the run.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import keras
import numpy as np
import own_cell

import keras_lstm_custom as klc
from keras_lstm_custom.engines import ENGINES

BACKEND = keras.backend.backend()


class Workload(NamedTuple):
    """One kind of layer, ours and Keras'."""

    ours: Callable[..., Any]  #: (units, **options) -> layer; AttributeError: this version has no such layer
    keras: Callable[..., Any]
    options: dict = {}
    padded: bool = False  #: the first steps of each row are masked
    plain: str | None = "lstm"  #: the framework's own call that computes the same, or a bound of it
    inference: bool = True  #: False: inference is that of the plain layer


def _keras(name):
    return lambda units, **options: getattr(keras.layers, name)(units, **options)


def _ours(name, **own):
    return lambda units, **options: getattr(klc, name)(units, **own, **options)


def _loop(**own):
    """Keras' own loop over the same cell: it has no such layer."""

    def layer(units, dtype=None, recurrent_initializer=None, **options):
        return keras.layers.RNN(klc.LSTMCell(units, dtype=dtype, **own), dtype=dtype, **options)

    return layer


#: The most important ones first. What this version does not have yet is left out, and said.
WORKLOADS: dict[str, Workload] = {
    "plain": Workload(_ours("LSTM"), _keras("LSTM")),
    "GRU": Workload(_ours("GRU"), _keras("GRU"), plain="gru"),
    "left padding": Workload(_ours("LSTM"), _keras("LSTM"), padded=True),
    "recurrent dropout": Workload(
        _ours("LSTM"), _keras("LSTM"), {"recurrent_dropout": 0.2}, plain=None, inference=False
    ),
    "no bias": Workload(_ours("LSTM"), _keras("LSTM"), {"use_bias": False}, plain="lstm without bias"),
    "vanilla RNN": Workload(_ours("VanillaRNN"), _keras("SimpleRNN"), plain="rnn"),
    "own cell": Workload(own_cell.OwnLayer, own_cell.keras_layer, plain=None),
    "layer norm": Workload(_ours("LSTM", layer_normalization="joint"), _loop(layer_normalization="joint"), plain=None),
    "peepholes": Workload(_ours("LSTM", peepholes=True), _loop(peepholes=True), plain=None),
}


class Candidate(NamedTuple):
    """Something to measure."""

    run: Callable[[], Any]
    note: Callable[[], str]
    memory: Callable[[], float | None]  #: MiB at the peak of one call, over inputs and weights


def layers(workload: Workload, shape: tuple, dtype: str, training: bool) -> dict[str, Any]:
    """Keras' layer, ours on "auto", and on the other engines that know its equations."""
    options = {**workload.options, "return_sequences": True, "dtype": dtype, "recurrent_initializer": "glorot_uniform"}
    auto = workload.ours(shape[3], **options)
    taken = auto.explain_engine(shape[:3], masked=workload.padded, training=training).chosen
    found = {"keras": workload.keras(shape[3], **options), "auto": auto}
    for name in ENGINES:
        layer = workload.ours(shape[3], engine=name, **options)
        serves = layer.explain_engine(shape[:3], masked=workload.padded, training=training).chosen
        if serves and name not in ("reference", "derived", taken):
            found[name] = layer
    for layer in found.values():
        layer.build(shape[:3])
    return found


def mask_of(shape: tuple) -> np.ndarray:
    """Row b leaves out its first steps: none to half of them."""
    batch, steps, _, _ = shape
    return np.arange(steps) >= np.arange(batch)[:, None] * (steps // 2) // batch


def note_of(layer) -> Callable[[], str]:
    """What a layer of ours says afterwards about the engine that ran."""
    return lambda: getattr(layer, "last_engine", None) or ""


def jax_candidates(workload, shape, dtype, training, pool: ThreadPoolExecutor):
    """Return futures of compiled candidates: lowered here, compiled on the pool."""
    import jax
    from jax import numpy as jnp

    batch, _, features, units = shape
    found = layers(workload, shape, dtype, training)
    x = jax.random.normal(jax.random.key(0), shape[:3], found["keras"].compute_dtype)
    mask = jnp.asarray(mask_of(shape)) if workload.padded else None

    def future(forward, weights, note):
        def loss(weights, x):
            return jnp.sum(forward(weights, x).astype("float32") ** 2)

        lowered = jax.jit(jax.value_and_grad(loss) if training else forward).lower(weights, x)

        def compiled():
            program = lowered.compile()
            plan = program.memory_analysis()
            used = None if plan is None else (plan.temp_size_in_bytes + plan.output_size_in_bytes) / 2**20
            return Candidate(lambda: jax.block_until_ready(program(weights, x)), note, lambda: used)

        return pool.submit(compiled)

    def of_layer(layer):
        others = [v.value for v in layer.non_trainable_variables]

        def forward(weights, x):
            return layer.stateless_call(weights, others, x, mask=mask, training=training)[0]

        return future(forward, [v.value for v in layer.trainable_variables], note_of(layer))

    futures = {name: attempted(of_layer, layer) for name, layer in found.items()}
    if workload.plain in ("lstm", "lstm without bias") and jax.default_backend() == "gpu":
        from jax.experimental import rnn

        layout = {"input_size": features, "hidden_size": units, "num_layers": 1, "dropout": 0.0}
        layout["bidirectional"] = False
        sizes = (features, units, 1, False)
        weights = jax.random.normal(jax.random.key(1), (rnn.get_num_params_in_lstm(*sizes),)) * 0.02
        zeros, lengths = jnp.zeros((1, batch, units)), jnp.full((batch,), shape[1], jnp.int32)

        def plain(weights, x):  # float32 is all it has
            return rnn.lstm(x.astype("float32"), zeros, zeros, weights, lengths, **layout)[0].astype(x.dtype)

        futures["plain cuDNN"] = future(plain, weights, lambda: "jax.experimental.rnn.lstm, float32")
    return futures


def torch_candidates(workload, shape, dtype, training, pool):
    """Return candidates in the form of futures, as under JAX."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    found = layers(workload, shape, dtype, training)
    tensor_type = getattr(torch, found["keras"].compute_dtype)
    x = torch.randn(shape[:3], device=device, dtype=tensor_type)
    mask = torch.as_tensor(mask_of(shape), device=device) if workload.padded else None

    def candidate(forward, weights, note):
        def train():
            loss = (forward().float() ** 2).sum()
            torch.autograd.grad(loss, weights)
            wait()

        def infer():
            with torch.no_grad():
                forward()
            wait()

        run = train if training else infer

        def memory():
            if device == "cpu":
                return None
            wait()
            before = torch.cuda.memory_allocated()
            torch.cuda.reset_peak_memory_stats()
            run()
            return (torch.cuda.max_memory_allocated() - before) / 2**20

        return _Done(Candidate(run, note, memory))

    def of_layer(layer, call=None):
        call = call or layer
        weights = [v.value for v in layer.trainable_variables]
        return candidate(lambda: call(x, mask=mask, training=training), weights, note_of(layer))

    futures = {name: of_layer(layer) for name, layer in found.items()}
    if pool is None:  # the part that measures torch.compile
        for name in ("auto", "keras"):
            futures[f"{name}, torch.compile"] = of_layer(found[name], torch.compile(_call(found[name])))
    modules = {"lstm": torch.nn.LSTM, "lstm without bias": torch.nn.LSTM, "rnn": torch.nn.RNN, "gru": torch.nn.GRU}
    if workload.plain is not None:
        bias = workload.plain != "lstm without bias"
        module = modules[workload.plain](
            shape[2], shape[3], batch_first=True, bias=bias, device=device, dtype=tensor_type
        )
        futures["plain cuDNN"] = candidate(
            lambda: module(x)[0],
            list(module.parameters()),
            lambda: type(module).__name__ + ", no mask" * workload.padded,
        )
    return futures


def _call(layer):
    """A plain function, which torch.compile takes."""
    return lambda x, mask, training: layer(x, mask=mask, training=training)


def attempted(make: Callable, layer) -> Any:
    """Return what `make` returns; an error is raised when its result is asked for, so that the others are measured."""
    try:
        return make(layer)
    except Exception as error:
        return _Failed(error)


class _Failed(NamedTuple):
    """A future of something that cannot be made."""

    error: Exception

    def result(self) -> Candidate:
        raise self.error


class _Done(NamedTuple):
    """A future that is there already."""

    value: Candidate

    def result(self) -> Candidate:
        return self.value


CANDIDATES = {"jax": jax_candidates, "torch": torch_candidates}
