"""The linear map `x W + b` in front of the gates, with dropout as data."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from keras import ops

from keras_lstm_custom.structures import Tensor

DropoutMask = Tensor | Sequence[Tensor] | None


def project(
    x: Tensor,
    kernel: Tensor,
    bias: Tensor | None = None,
    mask: DropoutMask = None,
    matmul: Callable[[Tensor, Tensor], Tensor] = ops.matmul,
) -> Tensor:
    r"""Return $(x \odot m)\,W + b$ over the last axis of `x`.

    Args:
        x: `(..., features)`.
        kernel: `(features, gates * units)`; the blocks of `units` columns are the gates in order.
        bias: `(gates * units,)`, or None.
        mask: dropout mask. None for no dropout; one tensor that broadcasts against `x` and is
            shared by the gates; or a sequence with one tensor for each gate.
        matmul: the product. Keras' own computes float64 in float32 under torch.

    Returns:
        `(..., gates * units)`.
    """
    if mask is None:
        z = matmul(x, kernel)
    elif isinstance(mask, (list, tuple)):
        blocks = ops.split(kernel, len(mask), axis=-1)
        z = ops.concatenate([matmul(x * m, block) for m, block in zip(mask, blocks, strict=True)], axis=-1)
    else:
        z = matmul(x * mask, kernel)
    return z if bias is None else z + bias
