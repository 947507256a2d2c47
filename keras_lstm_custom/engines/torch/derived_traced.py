"""Some steps of the derived recurrence in torch from a trace: on a CPU, where calls take longer than what they compute.

Forward, what the gradient reads of each step is kept; backward, a kernel's gradient is left to its `Book`. A gradient
that is to be differentiated itself is taken of the steps as they are.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch

from keras_lstm_custom.engines.derived_step import Step, settings
from keras_lstm_custom.engines.torch.again import gradients
from keras_lstm_custom.engines.torch.amortized import Amortized
from keras_lstm_custom.engines.torch.trace import Trace, cut, is_recording
from keras_lstm_custom.structures import Tensor


class Constants(NamedTuple):
    """What is the same at all steps."""

    weights: Sequence[Tensor]
    kernels: Sequence[Tensor]  #: those of the products
    dropout: Sequence[Tensor]

    @property
    def all(self) -> list[Tensor]:
        """Return all of them."""
        return [t for some in self for t in some]


#: Numbers of z up to which calls take longer than what they compute. Over 128, 50, 128, 512 (131,072 and more) a trace
#: was 0.92 to 1.07 times as fast as the generic loop, over 64, 100, 64, 256 (up to 65,536) 1.09 to 1.18 times.
SMALL = 65_536
FEW = 8  #: steps that are not worth a trace
#: By how many roundings a traced step may differ: where torch has two ways to a product, the one it takes depends on
#: whether a gradient is wanted. Our cells' are the same to the bit.
ROUNDINGS = 100


def step(
    cell: Any,
    timesteps: int,
    z_t: Tensor,
    mask_t: Tensor | None,
    state: Sequence[Tensor],
    constants: Constants,
    new: Sequence[Tensor],
) -> TracedStep | None:
    """Return a step for tensors like these, or None where the steps run as they are.

    `new` is what the cell's own step makes of them. A trace that gives something else is not used again: what the step
    depends on has changed, and is nothing that a trace is known by.
    """
    if timesteps < FEW or not _serves(z_t):
        return None
    inputs = [z_t, *([] if mask_t is None else [mask_t]), *state]
    shapes = ((t.shape, t.dtype) for t in (*inputs, *constants.all))
    key = (weakref.ref(cell), type(cell).step, *map(len, constants), *settings(cell), *shapes)
    traced = TRACES.of(key, lambda: TracedStep(cell, inputs, constants))
    if traced is None or traced.gives(new, inputs, constants):
        return traced
    TRACES.give_up(
        key,
        f"it now gives other numbers than when it was traced, so {type(cell).__name__} depends on something beside the "
        "step's arguments, the cell's weights and the cell's attributes (a global, an option of another object); make "
        "that an attribute of the cell, or a weight",
    )
    return None


def _serves(z_t: Tensor) -> bool:
    return (
        type(z_t) is torch.Tensor
        and z_t.device.type == "cpu"
        and z_t.numel() <= SMALL
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
        and not is_recording()
    )


class TracedStep:
    """One step of a cell, and its gradient."""

    def __init__(self, cell: Any, inputs: Sequence[Tensor], constants: Constants):
        """Trace it for tensors like these: z, a mask if there is one, and the state; see `Trace` for what it raises."""
        states = len(cell.state_type._fields)
        self._counts = [states, len(constants.weights), len(constants.kernels)]
        self.states = states
        step = Step(cell, len(constants.dropout))
        trace = Trace(partial(self._step, step), constants.all, inputs, inputs[-states:])
        self._once, self._forward, self._backward = trace.once, trace.forward, trace.backward
        of_z, *names = trace.gradients
        self._are_dz = [name == of_z for name in names[states + len(constants.weights) :]]  # by product

    def once(self, *constants: Tensor) -> Sequence[Tensor]:
        """Return what is the same at all steps."""
        return self._once(*map(_as_traced, constants))

    def gives(self, new: Sequence[Tensor], inputs: Sequence[Tensor], constants: Constants) -> bool:
        """Return whether it makes these new states of the inputs, but for rounding."""
        (z_t, *mask_t), state = cut([_as_traced(t) for t in inputs], len(inputs) - self.states)
        with torch.no_grad():
            try:
                results, _ = self._forward(z_t, *map(torch.ones_like, mask_t), *state, *self.once(*constants.all))
            except RuntimeError:  # the default dtype, say, is another now
                return False
            return all(map(_same, results, new))

    def parts(self, tensors: Sequence[Tensor]) -> tuple[Sequence[Tensor], Constants]:
        """Return the state, and the constants."""
        state, *constants = cut(tensors, *self._counts)
        return state, Constants(*constants)

    def _step(self, step, constants, inputs, incoming):
        states, *counts = self._counts
        weights, kernels, dropout = cut(constants, *counts)
        (z_t, *mask_t), state = cut(inputs, len(inputs) - states)
        z_t, *state = [t.detach().requires_grad_() for t in (z_t, *state)]
        weights = [w.detach().requires_grad_() if w.is_floating_point() else w for w in weights]
        operands, products = [], []

        def serve(number, a, _):
            z = a @ kernels[number]
            operands.append(a)
            products.append(z if z.requires_grad else z.requires_grad_())
            return products[-1]

        with torch.enable_grad(), step.holding(weights):
            new = step.run(serve, z_t, state, dropout)
            if mask_t:
                new = [torch.where(mask_t[0], n, s) for n, s in zip(new, state, strict=True)]
            ends = [(n, d) for n, d in zip(new, incoming, strict=True) if n.requires_grad]
            starts = [t for t in (z_t, *state, *weights, *products) if t.requires_grad]
            found = torch.autograd.grad([n for n, _ in ends], starts, [d for _, d in ends], allow_unused=True)
        by_start = dict(zip(map(id, starts), found, strict=True))
        gradients = [by_start.get(id(t)) for t in (z_t, *state, *weights, *products)]
        return [*map(_as_traced, new), *operands], [None if d is None else _as_traced(d) for d in gradients]

    def run(
        self, again: Callable, books: Sequence, z_x: Tensor, mask: Tensor | None, state: Sequence, constants: Constants
    ):
        """Return h of all steps, and the final state.

        Args:
            again: (z_x, mask, state, constants) -> the same, by operations that torch differentiates.
            books: take operands and dz of the products.
            z_x: `(timesteps, batch, n)`.
            mask: `(timesteps, batch, 1)`, or None.
            state: before the first of them.
            constants: as the step was traced for.
        """
        tensors = (*state, *constants.all)
        if torch.is_grad_enabled() and any(t.requires_grad for t in (z_x, *tensors)):
            return _Steps.apply(self, again, books, z_x, mask, *tensors)
        hs, final, _ = self.forward(z_x, mask, state, self.once(*constants.all))
        return hs, *final

    def forward(self, z_x: Tensor, mask: Tensor | None, state: Sequence[Tensor], fixed: Sequence[Tensor]):
        """Return h of all steps, the final state, and for each step what its gradient reads, with the operands last."""
        hs, kept, step = [], [], self._forward
        z_x, state = _as_traced(z_x), [_as_traced(s) for s in state]
        for inputs in zip(*(t.unbind() for t in (z_x, mask) if t is not None), strict=True):
            results, read = step(*inputs, *state, *fixed)
            state, operands = cut(results, self._counts[0])
            hs.append(state[0])
            kept.append([*read, *operands])
        # A state may be one that came in, or another one as well.
        return torch.stack(hs), [s.clone() for s in state], kept

    def backward(self, kept: Sequence[Sequence[Tensor]], fixed: Sequence[Tensor], d_hs: Tensor, d_state: list[Tensor]):
        """Return the gradients of z_x, the state and the weights, and for each product its operands and dz."""
        step, (states, weights, products) = self._backward, self._counts
        d_hs, d_state = _as_traced(d_hs), [_as_traced(d) for d in d_state]
        read, zeros = len(kept[0]) - products, [torch.zeros_like(d) for d in d_state]
        d_weights: list[Tensor | None] = [None] * weights
        given: list[Sequence[Tensor | None]] = []
        for of_step, d_h in zip(reversed(kept), reversed(d_hs.unbind()), strict=True):
            found = step(*of_step[:read], *fixed, d_state[0] + d_h, *d_state[1:])
            dz, before, of_weights, of_kernels = cut(found, 1, states, weights)
            d_state = [zero if d is None else d for d, zero in zip(before, zeros, strict=True)]
            d_weights = list(map(_sum, d_weights, of_weights))
            given.append([*dz, *of_kernels])
        of_z, *others = map(_stacked, zip(*reversed(given), strict=True))
        of_products = [of_z if is_dz else d for d, is_dz in zip(others, self._are_dz, strict=True)]
        operands = [torch.stack(a) for a in list(zip(*kept, strict=True))[read:]]
        return of_z, d_state, d_weights, list(zip(operands, of_products, strict=True))


def _same(a: Tensor, b: Tensor) -> bool:
    rounding = ROUNDINGS * torch.finfo(b.dtype).eps
    return a.dtype == b.dtype and (
        torch.equal(a, b) or torch.allclose(a, b, rtol=rounding, atol=rounding, equal_nan=True)
    )


def _as_traced(t: Tensor) -> Tensor:
    """Return a tensor that lies in memory as one that a step is traced for: whether a view of it will do is decided."""
    return t.contiguous()


def _sum(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    return b if a is None else a if b is None else a + b


def _stacked(tensors: Sequence[Any]) -> Tensor | None:
    return None if tensors[0] is None else torch.stack(list(tensors))  # None at one step is None at all


class _Steps(torch.autograd.Function):
    """What `TracedStep.run` does."""

    @staticmethod
    def forward(ctx, traced, again, books, z_x, mask, *tensors):
        state, constants = cut(tensors, traced.states)
        fixed = traced.once(*constants)
        hs, final, kept = traced.forward(z_x, mask, state, fixed)
        ctx.given = traced, again, books, len(tensors), len(fixed), len(kept[0])
        ctx.save_for_backward(z_x, mask, *tensors, *fixed, *(t for of_step in kept for t in of_step))
        ctx.set_materialize_grads(False)
        return hs, *final

    @staticmethod
    def backward(ctx, *incoming):
        traced, again, books, given, fixed, each = ctx.given
        z_x, mask, *saved = ctx.saved_tensors
        tensors, fixed, kept = cut(saved, given, fixed)
        if torch.is_grad_enabled():  # create_graph=True
            dz, *others = gradients(
                lambda z_x, *tensors: again(z_x, mask, *traced.parts(tensors)), (z_x, *tensors), incoming
            )
            return None, None, None, dz, None, *others
        d_hs, *d_state = incoming
        d_hs = z_x.new_zeros(len(z_x), *tensors[0].shape) if d_hs is None else d_hs
        d_state = [torch.zeros_like(s) if d is None else d for s, d in zip(tensors, d_state, strict=False)]
        kept = [kept[n : n + each] for n in range(0, len(kept), each)]
        dz, d_state, d_weights, of_products = traced.backward(kept, fixed, d_hs, d_state)
        of_tensors = [*d_state, *d_weights]  # the kernels' are in the books
        _, are_needed, _ = cut(ctx.needs_input_grad, 5 + len(of_tensors), len(books))
        for book, is_needed, (a, d) in zip(books, are_needed, of_products, strict=True):
            if is_needed and d is not None:
                book.add(_rows(a), _rows(d))
        return None, None, None, dz, None, *of_tensors, *[None] * (len(tensors) - len(of_tensors))


def _rows(x: Tensor) -> Tensor:
    """Return the rows of all steps below each other, `(..., timesteps * batch, n)`."""
    return x.movedim(0, -3).flatten(-3, -2)


#: Made at once: when a step runs again for a gradient (`checkpoint_every`), it must keep the same tensors.
TRACES: Amortized[TracedStep] = Amortized(
    most=16,
    worth=0,
    without="A step of a recurrent layer could not be traced, so its operations are called one by one, which is slower",
)
