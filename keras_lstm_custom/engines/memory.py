"""What to do when a device has too little memory: said where the framework's own error says how many bytes only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from math import isqrt

import numpy as np
from keras import tree

from keras_lstm_custom.engines.contract import Request
from keras_lstm_custom.errors import message

#: How the frameworks' errors tell that it is this: torch's class, TensorFlow's class, XLA's text.
SIGNS = ("OutOfMemoryError", "ResourceExhaustedError", "RESOURCE_EXHAUSTED")


@contextmanager
def explained(request: Request) -> Iterator[None]:
    """Add to an error of too little memory which tensors are large, and what `checkpoint_every` would make of them."""
    try:
        yield
    except Exception as error:
        known = None not in request.sequences.shape
        if not known or not any(sign in f"{type(error).__name__}: {error}" for sign in SIGNS):
            raise
        text = f"{error}\n{_advice(request)}"
        try:  # of the same class, for those who catch it
            explained = type(error)(text)
        except TypeError:  # TensorFlow's asks for the operation, too
            explained = type(error)(getattr(error, "node_def", None), getattr(error, "op", None), text)
        raise explained from error


def _advice(request: Request) -> str:
    batch, timesteps, features = request.sequences.shape
    packed, states = request.cell.kernel.shape[-1], sum(tree.flatten(request.cell.state_size))
    size = np.dtype("float16" if request.cell.compute_dtype == "bfloat16" else request.cell.compute_dtype).itemsize

    def mebibytes(steps, width):
        return f"{batch * steps * width * size / 2**20:,.0f} MiB"

    kept = packed + states
    large = {
        f"projected inputs ({timesteps}, {batch}, {packed})": mebibytes(timesteps, packed),
        f"inputs ({batch}, {timesteps}, {features})": mebibytes(timesteps, features),
    }
    remedy = "Take smaller batches."
    if request.training:
        large[f"gates and states of {timesteps} steps, kept for the gradient"] = mebibytes(timesteps, kept)
        every = request.checkpoint_every or max(1, isqrt(timesteps))
        fewer = mebibytes(every, kept + packed)
        now = " (it is set; a smaller one keeps less)" if request.checkpoint_every else ""
        remedy = f"checkpoint_every={every}{now} keeps gates of {every} steps at a time, {fewer}. {remedy}"
    return message(
        f"There is too little memory to run the {request.cell.title or request.cell.kind} over these sequences.",
        expected="memory for " + ", ".join(f"{name}: {bytes_}" for name, bytes_ in large.items()),
        received="a device that has less left",
        remedy=remedy,
    )
