"""A recorder in the registry's place: while one is active it serves every request.

What watches a layer (a trace, a gradient with respect to its states) needs no hook of its own: each
call of a recurrent layer of ours, however deep in a model, reaches the registry as a `Request`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from keras_lstm_custom.engines.contract import Request, Result

#: Serves a request, and keeps of it what it wants.
Recorder = Callable[[Request], Result]

_recorder: ContextVar[Recorder | None] = ContextVar("recorder", default=None)


@contextmanager
def recording(recorder: Recorder) -> Iterator[None]:
    """Let `recorder` serve every request made inside the block, whatever engine the layer asks for."""
    token = _recorder.set(recorder)
    try:
        yield
    finally:
        _recorder.reset(token)


def active() -> Recorder | None:
    """Return the recorder of the innermost `recording` block, or None."""
    return _recorder.get()
