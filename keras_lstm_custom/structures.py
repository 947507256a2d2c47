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


class RNNState(NamedTuple):
    """What a vanilla RNN remembers between two steps; `(batch, units)`."""

    h: Tensor  #: hidden state


class GRUStep(NamedTuple):
    """All that one GRU step computes; each `(batch, units)`. The first field is the new state."""

    h: Tensor  #: hidden state after the step
    z: Tensor  #: update gate
    r: Tensor  #: reset gate
    n: Tensor  #: candidate


class RNNStep(NamedTuple):
    """All that one vanilla RNN step computes; each `(batch, units)`. The first field is the new state."""

    h: Tensor  #: hidden state after the step
    z: Tensor  #: pre-activation


class SLSTMState(NamedTuple):
    """What an sLSTM remembers between two steps; each `(batch, units)`."""

    h: Tensor  #: hidden state
    c: Tensor  #: cell state
    n: Tensor  #: normaliser: the sum of the weights of what is in c
    m: Tensor  #: stabiliser: the largest exponent so far


class SLSTMStep(NamedTuple):
    """All that one sLSTM step computes; each `(batch, units)`. The first four fields are the new state."""

    h: Tensor  #: hidden state after the step
    c: Tensor  #: cell state after the step
    n: Tensor  #: normaliser after the step
    m: Tensor  #: stabiliser after the step
    i: Tensor  #: input gate
    f: Tensor  #: forget gate
    g: Tensor  #: candidate
    o: Tensor  #: output gate
