"""The products of a recurrence in torch, with any number of dropout masks: none, one, or one for each gate.

Dropout masks are stacked: `(count, batch, units)`, or None.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from keras_lstm_custom.structures import Tensor


def product(kernel: Tensor, dropout: Tensor | None) -> Callable:
    """Return (z_x, h, out) -> z_x + h U, with the dropout masks on h, written to `out`."""
    if dropout is None:
        return lambda z_x, h, out: torch.addmm(z_x, h, kernel, out=out)
    if len(dropout) == 1:
        return lambda z_x, h, out: torch.addmm(z_x, h * dropout[0], kernel, out=out)
    blocks = _blocks(kernel, len(dropout))
    return lambda z_x, h, out: torch.add(z_x, _rows_of(torch.bmm(h * dropout, blocks)), out=out)


def product_alone(kernel: Tensor, dropout: Tensor | None) -> Callable:
    """Return h -> h U, with the dropout masks on h."""
    if dropout is None:
        return lambda h: torch.mm(h, kernel)
    if len(dropout) == 1:
        return lambda h: torch.mm(h * dropout[0], kernel)
    blocks = _blocks(kernel, len(dropout)).contiguous()

    def by_gate(h):
        z = h.new_empty(len(h), kernel.shape[1])
        torch.bmm(h * dropout, blocks, out=_blocks(z, len(dropout)))  # the product writes rows as they lie in z
        return z

    return by_gate


def masked_product(recurrent_kernel: Tensor, dropout: Tensor) -> Callable:
    """Return h -> h U with dropout masks on h, by operations that torch differentiates."""
    blocks = _blocks(recurrent_kernel, len(dropout))
    return lambda h: _rows_of(torch.bmm(h * dropout, blocks))


def transposed_product(kernel: Tensor, dropout: Tensor | None) -> Callable:
    """Return dz -> dh, the transpose of `product`."""
    if dropout is None:
        return lambda dz: torch.mm(dz, kernel.t())
    if len(dropout) == 1:
        return lambda dz: torch.mm(dz, kernel.t()).mul_(dropout[0])
    blocks = _blocks(kernel, len(dropout)).transpose(1, 2)
    return lambda dz: torch.bmm(_blocks(dz, len(dropout)), blocks).mul_(dropout).sum(dim=0)


def kernel_gradient(h_before: Tensor, dz: Tensor, dropout: Tensor | None) -> Tensor:
    """Return dU as one product over all steps and rows, for each dropout mask."""
    masked = [h_before] if dropout is None else [h_before * m for m in dropout]
    parts = zip(masked, dz.chunk(len(masked), dim=2), strict=True)
    return torch.cat([torch.mm(h.flatten(0, 1).t(), d.flatten(0, 1)) for h, d in parts], dim=1)


def _blocks(matrix: Tensor, count: int) -> Tensor:
    """Return `(rows, count * columns)` as `(count, rows, columns)`."""
    return matrix.unflatten(1, (count, -1)).transpose(0, 1)


def _rows_of(blocks: Tensor) -> Tensor:
    """Return `(count, rows, columns)` as `(rows, count * columns)`."""
    return blocks.transpose(0, 1).flatten(1)
