"""A cell that the package does not have, as somebody would write it: ours from its step, and the same as a Keras cell.

The minimal gated unit, with one gate: f = σ(W_f x + b_f + U_f h), n = tanh(W_n x + b_n + U_n (f ⊙ h)),
h' = (1 - f) ⊙ h + f ⊙ n. Source: Zhou et al. 2016, *Minimal Gated Unit for Recurrent Neural Networks* (arXiv
1603.09420).
"""

from __future__ import annotations

from typing import NamedTuple

import keras
from keras import ops

import keras_lstm_custom as klc
from keras_lstm_custom.equations import project


class Step(NamedTuple):
    """All that a step computes."""

    h: object
    f: object
    n: object

    @property
    def state(self):
        return [self.h]


def add_weights(cell, features: int) -> None:
    """Add the weights of both gates, side by side."""
    cell.kernel = cell.add_weight(shape=(features, 2 * cell.units), name="kernel")
    cell.recurrent_kernel = cell.add_weight(shape=(cell.units, 2 * cell.units), name="recurrent_kernel")
    cell.bias = cell.add_weight(shape=(2 * cell.units,), initializer="zeros", name="bias")
    cell.built = True


class OwnCell(klc.VanillaRNNCell):
    """Its own weights and its own step; everything else it has."""

    step_type = Step

    def build(self, input_shape):
        add_weights(self, input_shape[-1])

    def step(self, z_x, state, recurrent_dropout=None):
        x_f, x_n = ops.split(z_x, 2, axis=-1)
        u_f, u_n = ops.split(ops.cast(self.recurrent_kernel, self.compute_dtype), 2, axis=-1)
        f = ops.sigmoid(x_f + project(state.h, u_f))
        n = ops.tanh(x_n + project(f * state.h, u_n))
        return Step(h=(1 - f) * state.h + f * n, f=f, n=n)


class OwnLayer(klc.VanillaRNN):
    """The layer of it."""

    cell_class = OwnCell


class KerasCell(keras.layers.Layer):
    """The same cell, for `keras.layers.RNN`."""

    def __init__(self, units, **options):
        super().__init__(**options)
        self.units = self.state_size = units

    def build(self, input_shape):
        add_weights(self, input_shape[-1])

    def call(self, inputs, states):
        h = states[0]
        x_f, x_n = ops.split(ops.matmul(inputs, self.kernel) + self.bias, 2, axis=-1)
        u_f, u_n = ops.split(self.recurrent_kernel, 2, axis=-1)
        f = ops.sigmoid(x_f + ops.matmul(h, u_f))
        h = (1 - f) * h + f * ops.tanh(x_n + ops.matmul(f * h, u_n))
        return h, [h]


def keras_layer(units, dtype=None, recurrent_initializer=None, **options):
    """Return Keras' layer over that cell."""
    return keras.layers.RNN(KerasCell(units, dtype=dtype), dtype=dtype, **options)
