"""Steps on a GPU by CUDA graphs: recorded once for a shape, then launched as one, some steps at a time.

A loop of small kernels waits for Python to launch them. A graph of `STEPS` steps is launched by one call. It works in
tensors of its own, so what goes in and out is copied, and nothing of a call stays in them: layers of one shape share
a recording, and calls may be nested and repeated before their gradients are taken. Backward, the steps of a
recording are computed again from the state before them, so that only those states are kept.

A shape is recorded when it comes for the second time, and the oldest recordings are let go. What is left of the steps
runs one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch.overrides import TorchFunctionMode

from keras_lstm_custom.engines.torch.amortized import Amortized
from keras_lstm_custom.structures import Tensor

STEPS = 16  #: of one recording: launching it takes less time than running it, and its tensors stay small


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
            if own is not None and value is not None:
                own.copy_(value)
        self._graph.replay()
        return self.outputs


class _NumbersFilled(TorchFunctionMode):
    """A number becomes a tensor by a kernel; copied to the GPU, as Keras' functions do it, it cannot be recorded."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function in (torch.as_tensor, torch.tensor) and isinstance(args[0], (bool, int, float)):
            return torch.full((), args[0], dtype=kwargs.get("dtype"), device=kwargs.get("device"))
        return function(*args, **kwargs)


def _recordable(function: Callable) -> Callable:
    def run(*tensors):
        with _NumbersFilled():
            return function(*tensors)

    return run


#: By way, place and shapes.
RECORDINGS: Amortized[Recording] = Amortized(
    most=16,
    worth=1,
    without="The steps of a recurrent layer could not be recorded as a CUDA graph, so they are launched one by one, "
    "which is slower",
)


def serves(z_x: Tensor) -> bool:
    """Return whether steps can be recorded: enough of them, on a GPU, and nobody else is recording."""
    if len(z_x) < 2 * STEPS or type(z_x) is not torch.Tensor or not z_x.is_cuda or torch.compiler.is_compiling():
        return False
    with torch.cuda.device_of(z_x):
        return not torch.cuda.is_current_stream_capturing()


@contextmanager
def _for_recordings(z_x: Tensor) -> Iterator[None]:
    """Be where the tensors are, whose stream is to be recorded, and as the next call may be: without autocast."""
    with torch.cuda.device_of(z_x), torch.autocast(z_x.device.type, enabled=False):
        yield


class Steps(NamedTuple):
    """What is recorded: any number of steps forward, and their gradient."""

    key: Hashable  #: equal for functions that compute the same
    forward: Callable  #: (z_x, mask, state, constants) -> h of all steps, *final state
    gradient: Callable  #: (z_x, mask, state, constants, incoming) -> dz, *gradients of the state, *those of constants


def forward(steps: Steps, keep: bool, z_x: Tensor, mask: Tensor | None, state: Sequence, constants: Sequence):
    """Return h of all steps, the final state, and with `keep` the states before all recordings, for `backward`."""
    with _for_recordings(z_x):
        inputs = (z_x[:STEPS], _of(mask, slice(0, STEPS)), *state)
        run = _Runner(steps, "forward", constants, inputs, len(state))
        if keep:  # recorded here, not by a thread of the gradient's
            incoming = (torch.stack([state[0]] * STEPS), *state)
            _Runner(steps, "gradient", constants, (*inputs, *incoming), len(state))
        hs, before, state = None, [], [*state]
        for part in _parts(len(z_x)):
            before += state if keep else []
            of_part, *state = run(z_x[part], _of(mask, part), *state)
            hs = of_part.new_empty(len(z_x), *of_part.shape[1:]) if hs is None else hs
            hs[part] = of_part
            state = [s.clone() for s in state]  # the next run overwrites its outputs
        return hs, state, before


def backward(steps: Steps, incoming, z_x: Tensor, mask: Tensor | None, before: Sequence, constants: Sequence):
    """Return the gradients of the projected inputs, of the state, and of the constants; None for those without."""
    with _for_recordings(z_x):
        d_hs, *d_state = incoming
        parts, count = _parts(len(z_x)), len(d_state)
        d_state = [torch.zeros_like(s) if d is None else d for d, s in zip(d_state, before[:count], strict=True)]
        d_hs = z_x.new_zeros(len(z_x), *before[0].shape) if d_hs is None else d_hs
        inputs = (z_x[:STEPS], _of(mask, slice(0, STEPS)), *before[:count], d_hs[:STEPS], *d_state)
        run = _Runner(steps, "gradient", constants, inputs, count, may_record=False)
        dz, sums = torch.empty_like(z_x), [None] * len(constants)
        for number, part in reversed([*enumerate(parts)]):
            state = before[number * count : (number + 1) * count]
            dz[part], *gradients = run(z_x[part], _of(mask, part), *state, d_hs[part], *d_state)
            d_state, of_part = [d.clone() for d in gradients[:count]], gradients[count:]
            sums = [_added(total, d) for total, d in zip(sums, of_part, strict=True)]
        return dz, d_state, [None if t is None else t.to(c.dtype) for t, c in zip(sums, constants, strict=True)]


def _added(total: Tensor | None, gradient: Tensor | None) -> Tensor | None:
    """Return the sum in float32 at least; `total` is of its own and may change, `gradient` is the recording's."""
    if gradient is None:
        return None
    if total is None:
        return gradient.to(torch.promote_types(gradient.dtype, torch.float32), copy=True)
    return total.add_(gradient)


class _Runner:
    """Runs parts of a sequence by a recording, if there is one and they are as long as it."""

    def __init__(self, steps, name: str, constants: Sequence, inputs: Sequence, states: int, may_record=True):
        self._constants, self._loaded = constants, False
        function = getattr(steps, name)

        def run(*values):
            fixed, (z_x, mask, *others) = values[: len(constants)], values[len(constants) :]
            incoming = [others[states:]] if name == "gradient" else []
            return function(z_x, mask, others[:states], fixed, *incoming)

        self._function, inputs = run, (*constants, *inputs)
        shapes = (None if t is None else (t.shape, t.dtype) for t in inputs)
        key = (steps.key, name, inputs[len(constants)].device, _stream(), *shapes)
        make = lambda: Recording(_recordable(run), inputs)  # noqa: E731
        self._recording = RECORDINGS.of(key, make) if may_record else RECORDINGS.ready(key)

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


def _stream() -> int:
    """Return the stream that work goes to: a recording's tensors are one stream's."""
    return torch.cuda.current_stream().cuda_stream
