"""Both halves of a batch side by side: rows do not depend on each other, and TensorFlow runs what does not at once.

A loop that XLA compiles shares each of its steps among the threads, and wakes them for every one; two loops over half
of the rows each have a thread to themselves. The minimal gated unit over 32, 100, 32, 128: the loop forward 2.4 and
1.5 ms, the loop back 3.9 and 2.6; over 64, 100, 64, 256: 14.0 and 7.5, 17.3 and 12.3; over 128, 50, 128, 512 a few
per cent less (the loops alone, by hand, two threads; `python benchmarks/options.py "own cell"` measures the layer).
"""

from __future__ import annotations

from dataclasses import replace

import keras
from keras import ops, tree

from keras_lstm_custom.engines.contract import Request, Result
from keras_lstm_custom.engines.native.xla_context import inside_xla

#: Steps from which on it is done. By hand, as above: over 2 steps (32, 2, 64, 256) halves took a third longer, over 50
#: and more they were faster; where between the two it turns was not measured.
STEPS = 8


def of(request: Request) -> list[Request]:
    """Return the request, or those of both halves of its rows where these run side by side."""
    return _cut(request) if _pay(request) else [request]


def joined(results: list[Result]) -> Result:
    """Return one result of all rows."""
    first, *others = results
    if not others:
        return first
    outputs = ops.concatenate([result.outputs for result in results], axis=0)
    state = [ops.concatenate(parts, axis=0) for parts in zip(*(result.state for result in results), strict=True)]
    return first._replace(outputs=outputs, state=state)


def _pay(request: Request) -> bool:
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    batch, steps, _ = request.sequences.shape
    in_graph = not (tf.executing_eagerly() or inside_xla())  # in a graph of XLA they would not be side by side
    several = (batch is None or batch > 1) and steps is not None and steps >= STEPS
    return in_graph and several and not tf.config.list_logical_devices("GPU")


def _cut(request: Request) -> list[Request]:
    half = ops.shape(request.sequences)[0] // 2

    def part(rows: slice) -> Request:
        return replace(
            request,
            **tree.map_structure(
                lambda x: None if x is None else x[rows],
                {name: getattr(request, name) for name in ("sequences", "initial_state", "mask", "dropout")},
            ),
        )

    return [part(slice(half)), part(slice(half, None))]
