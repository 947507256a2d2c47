"""Named tuples that carry states and steps. Field names are the symbols of the equations."""

from __future__ import annotations

from typing import Any, NamedTuple

Tensor = Any  # a tensor of the active Keras backend


class LSTMState(NamedTuple):
    """What an LSTM remembers between two steps; each `(batch, units)`."""

    h: Tensor  #: hidden state, the short-term memory
    c: Tensor  #: cell state, the long-term memory


class LSTMStep(NamedTuple):
    """All that one LSTM step computes; each `(batch, units)`. The first two fields are the new state."""

    h: Tensor  #: hidden state after the step
    c: Tensor  #: cell state after the step
    i: Tensor  #: input gate
    f: Tensor  #: forget gate
    g: Tensor  #: candidate
    o: Tensor  #: output gate

    @property
    def state(self) -> LSTMState:
        return LSTMState(self.h, self.c)


class RNNState(NamedTuple):
    """What a vanilla RNN remembers between two steps; `(batch, units)`."""

    h: Tensor  #: hidden state


class GRUStep(NamedTuple):
    """All that one GRU step computes; each `(batch, units)`. The first field is the new state."""

    h: Tensor  #: hidden state after the step
    z: Tensor  #: update gate
    r: Tensor  #: reset gate
    n: Tensor  #: candidate

    @property
    def state(self) -> RNNState:
        return RNNState(self.h)


class RNNStep(NamedTuple):
    """All that one vanilla RNN step computes; each `(batch, units)`. The first field is the new state."""

    h: Tensor  #: hidden state after the step
    z: Tensor  #: pre-activation

    @property
    def state(self) -> RNNState:
        return RNNState(self.h)
