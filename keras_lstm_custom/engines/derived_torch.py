"""The derived recurrence in torch: its own autograd over the steps, but for the gradients of the kernels.

A product's backward keeps its operand and dz instead of multiplying them; when the last one is done, the kernel's
gradient is one product over all steps. Tensors are time-major here: `(timesteps, batch, ...)`. Loaded on first use,
since it imports torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from keras_lstm_custom.engines.derived_step import Step
from keras_lstm_custom.structures import Tensor

#: Operand and dz of each product with one kernel, for its gradient.
Book = list[tuple[Tensor, Tensor]]


def recurrence(
    cell: Any,
    z_x: Tensor,
    state: Sequence[Tensor],
    weights: Sequence[Tensor],
    mask: Tensor | None,
    dropout: Sequence[Tensor],
) -> tuple[Tensor, list[Tensor]]:
    """Return `h` of all steps, and the final state; arguments as of `derived_jax.recurrence`."""
    step, state = Step(cell, len(dropout)), list(state)
    kernels = step.kernels(torch.matmul, z_x[0], state, weights, dropout)
    books: list[Book] = [[] for _ in kernels]
    hooked = [_Kernel.apply(kernel, book) for kernel, book in zip(kernels, books, strict=True)]

    def serve(number: int, a: Tensor, _: Tensor) -> Tensor:
        return _Product.apply(a, hooked[number], books[number])

    hs = []
    for t, z_t in enumerate(z_x.unbind()):
        new = step(serve, z_t, state, weights, dropout)
        state = new if mask is None else [torch.where(mask[t], *pair) for pair in zip(new, state, strict=True)]
        hs.append(state[0])
    return torch.stack(hs), state


class _Kernel(torch.autograd.Function):
    """A kernel on its way to the products of all steps; its gradient is taken when theirs have been."""

    @staticmethod
    def forward(ctx, kernel, book):
        ctx.book = book
        return kernel.view_as(kernel)

    @staticmethod
    def backward(ctx, d_kernel):
        if ctx.book:
            a, dz = (torch.cat(tensors) for tensors in zip(*ctx.book, strict=True))
            d_kernel = d_kernel + a.t() @ dz
            ctx.book.clear()
        return d_kernel, None


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
        da = dz @ kernel.t() if ctx.needs_input_grad[0] else None
        if torch.is_grad_enabled():  # create_graph=True: the gradient itself is to be differentiated
            return da, a.t() @ dz, None
        if ctx.needs_input_grad[1]:
            ctx.book.append((a, dz))
        return da, None, None
