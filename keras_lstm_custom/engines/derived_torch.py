"""The derived recurrence in torch: its own autograd over the steps, but for the gradients of the kernels.

A product's backward keeps its operand and dz instead of multiplying them; the kernel's gradient is one product over
many of them. On a CPU those are the steps of some `ROWS` rows, and inputs are projected for as many at a time: tensors
of all steps would go through memory. Tensors are time-major here: `(timesteps, batch, ...)`. Loaded on first use,
since it imports torch.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain
from typing import Any

import torch

from keras_lstm_custom.engines import torch_graphs
from keras_lstm_custom.engines.derived_step import Step
from keras_lstm_custom.engines.fast_path import masks_of
from keras_lstm_custom.keras_hooks import DropoutMasks
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


def recurrence(cell: Any) -> Callable:
    """Return the recurrence of the cell, as `derived_jax.recurrence` does."""
    return partial(_recurrence, cell)


def _recurrence(
    cell: Any,
    x: Tensor,
    state: Sequence[Tensor],
    weights: Sequence[Tensor],
    mask: Tensor | None,
    dropout: DropoutMasks,
) -> tuple[Tensor, list[Tensor]]:
    recurrent = masks_of(dropout.recurrent)
    if not torch_graphs.serves(x):
        steps = len(x) if x.is_cuda else max(1, ROWS // max(1, x.shape[1]))
        z_ts = (z_t for part in x.split(steps) for z_t in cell.project_inputs(part, dropout.inputs).unbind())
        return _loop(cell, z_ts, list(state), weights, mask, recurrent)
    z_x = cell.project_inputs(x, dropout.inputs)
    tensors = (*state, *weights, *recurrent)
    keep = torch.is_grad_enabled() and any(t.requires_grad for t in (z_x, *tensors))
    hs, *final = _InGraphs.apply(cell, (len(state), len(weights), len(recurrent)), keep, z_x, mask, *tensors)
    return hs, final


def _loop(cell, z_ts, state, weights, mask, dropout):
    step, z_ts = Step(cell, len(dropout)), iter(z_ts)
    z_0 = next(z_ts)
    kernels = step.kernels(torch.matmul, z_0, state, weights, dropout)
    books = [Book() for _ in kernels]
    hooked = [_Kernel.apply(kernel, book) for kernel, book in zip(kernels, books, strict=True)]
    product = _Product.apply if torch.is_grad_enabled() else lambda a, kernel, _: a @ kernel

    def serve(number: int, a: Tensor, _: Tensor) -> Tensor:
        return product(a, hooked[number], books[number])

    hs = []
    with step.holding(weights):
        for t, z_t in enumerate(chain([z_0], z_ts)):
            new = step.run(serve, z_t, state, dropout)
            state = new if mask is None else [torch.where(mask[t], *pair) for pair in zip(new, state, strict=True)]
            hs.append(state[0])
    return torch.stack(hs), state


class _InGraphs(torch.autograd.Function):
    """The same loop, recorded as CUDA graphs; only a gradient of its gradient is taken of the loop itself."""

    @staticmethod
    def forward(ctx, cell, counts, keep, z_x, mask, *tensors):
        steps, (state, constants) = _steps(cell, counts), _parts(tensors, counts)
        hs, final, before = torch_graphs.forward(steps, keep, z_x, mask, state, constants)
        if keep:
            ctx.cell, ctx.counts = cell, counts
            ctx.save_for_backward(z_x, mask, *tensors, *before)
            ctx.set_materialize_grads(False)
        return hs, *final

    @staticmethod
    def backward(ctx, *incoming):
        z_x, mask, *saved = ctx.saved_tensors
        tensors, before = saved[: sum(ctx.counts)], saved[sum(ctx.counts) :]
        state, constants = _parts(tensors, ctx.counts)
        if not torch.is_grad_enabled():
            steps = _steps(ctx.cell, ctx.counts)
            dz, d_state, d_constants = torch_graphs.backward(steps, incoming, z_x, mask, before, constants)
            return None, None, None, dz, None, *d_state, *d_constants
        weights, dropout = constants[: ctx.counts[1]], constants[ctx.counts[1] :]  # create_graph=True
        hs, final = _loop(ctx.cell, z_x.unbind(), state, weights, mask, dropout)
        outputs, given = zip(
            *((o, d) for o, d in zip((hs, *final), incoming, strict=True) if d is not None), strict=True
        )
        needed = [ctx.needs_input_grad[3], *ctx.needs_input_grad[5:]]
        wanted = [t for t, is_needed in zip((z_x, *tensors), needed, strict=True) if is_needed]
        found = iter(torch.autograd.grad(outputs, wanted, given, create_graph=True, allow_unused=True))
        dz, *rest = [next(found) if is_needed else None for is_needed in needed]
        return None, None, None, dz, None, *rest


def _parts(tensors, counts):
    """Return the state, and what is the same at all steps: weights and dropout masks."""
    return tensors[: counts[0]], tensors[counts[0] :]


def _steps(cell, counts) -> torch_graphs.Steps:
    states, weights, masks = counts

    def forward(z_x, mask, state, constants):
        hs, final = _loop(cell, z_x.unbind(), state, constants[:weights], mask, constants[weights:])
        return hs, *final

    def gradient(z_x, mask, state, constants, incoming):
        leaves = [z_x, *state, *constants[:weights]]
        leaves = [t.detach().requires_grad_() if t.is_floating_point() else t for t in leaves]
        with torch.enable_grad():
            outputs = forward(leaves[0], mask, leaves[1 : 1 + states], (*leaves[1 + states :], *constants[weights:]))
            wanted = [t for t in leaves if t.requires_grad]
            found = iter(torch.autograd.grad(outputs, wanted, incoming, allow_unused=True, materialize_grads=True))
        return *(next(found) if t.requires_grad else None for t in leaves), *[None] * masks

    return torch_graphs.Steps((weakref.ref(cell), type(cell).step, *_settings(cell)), forward, gradient)


def _settings(cell) -> Iterator[tuple]:
    """Yield the attributes of a cell that its step may look at: what is recorded is for these values."""
    for name, value in vars(cell).items():
        if callable(value) and not isinstance(value, torch.nn.Module):
            yield name, value
        elif isinstance(value, bool | int | float | str | tuple):
            yield name, repr(value)


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
