"""The derived recurrence in torch: a loop over the steps; on a GPU in recordings.

On a CPU inputs are projected for some steps at a time: tensors of all steps would go through memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from keras_lstm_custom.engines.fast_path import masks_of
from keras_lstm_custom.engines.torch import derived_graphs, derived_loop, graphs
from keras_lstm_custom.keras_hooks import DropoutMasks
from keras_lstm_custom.structures import Tensor


def recurrence(cell: Any) -> Callable:
    """Return the recurrence of the cell, as `jax.derived.recurrence` does."""
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
    if graphs.serves(x):
        z_x = cell.project_inputs(x, dropout.inputs)
        return derived_graphs.run(cell, z_x, state, weights, mask, recurrent)
    steps = len(x) if x.is_cuda else max(1, derived_loop.ROWS // max(1, x.shape[1]))
    z_xs = (cell.project_inputs(part, dropout.inputs) for part in x.split(steps))
    return derived_loop.run(cell, z_xs, state, weights, mask, recurrent, len(x))
