"""Steps on a GPU by CUDA graphs: recorded once for a shape, then launched as one, some steps at a time.

A loop of small kernels waits for Python to launch them. A graph of `STEPS` steps is launched by one call. It works in
tensors of its own, so what goes in and out is copied, and nothing of a call stays in them: layers of one shape share
a recording, and calls may be nested and repeated before their gradients are taken. Backward, the steps of a
recording are computed again from the state before them, so that only those states are kept.

A shape is recorded when it comes for the second time, and the oldest recordings are let go. What is left of the steps
runs one by one. Loaded on first use, since it imports torch.
"""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch

from keras_lstm_custom.structures import Tensor

STEPS = 16  #: of one recording: launching it takes less time than running it, and its tensors stay small
RECORDINGS = 16  #: so many are kept

#: By way, place and shapes; None: was there once; False: cannot be recorded.
_known: OrderedDict[tuple, Recording | bool | None] = OrderedDict()


class Recording:
    """A function of tensors, recorded for tensors of one shape."""

    def __init__(self, function: Callable, examples: Sequence[Tensor | None]):
        self.inputs = [None if t is None else t.detach().clone() for t in examples]
        here, side = torch.cuda.current_stream(), torch.cuda.Stream()
        side.wait_stream(here)
        with torch.cuda.stream(side):  # what a library sets up on its first call is no part of the recording
            function(*self.inputs)
        here.wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self.outputs = function(*self.inputs)

    def __call__(self, *values: Tensor | None) -> Sequence[Tensor]:
        """Return the recording's own outputs, which the next call overwrites. None: as in the call before."""
        for own, value in zip(self.inputs, values, strict=True):
            if value is not None:
                own.copy_(value)
        self._graph.replay()
        return self.outputs


def serves(z_x: Tensor) -> bool:
    """Return whether steps can be recorded: enough of them, on a GPU, and nobody else is recording."""
    return (
        len(z_x) >= 2 * STEPS
        and type(z_x) is torch.Tensor
        and z_x.is_cuda
        and not torch.compiler.is_compiling()
        and not torch.cuda.is_current_stream_capturing()
    )


def forward(way, keep, z_x, recurrent_kernel, mask, dropout, state):
    """Return h of all steps, the final state, and what `backward` needs: the inputs and some states."""
    constants, some = (recurrent_kernel, dropout), slice(0, STEPS)
    inputs = (z_x[some], _of(mask, some), *state)
    run = _Runner(way, "forward", _forward_function(way), constants, inputs)
    if keep:  # recorded here, not by a thread of the gradient's
        incoming = (torch.zeros_like(s) for s in (z_x[some, :, : state[0].shape[1]], *state))
        _Runner(way, "backward", _backward_function(way, len(state)), constants, (*inputs, *incoming))
    hs, before, state = z_x.new_empty(len(z_x), *state[0].shape), [], [*state]
    for part in _parts(len(z_x)):
        before += state
        hs[part], *state = run(z_x[part], _of(mask, part), *state)
        state = [s.clone() for s in state]  # the next run overwrites its outputs
    return hs, state, [z_x, *before] if keep else []


def backward(way, incoming, hs, recurrent_kernel, mask, dropout, saved):
    """Return the gradients of the projected inputs, the recurrent kernel and the state."""
    d_hs, *d_state = incoming
    z_x, before, parts, states = saved[0], saved[1:], _parts(len(saved[0])), len(d_state)
    d_state = [torch.zeros_like(s) if d is None else d for d, s in zip(d_state, before[:states], strict=True)]
    d_hs = torch.zeros_like(hs) if d_hs is None else d_hs
    constants, some = (recurrent_kernel, dropout), slice(0, STEPS)
    inputs = (z_x[some], _of(mask, some), *before[:states], d_hs[some], *d_state)
    run = _Runner(way, "backward", _backward_function(way, states), constants, inputs, may_record=False)
    dz = torch.empty_like(z_x)
    exact = torch.promote_types(z_x.dtype, torch.float32)
    d_kernel = torch.zeros_like(recurrent_kernel, dtype=exact)  # a sum over the parts
    for number, part in reversed([*enumerate(parts)]):
        state = before[number * states : (number + 1) * states]
        dz[part], of_part, *d_state = run(z_x[part], _of(mask, part), *state, d_hs[part], *d_state)
        d_kernel += of_part
        d_state = [d.clone() for d in d_state]
    return dz, d_kernel.to(recurrent_kernel.dtype), d_state


def _forward_function(way) -> Callable:
    def run(kernel, dropout, z_x, mask, *state):
        hs, final, _ = way.forward(False, z_x, kernel, mask, dropout, state)
        return (hs, *final)

    return run


def _backward_function(way, states: int) -> Callable:
    def run(kernel, dropout, z_x, mask, *rest):
        state, incoming = rest[:states], rest[states:]
        hs, _, kept = way.forward(True, z_x, kernel, mask, dropout, state)
        dz, d_kernel, d_state = way.backward(incoming, hs, kernel, mask, dropout, kept)
        return (dz, d_kernel, *d_state)

    return run


class _Runner:
    """Runs parts of a sequence by a recording, if there is one and they are as long as it."""

    def __init__(self, way, name: str, function: Callable, constants: Sequence, inputs: Sequence, may_record=True):
        self._function, self._constants, self._loaded = function, constants, False
        inputs = (*constants, *inputs)
        key = (way, name, inputs[0].device, _stream(), *(None if t is None else (t.shape, t.dtype) for t in inputs))
        self._recording = _recorded(key, function, inputs) if may_record else _known.get(key) or None

    def __call__(self, z_x, *others):
        if self._recording is None or len(z_x) != STEPS:
            return self._function(*self._constants, z_x, *others)
        constants = [None] * len(self._constants) if self._loaded else self._constants
        self._loaded = True
        return self._recording(*constants, z_x, *others)


def _of(mask: Tensor | None, part: slice) -> Tensor | None:
    return None if mask is None else mask[part]


def _parts(count: int) -> list[slice]:
    """Return the steps of each recording, and those that are left."""
    return [slice(start, min(start + STEPS, count)) for start in range(0, count, STEPS)]


def _recorded(key: tuple, function: Callable, inputs: Sequence[Tensor | None]) -> Recording | None:
    """Return the recording for inputs of this shape, or None at the first time, or if it cannot be made."""
    if key not in _known:
        _known[key] = None
    elif _known[key] is None:
        _known[key] = _record(function, inputs)
    _known.move_to_end(key)
    while len(_known) > RECORDINGS:
        _known.popitem(last=False)
    return _known[key] or None


def _stream() -> int:
    """Return the stream that work goes to: a recording's tensors are one stream's."""
    return torch.cuda.current_stream().cuda_stream


def _record(function: Callable, inputs: Sequence[Tensor | None]) -> Recording | bool:
    try:
        return Recording(function, inputs)
    except RuntimeError as error:
        warnings.warn(
            f"The steps of a recurrent layer could not be recorded as a CUDA graph, so they are launched one by one, "
            f"which is slower: {error}",
            stacklevel=2,
        )
        return False  # not tried again
