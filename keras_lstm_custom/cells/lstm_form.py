"""A cell's form as an LSTM: another set of weights with the same outputs, for what knows no other recurrent cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

ByGate = Mapping[str, np.ndarray]
NONE: ByGate = MappingProxyType({})


class LSTMForm(NamedTuple):
    """An LSTM in inference, perhaps with options of `LSTMCell`: weights by gate, no input gate where it is 1 - f."""

    kernels: ByGate  #: each (features, units)
    recurrent_kernels: ByGate  #: each (width of h, units)
    biases: ByGate  #: each (units,)
    peepholes: ByGate = NONE  #: each (units,)
    gammas: ByGate = NONE  #: each (units,), of the layer normalisation of each gate
    projection: np.ndarray | None = None  #: (units, width of h)
    cell_clip: float | None = None
    projection_clip: float | None = None
    gain: float | None = None  #: the LSTM's h over the cell's; None for 1
    name: str = ""  #: the layer's, for the tensors in a file

    @property
    def units(self) -> int:
        return len(self.biases["f"])

    @property
    def width(self) -> int:
        """Return the width of h."""
        return self.units if self.projection is None else self.projection.shape[1]

    def with_input_gate(self) -> LSTMForm:
        r"""Return the same with an input gate: $1 - \sigma(z) = \sigma(-z)$, so that its weights are $-f$'s."""
        if "i" in self.biases:
            return self

        def turned_round(parts: ByGate) -> ByGate:
            return {"i": -parts["f"], **parts} if parts else NONE

        return self._replace(
            kernels=turned_round(self.kernels),
            recurrent_kernels=turned_round(self.recurrent_kernels),
            biases=turned_round(self.biases),
            peepholes=turned_round(self.peepholes),
            gammas={"i": self.gammas["f"], **self.gammas}
            if self.gammas
            else NONE,  # the norm of -z is that of z, turned
        )

    def encode(self, state: Sequence[Any]) -> list[Any]:
        """Return the LSTM's h and c for the cell's state; where there is a gain, h alone."""
        return list(state) if self.gain is None else [h * self.gain for h in state]

    def decode(self, h: Any) -> Any:
        """Return the cell's h for the LSTM's."""
        return h if self.gain is None else h / self.gain
