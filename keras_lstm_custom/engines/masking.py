"""What a mask does to the outputs, the same for every engine and backend: applied once, by the registry.

Keras' own loops differ: before the first step that is read, JAX's gives the initial h where the others give
zeros, and it does not look at `zero_output_for_mask`. The layers go by its documentation.
"""

from __future__ import annotations

from keras import ops

from keras_lstm_custom.engines.contract import Request, Result
from keras_lstm_custom.structures import Tensor


def in_running_order(request: Request) -> Tensor | None:
    """Return the mask `(batch, timesteps)` as booleans in the order in which the steps run, or None."""
    if request.mask is None:
        return None
    mask = ops.cast(request.mask, "bool")
    return ops.flip(mask, axis=1) if request.go_backwards else mask


def anything_read(mask: Tensor) -> Tensor:
    """Return whether any step up to and with each one is read, given a mask in running order."""
    return ops.cumsum(ops.cast(mask, "int32"), axis=1) > 0


def masked(request: Request, result: Result) -> Result:
    """Return what a layer gives out, given what an engine returned.

    A masked step repeats the output before it, which is `h`, kept; but before the first step that
    is not masked there is no output yet, so it is zero, and with `zero_output_for_mask` it always is.
    """
    mask = in_running_order(request)
    if mask is None:
        return result
    has_output = mask if request.zero_output_for_mask else anything_read(mask)
    if not request.return_sequences:  # without timesteps all of none: the state is given out
        has_output = ops.all(has_output[:, -1:], axis=1, keepdims=True)
    zero = ops.zeros((), dtype=result.outputs.dtype)
    return result._replace(outputs=ops.where(has_output[..., None], result.outputs, zero))
