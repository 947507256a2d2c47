"""A native recurrence as one differentiable TensorFlow function. Loaded on first use, since it imports TensorFlow."""

from __future__ import annotations

import tensorflow as tf

from keras_lstm_custom.engines.native.library import load
from keras_lstm_custom.engines.native.rows import Handed
from keras_lstm_custom.engines.tensorflow.recurrence import first_order_only
from keras_lstm_custom.keras_hooks import unrecorded
from keras_lstm_custom.structures import Tensor


def recurrence(
    cell: Handed,
    x: Tensor,
    state: list[Tensor],
    *,
    noise: Tensor | None,
    mask: Tensor | None,
    x_dropout: list[Tensor],
    dropout: list[Tensor],
    reverse: bool,
    sequences: bool,
    keep: bool,
) -> tuple[Tensor, list[Tensor]]:
    """Return `h` of all steps, or of the last as `(batch, 1, units)`, and the final state.

    Args:
        cell: the cell and its weights.
        x: `(batch, timesteps, features)`.
        state: `[h, c]` or `[h]` to start from, each `(batch, units)`.
        noise: 1 where a state that is zoned out keeps its old value, `(batch, timesteps, units)` for each; or None.
        mask: `(batch, timesteps)` booleans: a masked step keeps the state; or None.
        x_dropout: no dropout mask on x, one, or one for each gate; `(batch, features)`.
        dropout: no recurrent dropout mask, one, or one for each gate; `(batch, units)`.
        reverse: whether to read x and the mask from their last step to their first.
        sequences: whether `h` of all steps is wanted.
        keep: keep the gates for the gradient; else the gradient computes them again.
    """
    operations = load().operations
    nothing = tf.zeros([0], x.dtype)
    units = cell.recurrent_kernel.shape[0]
    gates = cell.kernel.shape[1] // units
    if len(x_dropout) == 1:  # the same for all gates: one product more, not four
        x, x_dropout = x * x_dropout[0][:, None], []
    attributes = {"cell": cell.cell, "reverse": reverse, **cell.options}
    masks = {
        "mask": tf.zeros([0, 0], tf.bool) if mask is None else mask,
        "x_dropout": tf.stack(x_dropout) if x_dropout else nothing,
        "dropout": tf.stack(dropout * (gates // len(dropout))) if dropout else nothing,
        "noise": nothing if noise is None else noise,
    }
    bias, extra = (nothing if weight is None else weight for weight in (cell.bias, cell.extra))
    names = ("x", "h0", "c0", "kernel", "recurrent", "extra", "bias")

    def forward(*inputs, **options):
        return operations.keras_lstm_custom_forward(
            **dict(zip(names, inputs, strict=True)), **masks, **attributes, **options
        )

    def backward(tensors):
        return tuple(operations.keras_lstm_custom_backward(**tensors, **masks, **attributes))

    @tf.custom_gradient
    def differentiable(*inputs):
        with unrecorded():
            result = forward(*inputs, keep=keep, sequences=sequences)
        # What C++ cannot tell before it runs: its shape functions see neither the attributes nor two inputs at a time.
        for tensor in (result.h, *[result.c] * (len(state) - 1)):
            tensor.set_shape([x.shape[0], units])
        y = [result.y] if sequences else []
        for tensor in y:
            tensor.set_shape([*x.shape[:2], units])

        def gradient(*incoming):
            with unrecorded():
                kept = result if keep else forward(*inputs, keep=True, sequences=True)
            *d_y, d_h, d_c = incoming
            tensors = dict(zip(names[:-1], inputs, strict=False))
            tensors |= {"y": kept.y, "gates": kept.gates, "cells": kept.cells}
            tensors |= {"d_y": d_y[0] if sequences else nothing, "d_h": d_h, "d_c": d_c}
            *gradients, d_bias = first_order_only(backward)(tensors)
            return *gradients, d_bias if inputs[-1].shape[0] else tf.zeros_like(inputs[-1])

        return (*y, result.h, result.c), gradient

    h, *c = state  # a cell without c has nothing in its place
    *y, h, c_after = differentiable(x, h, *(c or [nothing]), cell.kernel, cell.recurrent_kernel, extra, bias)
    return y[0] if sequences else h[:, None], [h, c_after][: len(state)]
