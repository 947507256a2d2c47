r"""A recurrence over time in TensorFlow, with a gradient of its own.

Only what depends on the state stays in the loops. Forward, that is $z_t = z_{x,t} + h_{t-1} U$ and the
gates. Backward, one step of the LSTM is linear in the incoming gradients,

$$
dc_t = dc + dh \odot o_t \odot (1 - \tanh^2 c_t), \qquad
dz_t = [dc_t, dc_t, dc_t, dh] \odot k_t, \qquad
dh_{t-1} = dz_t U^\top, \qquad dc_{t-1} = dc_t \odot f_t,
$$

with coefficients $k_t$ that are computed from the kept gates for all steps at once. The gradient of
$U$ is one product over all steps after the loop; those of the kernel, the bias and the input follow
from $dz$ outside this module, by TensorFlow's own gradient of the projection. A masked step is data,
too: its coefficients pass the gradients on unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import tensorflow as tf

from keras_lstm_custom.equations import lstm_step, rnn_step
from keras_lstm_custom.errors import EngineError
from keras_lstm_custom.keras_hooks import unrecorded
from keras_lstm_custom.structures import Tensor


class Kind(NamedTuple):
    """The equations of one cell, forward and backward."""

    forward: Callable[[Tensor, list[Tensor]], tuple[list[Tensor], list[Tensor]]]  #: (z, state) -> new state, kept
    #: (kept over all steps) -> (coefficients over all steps, their values where a step is masked)
    coefficients: Callable[[Tensor], tuple[list[Tensor], list[float]]]
    backward: Callable[[list[Tensor], list[Tensor]], tuple[Tensor, list[Tensor]]]  #: -> dz, [dc before the step]


def _lstm_forward(z, state):
    z_i, z_f, z_g, z_o = tf.split(z, 4, axis=1)
    i, f, g, o = tf.sigmoid(z_i), tf.sigmoid(z_f), tf.tanh(z_g), tf.sigmoid(z_o)
    _, c_before = state
    c = f * c_before + i * g
    tanh_c = tf.tanh(c)
    return [o * tanh_c, c], [i, f, g, o, c_before, tanh_c]


def _lstm_coefficients(kept):
    i, f, g, o, c_before, tanh_c = kept
    to_z = [g * i * (1 - i), c_before * f * (1 - f), i * (1 - g * g), tanh_c * o * (1 - o)]
    return [tf.concat(to_z, axis=2), o * (1 - tanh_c * tanh_c), f], [0.0, 0.0, 1.0]


def _lstm_backward(coefficients, d_state):
    to_z, h_to_c, f = coefficients
    dh, dc = d_state
    dc = dc + dh * h_to_c
    return tf.concat([dc, dc, dc, dh], axis=1) * to_z, [dc * f]


def _rnn_forward(z, state):
    h = tf.tanh(z)
    return [h], [h]


def _rnn_coefficients(kept):
    (h,) = kept
    return [1 - h * h], [0.0]


def _rnn_backward(coefficients, d_state):
    return coefficients[0] * d_state[0], []


KINDS = {
    lstm_step: Kind(_lstm_forward, _lstm_coefficients, _lstm_backward),
    rnn_step: Kind(_rnn_forward, _rnn_coefficients, _rnn_backward),
}


class Recurrence:
    """The equations of one cell with a given way to run its loops, compiled by XLA or as plain graph.

    Args:
        equation: a key of `KINDS`.
        compiled: whether XLA compiles the loops; worth it when the number of steps is static.
    """

    def __init__(self, equation: Callable, *, compiled: bool):
        self._equations = KINDS[equation]
        self._run_forward: Callable = self._forward
        self._run_backward: Callable = self._backward
        if compiled:
            self._run_forward = tf.function(self._forward, jit_compile=True, autograph=False)
            self._run_backward = tf.function(self._backward, jit_compile=True, autograph=False)
        self._run_backward = first_order_only(self._run_backward)

    def __call__(
        self,
        z_x: Tensor,
        state: list[Tensor],
        recurrent_kernel: Tensor,
        mask: Tensor | None = None,
        dropout: Sequence[Tensor] = (),
        keep: bool = True,
    ) -> tuple[Tensor, list[Tensor]]:
        """Return `h` of all steps, and the final state.

        Args:
            z_x: `(timesteps, batch, gates * units)`, the projected inputs.
            state: initial state, each `(batch, units)`.
            recurrent_kernel: `(units, gates * units)`.
            mask: `(timesteps, batch, 1)` booleans: a masked step keeps the state.
            dropout: no, one, or one for each gate: recurrent dropout masks `(batch, units)`.
            keep: keep the gates for the gradient; else the gradient computes them again.
        """

        @tf.custom_gradient
        def recurrence(z_x, recurrent_kernel, *state):
            arguments = (z_x, list(state), recurrent_kernel, mask, list(dropout))
            with unrecorded():  # it has its own gradient; a tape on a compiled loop would ask XLA for what it cannot
                hs, final, kept = self._run_forward(*arguments, keep=keep)

            def gradient(d_hs, *d_final):
                with unrecorded():
                    values = kept if keep else self._run_forward(*arguments, keep=True)[2]
                h_before = tf.concat([state[0][None], hs[:-1]], axis=0)
                incoming = (d_hs, list(d_final), values, h_before, recurrent_kernel)
                dz, d_kernel, d_state = self._run_backward(incoming, mask, list(dropout))
                return dz, d_kernel, *d_state

            return (hs, *final), gradient

        hs, *final = recurrence(z_x, recurrent_kernel, *state)
        return hs, final

    def _forward(self, z_x, state, recurrent_kernel, mask, dropout, keep):
        product = _recurrent_product(recurrent_kernel, dropout)
        steps = _Steps(z_x)
        z_of, mask_of = steps.read(z_x), steps.read(mask)
        hs, saved = steps.write(state[0]), ()
        if keep:
            _, example = self._equations.forward(z_x[0], state)
            saved = tuple(steps.write(value) for value in example)

        def body(t, state, hs, saved):
            new, kept = self._equations.forward(z_of(t) + product(state[0]), state)
            if mask is not None:
                new = [tf.where(mask_of(t), n, s) for n, s in zip(new, state, strict=True)]
            saved = tuple(array.write(t, value) for array, value in zip(saved, kept, strict=False))
            return t + 1, new, hs.write(t, new[0]), saved

        _, state, hs, saved = tf.while_loop(
            lambda t, *_: t < steps.count, body, (0, state, hs, saved), maximum_iterations=steps.count
        )
        return hs.stack(), state, [array.stack() for array in saved]

    def _backward(self, incoming, mask, dropout):
        d_hs, d_state, kept, h_before, recurrent_kernel = incoming
        coefficients, when_masked = self._equations.coefficients(kept)
        if mask is not None:
            coefficients = [
                tf.where(mask, k, tf.cast(value, k.dtype)) for k, value in zip(coefficients, when_masked, strict=True)
            ]
        steps = _Steps(d_hs)
        d_h_of, mask_of = steps.read(d_hs), steps.read(mask)
        coefficients_of = [steps.read(k) for k in coefficients]
        to_h = _transposed_product(recurrent_kernel, dropout)

        def body(t, d_state, dz):
            dh = d_state[0] + d_h_of(t)
            dz_t, d_rest = self._equations.backward([k(t) for k in coefficients_of], [dh, *d_state[1:]])
            dh_before = to_h(dz_t)
            if mask is not None:
                dh_before = tf.where(mask_of(t), dh_before, dh)
            return t - 1, [dh_before, *d_rest], dz.write(t, dz_t)

        dz = steps.write(coefficients[0][0])
        _, d_state, dz = tf.while_loop(
            lambda t, *_: t >= 0, body, (steps.count - 1, d_state, dz), maximum_iterations=steps.count
        )
        dz = dz.stack()
        return dz, _kernel_gradient(h_before, dz, dropout), d_state


def first_order_only(function: Callable) -> Callable:
    """Return `function(tensors, *constants)` such that a gradient of its result with respect to `tensors` raises."""

    def once(tensors, *constants):
        nested = []

        @tf.custom_gradient
        def flat(*leaves):
            with unrecorded():
                nested.append(function(tf.nest.pack_sequence_as(tensors, leaves), *constants))

            def gradient(*_):
                raise EngineError(
                    "A fast engine has a gradient, but no gradient of that gradient.",
                    expected="first derivatives only",
                    received="a second derivative through a recurrent layer",
                    remedy="Pass engine='reference' to the layer.",
                )

            return tf.nest.flatten(nested[-1]), gradient

        leaves = flat(*tf.nest.flatten(tensors))
        return tf.nest.pack_sequence_as(nested[-1], leaves)

    return once


class _Steps:
    """Reads and writes one step of time-major tensors."""

    def __init__(self, like: Tensor):
        self.count = like.shape[0] if like.shape[0] is not None else tf.shape(like)[0]

    def read(self, tensor: Tensor | None) -> Callable[[Tensor], Tensor]:
        if tensor is None:
            return lambda t: None
        array = tf.TensorArray(tensor.dtype, self.count, element_shape=tensor.shape[1:], clear_after_read=False)
        return array.unstack(tensor).read

    def write(self, like: Tensor) -> tf.TensorArray:
        return tf.TensorArray(like.dtype, self.count, element_shape=like.shape)


def _recurrent_product(kernel, dropout):
    """Return h -> h U, with the dropout masks on h."""
    if len(dropout) <= 1:
        return lambda h: tf.matmul(h * dropout[0] if dropout else h, kernel)
    blocks = tf.split(kernel, len(dropout), axis=1)
    return lambda h: tf.concat([tf.matmul(h * m, block) for m, block in zip(dropout, blocks, strict=True)], axis=1)


def _transposed_product(kernel, dropout):
    """Return dz -> dh, the transpose of `_recurrent_product`."""
    transposed = tf.transpose(kernel)
    if len(dropout) <= 1:
        return lambda dz: tf.matmul(dz, transposed) * dropout[0] if dropout else tf.matmul(dz, transposed)
    blocks = tf.split(transposed, len(dropout), axis=0)

    def to_h(dz):
        parts = zip(dropout, tf.split(dz, len(dropout), axis=1), blocks, strict=True)
        return tf.add_n([tf.matmul(part, block) * m for m, part, block in parts])

    return to_h


def _kernel_gradient(h_before, dz, dropout):
    """Return dU as one product over all steps and rows."""

    def product(h, d):
        return tf.matmul(_rows(h), _rows(d), transpose_a=True)

    if not dropout:
        return product(h_before, dz)
    parts = zip(dropout, tf.split(dz, len(dropout), axis=2), strict=True)
    return tf.concat([product(h_before * m, part) for m, part in parts], axis=1)


def _rows(tensor):
    return tf.reshape(tensor, [-1, tensor.shape[-1]])
