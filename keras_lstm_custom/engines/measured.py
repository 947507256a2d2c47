"""Where "auto" uses a fast engine: the table of rules, backed by `speed`, `options` and `backends` of `benchmarks/`.

An engine may serve a request and yet be slower on it than `keras.layers.LSTM`. Each rule says where
its engine was measured to be faster; outside of it "auto" asks the next engine. An engine without a
rule is used wherever it serves. Figures and how to repeat them: `docs/engines.md`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import keras

from keras_lstm_custom.engines import fast_path
from keras_lstm_custom.engines.contract import Request, Support
from keras_lstm_custom.equations import lstm_step
from keras_lstm_custom.keras_hooks import recording_gradients
from keras_lstm_custom.structures import Tensor


class Rule(NamedTuple):
    """Where an engine is worth it."""

    holds: Callable[[Request], bool]
    otherwise: str  #: what "auto" says where it does not hold
    but: Callable[[Request], str] = lambda request: ""  #: what it says beside where it holds


def _cudnn(request: Request) -> bool:
    return keras.backend.backend() != "jax"


def _native(request: Request) -> bool:
    # In half precision the casts cost more than one step.
    return request.cell.compute_dtype == "float32" or request.sequences.shape[1] != 1


def _portable(request: Request) -> bool:
    batch, steps, _ = request.sequences.shape
    if steps is None or steps == 1:  # one step is over before a compiled loop has started
        return False
    if batch == 1:
        return True
    if request.cell.compute_dtype == "bfloat16":  # XLA's products of bfloat16 on a CPU are slow
        return False
    # Keras' own inference loop is only the faster one where it is a plain LSTM in float32.
    gated = request.cell.equation is lstm_step
    return request.training or not (gated and request.mask is None and request.cell.compute_dtype == "float32")


def _derived(request: Request) -> bool:
    backend = keras.backend.backend()
    if backend == "jax":  # on a CPU without a gradient the generic loop is compiled to the same
        return _on_gpu() or (request.training and request.sequences.shape[1] != 1 and not _has_blocks(request))
    if backend == "torch":
        return True
    if fast_path.equations_refusal(request.cell) is None:
        return False
    if _is_eager_gradient(request):  # it runs a step twice, and in Python a step costs more than what it computes
        return False
    steps = request.sequences.shape[1]
    if steps == 1:  # `options.py projection "own cell" --shape 32 1 64 256`: 0.9 times as fast in training
        return False
    # Without a gradient it pays where XLA compiles it, over a fixed number of steps; its products of bfloat16 are slow.
    return request.training or (steps is not None and request.cell.compute_dtype != "bfloat16")


def _has_blocks(request: Request) -> bool:
    """Return whether the recurrent kernel is block-diagonal: `options.py slstm`, 0.85 times as fast on JAX on a CPU."""
    return len(request.cell.recurrent_kernel_shape) > 2


def _left_in_eager_calls(request: Request) -> str:
    if not (_is_symbolic(request) and request.training and keras.backend.backend() == "tensorflow"):
        return ""
    return "called eagerly under a gradient tape, not in fit or a tf.function, auto takes the next engine, faster there"


def _is_symbolic(request: Request) -> bool:
    """Return whether it is asked in symbols, by `explain_engine`; the sequences of a segment always are."""
    return isinstance(request.initial_state[0], keras.KerasTensor)


def _is_eager_gradient(request: Request) -> bool:
    import tensorflow as tf

    return tf.executing_eagerly() and recording_gradients() and not _is_symbolic(request)


def _torch_nn(request: Request) -> bool:
    if fast_path.equations_refusal(request.cell):  # `torch_loop` does not know it
        return True
    if request.mask is not None:  # moving the steps costs more than the loop does, but for its gradient on a GPU
        return request.training and _on_cuda(request.sequences)
    return request.sequences.shape[1] not in (2, 3, 4)  # a call of torch.lstm costs more than the steps themselves


def _on_gpu() -> bool:
    import jax

    return jax.default_backend() != "cpu"


def _on_cuda(tensor: Tensor) -> bool:
    import torch

    # A symbolic tensor is nowhere; Keras will put it on the GPU if there is one.
    return tensor.is_cuda if isinstance(tensor, torch.Tensor) else torch.cuda.is_available()


RULES: dict[str, Rule] = {
    "cudnn": Rule(
        _cudnn, "could serve, but JAX's call of it is measured slower than the scan, and keeps twice as much"
    ),
    "native": Rule(_native, "could serve, but is measured faster in float16 and bfloat16 only over more than one step"),
    "portable": Rule(
        _portable,
        "could serve, but is measured faster only over a fixed number of steps, more than one: in training, on one "
        "sequence, under a mask, for a vanilla RNN, in float16 or float64; and in bfloat16 on one sequence only",
    ),
    "derived": Rule(
        _derived,
        "could serve, but is measured faster only for cells whose equations no other engine has written out; on JAX on "
        "a CPU only in training over more than one step, and not over a block-diagonal kernel; under TensorFlow only "
        "over more than one step, without training only over a fixed number of them, not in bfloat16; not under a "
        "gradient tape that is open in an eager call",
        _left_in_eager_calls,
    ),
    "torch_nn": Rule(
        _torch_nn,
        "could serve, but is measured faster only over one step or more than four, under a mask in training on a GPU",
    ),
}


#: What `use_cudnn=True` leaves to "auto": on torch the call that is cuDNN on a GPU, and only there.
CUDNN = ("cudnn", "torch_nn")


def worthwhile(name: str, request: Request) -> Support:
    """Return whether "auto" uses the engine for a request that it can serve.

    `use_cudnn=True` leaves it nothing but cuDNN, as in Keras, whose layer raises where that cannot serve.
    """
    if request.use_cudnn is True:
        return Support(name in CUDNN, "use_cudnn=True asks for cuDNN, whatever is faster")
    rule = RULES.get(name)
    if rule is None or rule.holds(request):
        return Support(True, "" if rule is None else rule.but(request))
    return Support(False, rule.otherwise)
