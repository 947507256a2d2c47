"""Sequences without timesteps leave the state as it is: on every engine and backend, if the length is fixed or open.

No loop can run without a first step. So it runs one step of zeros in its place, of which nothing is kept; that
way gradients are there, too, and are zeros.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import wraps

from keras import ops, tree

from keras_lstm_custom.engines.contract import Request, Result
from keras_lstm_custom.structures import Tensor

Run = Callable[[Request], Result]


def served(run: Run) -> Run:
    """Return `run` such that it takes sequences without timesteps, too."""

    @wraps(run)
    def serve(request: Request) -> Result:
        if request.sequences.shape[1]:  # known, and not 0
            return run(request)
        count = ops.shape(request.sequences)[1]
        result = run(_one_step_at_least(request, count))

        def kept(ran: Tensor, otherwise: Tensor) -> Tensor:
            return ops.where(count > 0, ran, otherwise)

        def within(steps: Tensor) -> Tensor:
            return steps[:, :count]

        outputs = result.outputs
        return result._replace(
            outputs=within(outputs) if request.return_sequences else kept(outputs, request.initial_state[0][:, None]),
            state=[kept(*pair) for pair in zip(result.state, request.initial_state, strict=True)],
            steps=None if result.steps is None else tree.map_structure(within, result.steps),
        )

    return serve


def _one_step_at_least(request: Request, count: int | Tensor) -> Request:
    x, mask = request.sequences, request.mask
    batch, missing = ops.shape(x)[0], ops.where(count > 0, 0, 1) if x.shape[1] is None else 1
    x = ops.concatenate([x, ops.zeros((batch, missing, x.shape[2]), dtype=x.dtype)], axis=1)
    if mask is not None:
        mask = ops.concatenate([mask, ops.zeros((batch, missing), dtype=mask.dtype)], axis=1)
    return replace(request, sequences=x, mask=mask)
