"""Outputs and gradients of a layer as NumPy arrays, on every Keras backend."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops, tree

Arrays = list[np.ndarray]


def outputs_and_gradients(
    layer: Any, x: np.ndarray, states: Arrays | None = None, **call_options: Any
) -> tuple[Arrays, Arrays]:
    """Run a built layer, and differentiate a loss to which every number of its outputs contributes differently.

    Args:
        layer: a built layer.
        x: `(batch, timesteps, features)`.
        states: the initial state, or None.
        **call_options: `mask` (NumPy) and `training`.

    Returns:
        The outputs; and the gradients of the loss with respect to x, the states and the trainable weights.
    """
    mask = call_options.pop("mask", None)
    if mask is not None:
        call_options["mask"] = ops.convert_to_tensor(mask)
    inputs = [ops.convert_to_tensor(array) for array in (x, *(states or []))]

    def loss_and_outputs(x, *states):
        outputs = tree.flatten(layer(x, initial_state=list(states) or None, **call_options))
        return sum(ops.sum(y * ops.cast(loss_coefficients(y.shape), y.dtype)) for y in outputs), outputs

    outputs, gradients = DIFFERENTIATE[keras.backend.backend()](loss_and_outputs, inputs, layer.trainable_variables)
    to_numpy = ops.convert_to_numpy
    return [to_numpy(y) for y in outputs], [to_numpy(g) for g in gradients]


def loss_coefficients(shape: tuple[int, ...]) -> np.ndarray:
    """Return what each number of an output of this shape is multiplied with before they are summed up."""
    return np.cos(1.0 + np.arange(np.prod(shape))).reshape(shape)


def _tensorflow(loss_and_outputs, inputs, variables):
    import tensorflow as tf

    watched = [*inputs, *(v.value for v in variables)]
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        loss, outputs = loss_and_outputs(*inputs)
    gradients = tape.gradient(loss, watched, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    return outputs, gradients


def _jax(loss_and_outputs, inputs, variables):
    import jax

    def pure(inputs, values):
        with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
            return loss_and_outputs(*inputs)

    values = [v.value for v in variables]
    (by_input, by_weight), outputs = jax.grad(pure, argnums=(0, 1), has_aux=True)(inputs, values)
    return outputs, [*by_input, *by_weight]


def _torch(loss_and_outputs, inputs, variables):
    import torch

    inputs = [x.detach().requires_grad_() for x in inputs]
    loss, outputs = loss_and_outputs(*inputs)
    watched = [*inputs, *(v.value for v in variables)]
    gradients = torch.autograd.grad(loss, watched, allow_unused=True, materialize_grads=True)
    return [y.detach() for y in outputs], gradients


#: (loss and outputs, inputs, variables) -> outputs, gradients; by backend.
DIFFERENTIATE = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}
