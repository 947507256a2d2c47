"""A gradient that is to be differentiated itself (`create_graph=True`), of what is not: the function is run again."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from keras_lstm_custom.structures import Tensor


def gradients(function: Callable, inputs: Sequence[Tensor], incoming: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Return the gradients of `function(*inputs)`, a list of tensors, with respect to each input, or None.

    Args:
        function: of operations that torch differentiates.
        inputs: may be the same tensor in two places.
        incoming: the gradients of its outputs; None is zero.
    """
    places = [t.view_as(t) for t in inputs]
    ends = [(out, d) for out, d in zip(function(*places), incoming, strict=True) if d is not None]
    starts = [t for t in places if t.requires_grad]
    outputs, given = [out for out, _ in ends], [d for _, d in ends]
    found = iter(torch.autograd.grad(outputs, starts, given, create_graph=True, allow_unused=True))
    return [next(found) if t.requires_grad else None for t in places]
