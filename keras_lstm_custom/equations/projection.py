"""The linear map `x W + b` in front of the gates, with dropout as data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import keras
from keras import ops

from keras_lstm_custom.structures import Tensor

DropoutMask = Tensor | Sequence[Tensor] | None
#: `(x, kernel) -> x kernel`
Product = Callable[[Tensor, Tensor], Tensor]

_product: ContextVar[Product | None] = ContextVar("product", default=None)


def project(
    x: Tensor,
    kernel: Tensor,
    bias: Tensor | None = None,
    mask: DropoutMask = None,
    matmul: Product | None = None,
) -> Tensor:
    r"""Return $(x \odot m)\,W + b$ over the last axis of `x`.

    A cell's step makes its products with weights by this function: an engine that derives a loop from the step
    (`engines.derived`) takes them out of the loop's gradient. The kernel then depends on weights alone.

    Args:
        x: `(..., features)`.
        kernel: `(features, gates * units)`; the blocks of `units` columns are the gates in order. Without `mask` both
            may have axes in front, for several products: `(heads, batch, features)` and `(heads, features, ...)`.
        bias: `(gates * units,)`, or None.
        mask: dropout mask. None for no dropout; one tensor that broadcasts against `x` and is
            shared by the gates; or a sequence with one tensor for each gate.
        matmul: the product; by default that of `products_by`.

    Returns:
        `(..., gates * units)`.
    """
    matmul = matmul or _product.get() or _matmul
    if mask is None:
        z = matmul(x, kernel)
    elif isinstance(mask, (list, tuple)):
        blocks = ops.split(kernel, len(mask), axis=-1)
        z = ops.concatenate([matmul(x * m, block) for m, block in zip(mask, blocks, strict=True)], axis=-1)
    else:
        z = matmul(x * mask, kernel)
    return z if bias is None else z + bias


def _matmul(x: Tensor, kernel: Tensor) -> Tensor:
    if keras.backend.backend() == "torch":  # there that of Keras computes float64 in float32
        return ops.convert_to_tensor(x) @ ops.convert_to_tensor(kernel)
    return ops.matmul(x, kernel)


@contextmanager
def products_by(product: Product) -> Iterator[None]:
    """Let `product` compute what `project` multiplies inside the block."""
    token = _product.set(product)
    try:
        yield
    finally:
        _product.reset(token)
