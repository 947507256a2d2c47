"""The loop of the derived recurrence in torch: its own autograd, or a trace, over the steps, but for the kernels.

A product's backward keeps its operand and dz instead of multiplying them; the kernel's gradient is one product over
many of them. On a CPU those are the steps of some `ROWS` rows: tensors of all steps would go through memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from itertools import chain
from typing import Any

import torch

from keras_lstm_custom.engines.derived_step import Step
from keras_lstm_custom.engines.torch import derived_traced
from keras_lstm_custom.engines.torch.derived_traced import Constants
from keras_lstm_custom.structures import Tensor

#: How many rows of a product come together on a CPU; measured over the shapes of `benchmarks/options.py`.
ROWS = 1024


class Book:
    """Operands and dz of the products with one kernel, and the gradient of those that have been multiplied."""

    def __init__(self) -> None:
        self._pairs: list[tuple[Tensor, Tensor]] = []
        self._total: Tensor | None = None

    def add(self, a: Tensor, dz: Tensor) -> None:
        """Note a product, and multiply if there are enough."""
        self._pairs.append((a, dz))
        if not a.is_cuda and len(self._pairs) * a.shape[-2] >= ROWS:
            self._multiply()

    def take(self) -> Tensor | None:
        """Return the gradient of all products since the last time, or None if there were none."""
        if self._pairs:
            self._multiply()
        total, self._total = self._total, None
        return total

    def _multiply(self) -> None:
        a, dz = (torch.cat(tensors, dim=-2) for tensors in zip(*self._pairs, strict=True))
        self._pairs.clear()
        gradient = a.mT @ dz
        gradient = gradient.to(torch.promote_types(gradient.dtype, torch.float32))
        self._total = gradient if self._total is None else self._total.add_(gradient)


def run(
    cell: Any,
    z_xs: Iterable[Tensor],
    state: Sequence[Tensor],
    weights: Sequence[Tensor],
    mask: Tensor | None,
    dropout: Sequence[Tensor],
    timesteps: int,
) -> tuple[Tensor, list[Tensor]]:
    """Return what `recurrence` does, of projected inputs that come for some steps at a time."""
    step, z_xs = Step(cell, len(dropout)), iter(z_xs)
    first = next(z_xs)
    kernels, new = step.kernels(torch.matmul, first[0], state, weights, dropout)
    books = [Book() for _ in kernels]
    hooked = [_Kernel.apply(kernel, book) for kernel, book in zip(kernels, books, strict=True)]
    constants = Constants(weights, hooked, dropout)
    of_first = first[0], None if mask is None else mask[0], state, constants
    traced = derived_traced.step(cell, timesteps, *of_first, new)
    part = partial(_part, step, books)
    if traced is not None:
        part = partial(traced.run, part, books)
    hs: list[Tensor] = []
    done = 0
    for z_x in chain([first], z_xs):
        of_part = None if mask is None else mask[done : done + len(z_x)]
        h, *state = part(z_x, of_part, state, constants)
        hs.append(h)
        done += len(z_x)
    return torch.cat(hs) if len(hs) > 1 else hs[0], list(state)


def _part(step, books, z_x, mask, state, constants):
    """Return h of all steps, and the final state."""
    product = _Product.apply if torch.is_grad_enabled() else lambda a, kernel, _: a @ kernel

    def serve(number: int, a: Tensor, _: Tensor) -> Tensor:
        return product(a, constants.kernels[number], books[number])

    hs = []
    with step.holding(constants.weights):
        for t, z_t in enumerate(z_x.unbind()):
            new = step.run(serve, z_t, state, constants.dropout)
            state = new if mask is None else [torch.where(mask[t], *pair) for pair in zip(new, state, strict=True)]
            hs.append(state[0])
    return torch.stack(hs), *state


class _Kernel(torch.autograd.Function):
    """A kernel on its way to the products of all steps; its gradient is taken when theirs have been."""

    @staticmethod
    def forward(ctx, kernel, book):
        ctx.book = book
        return kernel.view_as(kernel)

    @staticmethod
    def backward(ctx, d_kernel):
        of_products = ctx.book.take()
        return d_kernel if of_products is None else d_kernel + of_products.to(d_kernel.dtype), None


class _Product(torch.autograd.Function):
    """a W, whose part of dW is put into the kernel's book."""

    @staticmethod
    def forward(ctx, a, kernel, book):
        ctx.save_for_backward(a, kernel)
        ctx.book = book
        return a @ kernel

    @staticmethod
    def backward(ctx, dz):
        a, kernel = ctx.saved_tensors
        da = dz @ kernel.mT if ctx.needs_input_grad[0] else None
        if torch.is_grad_enabled():  # create_graph=True: the gradient itself is to be differentiated
            return da, a.mT @ dz, None
        if ctx.needs_input_grad[1]:
            ctx.book.add(a, dz)
        return da, None, None
