"""The derived recurrence in TensorFlow: a loop forward, and one backward over the kept states and products.

What a step reads of the tensors of all steps is read one step ahead, and carried: XLA else reads it where it computes
with it, and does not vectorise a loop over a part of that part (one gate, the products of one head). The loop back of
an sLSTM with four heads over 128, 50, 128, 512 took 69 ms so, and takes 50; `python benchmarks/options.py slstm`
measures both loops together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, cached_property, partial
from typing import Any

import tensorflow as tf

from keras_lstm_custom.engines.derived_step import Step
from keras_lstm_custom.engines.fast_path import masks_of
from keras_lstm_custom.keras_hooks import DropoutMasks, recording_gradients, unrecorded
from keras_lstm_custom.structures import Tensor

#: Rows of a kernel from which on its products are kept: `python benchmarks/options.py projection`, 32 of 256 units.
NARROW = 64


def recurrence(cell: Any) -> Callable:
    """Return the recurrence of the cell, as `jax.derived.recurrence` does; calls of it share what XLA compiles."""
    return partial(_recurrence, cell, cache(partial(_Loops, cell)))


def _recurrence(
    cell: Any,
    loops_of: Callable,
    x: Tensor,
    state: Sequence[Tensor],
    weights: Sequence[Tensor],
    mask: Tensor | None,
    dropout: DropoutMasks,
) -> tuple[Tensor, list[Tensor]]:
    # XLA compiles once for each number of steps, so the number must be static.
    compiled = x.shape[0] is not None and not tf.executing_eagerly()
    recurrent = masks_of(dropout.recurrent)
    loops = loops_of(len(recurrent), len(state))
    forward, backward = loops.compiled if compiled else (loops.forward, loops.backward)
    keep = recording_gradients()
    data = [] if mask is None else [mask], list(recurrent)

    @tf.custom_gradient
    def run(z_x, *tensors):
        arguments = z_x, list(tensors[: loops.states]), list(tensors[loops.states :]), *data
        final, states, products = forward(*arguments, keep)

        def gradient(d_hs, *d_final):
            kept = (states, products) if keep else forward(*arguments, True)[1:]
            d_state, d_in_step, given = backward(*arguments, *kept, d_hs, list(d_final))
            return (given[0], *d_state, *loops.d_weights(*arguments, kept[0], d_in_step, given))

        return (states[0], *final), gradient

    hs, *final = run(cell.project_inputs(x, dropout.inputs), *state, *map(tf.convert_to_tensor, weights))
    return hs, final


def _compiled(loop: Callable) -> Callable:
    """Return the loop, compiled by XLA. It has its gradient: a tape on it would ask XLA for what it cannot."""
    function = tf.function(loop, jit_compile=True, autograph=False)

    def call(*arguments):
        function.get_concrete_function(*arguments)  # traced with tapes on: the loop back has one of its own
        with unrecorded():
            return function(*arguments)

    return call


class _Loops:
    """Both loops over one step; `mask` is a list of none or one."""

    def __init__(self, cell: Any, dropout: int, states: int):
        self.step, self.states = Step(cell, dropout), states

    @cached_property
    def compiled(self) -> tuple[Callable, Callable]:
        return _compiled(self.forward), _compiled(self.backward)

    def forward(self, z_x, state, weights, mask, dropout, keep):
        """Return the final state, h after each step, and to `keep` all states after it and products of each."""
        kernels, _ = self.step.kernels(tf.matmul, z_x[0], state, weights, dropout)

        def one(here, state):
            z_t, read = here
            products = []

            def serve(number, a, _):
                z = tf.matmul(a, kernels[number])
                products.extend([z] if _is_kept(kernels[number]) else [])
                return z

            new = self.step.run(serve, z_t, state, dropout)
            if mask:
                new = [tf.where(read[0], n, s) for n, s in zip(new, state, strict=True)]
            return new, [new, products] if keep else [new[:1], []]

        with self.step.holding(weights):
            final, (states, products) = _loop(one, _length(z_x), _reader([z_x, mask]), state)
        return final, states, products

    def backward(self, z_x, start, weights, mask, dropout, states, products, d_hs, d_final):
        """Return the gradients of the initial state and of what steps read other than by a product, and `given`.

        That is what the gradients of the inputs and the kernels are made of, for each step: dz of the inputs first.
        """
        kernels, _ = self.step.kernels(tf.matmul, z_x[0], start, weights, dropout)
        of_step, after = _reader([z_x, d_hs, mask, products]), _reader(states)

        def read_all(t):
            before = zip(after(tf.maximum(t - 1, 0)), start, strict=True)
            return [*of_step(t), [tf.where(t > 0, s, first) for s, first in before]]

        def back(here, d_state):
            (z_t, d_h, read, products, state), (dh, *rest) = here, d_state
            d_new = [dh + d_h, *rest]
            d_kept = None
            if mask:
                d_kept = [tf.where(read[0], tf.zeros_like(d), d) for d in d_new]
                d_new = [tf.where(read[0], d, tf.zeros_like(d)) for d in d_new]
            operands, sources, kept = [], [z_t, *state], iter(products)
            with tf.GradientTape() as tape:
                tape.watch([*sources, *weights])

                def serve(number, a, _):
                    kernel = kernels[number]
                    z = next(kept) if _is_kept(kernel) else tf.stop_gradient(tf.matmul(a, kernel))
                    tape.watch(z)
                    operands.append(a)
                    sources.append(z)
                    return _linked(a, z, kernel)

                new = self.step.run(serve, z_t, state, dropout)
            found = tape.gradient(new, [*sources, *weights], output_gradients=d_new)
            d_in_step = found[len(sources) :]
            found = [tf.zeros_like(s) if d is None else d for d, s in zip(found, sources, strict=False)]
            (dz_x, *d_state), d_products = found[: 1 + self.states], found[1 + self.states :]
            if d_kept is not None:
                d_state = [a + b for a, b in zip(d_state, d_kept, strict=True)]
            # What is there already is not written again: dz of a product that is only added to z_x, and a state.
            given = [dz_x]
            self.factors = [
                (_place(a, state, given), _place(dz, (), given)) for a, dz in zip(operands, d_products, strict=True)
            ]
            return d_state, d_in_step, given

        with self.step.holding(weights):
            _, d_in_step, _ = back(read_all(0), d_final)
            self.reached = [n for n, d in enumerate(d_in_step) if d is not None]

            def one(here, carried):
                d_state, d_in_step, given = back(here, carried[: self.states])
                totals = zip(self.reached, carried[self.states :], strict=True)
                return [*d_state, *(total + d_in_step[n] for n, total in totals)], given

            carried = [*d_final, *(tf.zeros_like(weights[n]) for n in self.reached)]
            carried, given = _loop(one, _length(z_x), read_all, carried, backwards=True)
        return carried[: self.states], carried[self.states :], given

    def d_weights(self, z_x, state, weights, mask, dropout, states, d_in_step, given):
        """Return the gradients of the weights: a product over all steps for each kernel, outside of what XLA compiles.

        Of one of its factors transposed, XLA's product takes twice as long on a CPU as TensorFlow's own.
        """
        with tf.GradientTape() as tape:
            tape.watch(weights)
            kernels, _ = self.step.kernels(tf.matmul, z_x[0], state, weights, dropout)

        def factor(place):
            is_state, n = place
            return tf.concat([state[n][None], states[n][:-1]], axis=0) if is_state else given[n]

        d_kernels = [_kernel_gradient(factor(a), factor(dz)) for a, dz in self.factors]
        d_weights = tape.gradient(kernels, weights, d_kernels, tf.UnconnectedGradients.ZERO)
        for n, d in zip(self.reached, d_in_step, strict=True):
            d_weights[n] += d
        return d_weights


def _is_kept(kernel):
    """Return whether a product is kept for the gradient: of a narrow operand it is sooner computed again than read."""
    return len(kernel.shape) > 2 or kernel.shape[0] >= NARROW


def _place(tensor, states, given):
    """Return whether a tensor is a state, and its place among these or what is given; if it is neither, it is given."""
    for is_state, tensors in ((True, states), (False, given)):
        for n, other in enumerate(tensors):
            if other is tensor:
                return is_state, n
    given.append(tensor)
    return False, len(given) - 1


def _length(tensor):
    return tensor.shape[0] if tensor.shape[0] is not None else tf.shape(tensor)[0]


def _reader(tensors):
    """Return t -> the tensors of step t, in the same structure."""
    arrays = [
        tf.TensorArray(x.dtype, _length(x), element_shape=x.shape[1:], clear_after_read=False).unstack(x)
        for x in tf.nest.flatten(tensors)
    ]
    return lambda t: tf.nest.pack_sequence_as(tensors, [array.read(t) for array in arrays])


def _loop(one, count, read, carried, backwards=False):
    """Run `one` over what is read of each step, and what is carried.

    Return what is carried at the end, and what each step gives, in the order of time.
    """
    start, way = (count - 1, -1) if backwards else (0, 1)
    first = read(start)
    example = one(first, carried)[1]
    arrays = [tf.TensorArray(x.dtype, count, element_shape=x.shape) for x in tf.nest.flatten(example)]

    def body(n, here, carried, arrays):
        t = start + way * n
        new, given = one(here, carried)
        ahead = read(tf.clip_by_value(t + way, 0, count - 1))
        new, ahead = tf.nest.map_structure(lambda x, y: tf.ensure_shape(x, y.shape), (new, ahead), (carried, here))
        return n + 1, ahead, new, [array.write(t, x) for array, x in zip(arrays, tf.nest.flatten(given), strict=True)]

    _, _, carried, arrays = tf.while_loop(
        lambda n, *_: n < count, body, (0, first, carried, arrays), maximum_iterations=count, parallel_iterations=1
    )
    return carried, tf.nest.pack_sequence_as(example, [array.stack() for array in arrays])


def _kernel_gradient(a, dz):
    """Return Σ aᵀ dz over all steps and rows."""

    def rows(x):
        blocks = range(1, len(x.shape) - 2)
        x = tf.transpose(x, [*blocks, 0, len(x.shape) - 2, len(x.shape) - 1]) if blocks else x
        return tf.reshape(x, (*x.shape[: len(blocks)], -1, x.shape[-1]))

    return tf.matmul(rows(a), rows(dz), transpose_a=True)


@tf.custom_gradient
def _linked(a, z, kernel):
    """Return z = a W as it was kept, with the gradient of the product: dW is left to the caller, who takes dz."""
    return tf.identity(z), lambda dz: (tf.matmul(dz, kernel, transpose_b=True), dz, tf.zeros_like(kernel))
