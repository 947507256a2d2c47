"""Gradients by the framework that Keras runs on: the only file of the diagnostics that knows which one it is."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from itertools import count
from typing import Any

import keras

from keras_lstm_custom.structures import Tensor

#: Takes tensors, returns a scalar tensor.
Scalar = Callable[[list[Tensor]], Tensor]

#: Tracing a gradient takes 0.3 s (Keras' layers) to 2 s (ours, by XLA); after that, 20 steps take 0.05 s less.
EAGER_CALLS = 8


def value_and_gradients(function: Scalar, inputs: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Return `function(inputs)` and its gradient with respect to every input.

    Inputs that the value does not depend on have a gradient of zero. `function` is called once.
    """
    return _FRAMEWORKS[keras.backend.backend()](function, inputs)


def repeated(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return `function` of tensors for many calls with tensors of the same shapes.

    It is compiled where that pays: on JAX, which otherwise compiles each loop over time anew; on TensorFlow
    after `EAGER_CALLS`; on torch never.
    """
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        return jax.jit(function)
    if backend == "tensorflow":
        import tensorflow as tf

        graph, calls = tf.function(function, autograph=False), count()
        return lambda *args: (function if next(calls) < EAGER_CALLS else graph)(*args)
    return function


def no_gradients() -> AbstractContextManager:
    """Return a context in which no framework keeps what a gradient would need."""
    if keras.backend.backend() == "torch":
        import torch

        return torch.no_grad()
    return nullcontext()  # TensorFlow and JAX keep nothing unless asked


def _tensorflow(function: Scalar, inputs: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    import tensorflow as tf

    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(inputs)
        value = function(inputs)
    gradients = tape.gradient(value, inputs, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    return value, [tf.convert_to_tensor(gradient) for gradient in gradients]  # of what was gathered, it is in slices


def _jax(function: Scalar, inputs: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    import jax

    return jax.value_and_grad(function)(inputs)


def _torch(function: Scalar, inputs: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    import torch

    leaves = [tensor.detach().requires_grad_() for tensor in inputs]
    value = function(leaves)
    return value.detach(), list(torch.autograd.grad(value, leaves, allow_unused=True, materialize_grads=True))


_FRAMEWORKS = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}
