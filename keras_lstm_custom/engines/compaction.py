r"""Any mask for a library that knows none: the steps that are read come first, and what follows changes nothing.

A masked step keeps the state, so a sequence with it equals the sequence without it. Row by row, the steps that are
read are moved to the front, in their order; the library runs over all of them and over what is left at the end, the
idle steps; and each output is fetched from the place of the last step read up to it. No length has to be known on
the host, and shapes stay fixed.

The idle steps come after all that is read, so only the final state has to be kept from them. `h` is fetched like an
output. An LSTM's `c` the library gives at the end only: so the idle steps are told by one more input, whose weights
close the input and output gates and open the forget gate ($i = o = 0$, $f = 1$, thus $c_t = c_{t-1}$, $h_t = 0$)
exactly, with no gradient through any of them.
"""

from __future__ import annotations

from typing import NamedTuple

from keras import ops

from keras_lstm_custom.engines import masking
from keras_lstm_custom.engines.contract import Request
from keras_lstm_custom.structures import Tensor

#: Opens or closes a gate for good: far beyond any sum of weights, and a number of float16 (at most 65,504).
CERTAIN = 1e4
#: The number of features becomes a multiple of it: tensor cores take products of such sizes.
ALIGNED = 8
#: What an idle step does to the gates i, f, g, o.
IDLE_GATES = (-CERTAIN, CERTAIN, 0.0, -CERTAIN)


class Compaction(NamedTuple):
    """Where the steps go. All but the last two are flat: a step t of row b is number `b * timesteps + t`."""

    sources: Tensor  #: `(batch * timesteps,)`: which step of the request comes here
    places: Tensor  #: `(batch * timesteps,)`: where the output of each step, in running order, is found
    idle: Tensor  #: `(batch, timesteps)`: after compaction, nothing is read here
    started: Tensor  #: `(batch, timesteps)`, in running order: something was read up to here


def of(request: Request) -> Compaction | None:
    """Return how to compact the request; None: it has no mask."""
    mask = masking.in_running_order(request)
    if mask is None:
        return None
    batch, steps = ops.shape(mask)
    t = ops.arange(steps, dtype="int32")
    order = ops.argsort(ops.where(mask, t, t + steps), axis=1)  # of different numbers, so that no sort can swap two
    read = ops.cumsum(ops.cast(mask, "int32"), axis=1)  # up to and with each step
    first_of_row = ops.arange(batch, dtype="int32")[:, None] * steps
    if request.go_backwards:
        order = steps - 1 - order
    return Compaction(
        sources=ops.reshape(first_of_row + ops.cast(order, "int32"), (-1,)),
        places=ops.reshape(first_of_row + ops.maximum(read - 1, 0), (-1,)),
        idle=t >= read[:, -1:],
        started=read > 0,
    )


def inputs(compaction: Compaction, x: Tensor, tell_idle_steps: bool) -> Tensor:
    """Return the inputs in their new order, zeros at idle steps, as NaN may stand there.

    Args:
        compaction: where they go.
        x: `(batch, timesteps, features)`, in the order of the request, not reversed.
        tell_idle_steps: add the features that `kernel` has weights for.
    """
    shape = ops.shape(x)
    idle = compaction.idle[..., None]
    x = ops.reshape(ops.take(ops.reshape(x, (-1, shape[2])), compaction.sources, axis=0), shape)
    x = ops.where(idle, ops.zeros((), dtype=x.dtype), x)
    if not tell_idle_steps:
        return x
    width = ALIGNED - shape[2] % ALIGNED
    return ops.concatenate([x, ops.cast(idle & (ops.arange(width) == 0), x.dtype)], axis=2)


def kernel(weights: Tensor) -> Tensor:
    """Return an LSTM's kernel `(features, 4 * units)` with the weights of what tells the idle steps."""
    features, columns = weights.shape
    width = ALIGNED - features % ALIGNED
    certain = ops.repeat(ops.convert_to_tensor(IDLE_GATES, dtype=weights.dtype), columns // len(IDLE_GATES))
    return ops.concatenate([weights, ops.pad(certain[None], ((0, width - 1), (0, 0)))], axis=0)


def outputs(compaction: Compaction, h: Tensor, initial: Tensor, return_sequences: bool) -> Tensor:
    """Return `h` after each step in running order, or after the last one only, from those after compaction."""
    batch, steps, units = ops.shape(h)
    places, started = compaction.places, compaction.started
    if not return_sequences:
        places, started = ops.reshape(places, (batch, steps))[:, -1], started[:, -1:]
    found = ops.take(ops.reshape(h, (-1, units)), places, axis=0)
    found = ops.reshape(found, (batch, steps if return_sequences else 1, units))
    return ops.where(started[..., None], found, initial[:, None])
