"""The derived recurrence in torch by CUDA graphs."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import torch

from keras_lstm_custom.engines.derived_step import settings
from keras_lstm_custom.engines.torch import derived_loop, graphs
from keras_lstm_custom.engines.torch.again import gradients
from keras_lstm_custom.structures import Tensor


def run(
    cell: Any,
    z_x: Tensor,
    state: Sequence[Tensor],
    weights: Sequence[Tensor],
    mask: Tensor | None,
    dropout: Sequence[Tensor],
) -> tuple[Tensor, list[Tensor]]:
    """Return what `derived.recurrence` does, of projected inputs."""
    tensors = (*state, *weights, *dropout)
    keep = torch.is_grad_enabled() and any(t.requires_grad for t in (z_x, *tensors))
    hs, *final = _InGraphs.apply(cell, (len(state), len(weights), len(dropout)), keep, z_x, mask, *tensors)
    return hs, final


class _InGraphs(torch.autograd.Function):
    """The same loop, recorded as CUDA graphs; only a gradient of its gradient is taken of the loop itself."""

    @staticmethod
    def forward(ctx, cell, counts, keep, z_x, mask, *tensors):
        steps, (state, constants) = _steps(cell, counts), _parts(tensors, counts)
        hs, final, before = graphs.forward(steps, keep, z_x, mask, state, constants)
        if keep:
            ctx.cell, ctx.counts = cell, counts
            ctx.save_for_backward(z_x, mask, *tensors, *before)
            ctx.set_materialize_grads(False)
        return hs, *final

    @staticmethod
    def backward(ctx, *incoming):
        z_x, mask, *saved = ctx.saved_tensors
        tensors, before = saved[: sum(ctx.counts)], saved[sum(ctx.counts) :]
        _, constants = _parts(tensors, ctx.counts)
        steps = _steps(ctx.cell, ctx.counts)
        if torch.is_grad_enabled():  # create_graph=True
            dz, *others = gradients(
                lambda z_x, *tensors: steps.forward(z_x, mask, *_parts(tensors, ctx.counts)), (z_x, *tensors), incoming
            )
            return None, None, None, dz, None, *others
        dz, d_state, d_constants = graphs.backward(steps, incoming, z_x, mask, before, constants)
        return None, None, None, dz, None, *d_state, *d_constants


def _parts(tensors, counts):
    """Return the state, and what is the same at all steps: weights and dropout masks."""
    return tensors[: counts[0]], tensors[counts[0] :]


def _steps(cell, counts) -> graphs.Steps:
    states, weights, masks = counts

    def forward(z_x, mask, state, constants):
        hs, final = derived_loop.run(cell, [z_x], state, constants[:weights], mask, constants[weights:], len(z_x))
        return hs, *final

    def gradient(z_x, mask, state, constants, incoming):
        leaves = [z_x, *state, *constants[:weights]]
        leaves = [t.detach().requires_grad_() if t.is_floating_point() else t for t in leaves]
        with torch.enable_grad():
            outputs = forward(leaves[0], mask, leaves[1 : 1 + states], (*leaves[1 + states :], *constants[weights:]))
            wanted = [t for t in leaves if t.requires_grad]
            found = iter(torch.autograd.grad(outputs, wanted, incoming, allow_unused=True, materialize_grads=True))
        return *(next(found) if t.requires_grad else None for t in leaves), *[None] * masks

    return graphs.Steps((weakref.ref(cell), type(cell).step, *settings(cell)), forward, gradient)
