"""`gate_weights`: the packed weights of every recurrent layer, taken apart by gate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import pandas as pd
from keras import ops

from keras_lstm_custom.diagnostics.recurrent_layers import cells
from keras_lstm_custom.equations.weight_layout import split_gates
from keras_lstm_custom.errors import ArgumentError

Array = np.ndarray


@dataclass(frozen=True, eq=False, kw_only=True)
class GateWeights:
    """The weights of one layer by gate: "i", "f", "g", "o" of an LSTM, "h" of a vanilla RNN."""

    name: str  #: as in the traces
    kernel: dict[str, Array]  #: W of each gate, `(features, units)`
    recurrent_kernel: dict[str, Array]  #: U of each gate, `(units, units)`
    bias: dict[str, Array]  #: b of each gate, `(units,)`; empty without bias

    @property
    def gates(self) -> tuple[str, ...]:
        return tuple(self.kernel)

    @property
    def spectral_radius(self) -> dict[str, float]:
        r"""The largest |eigenvalue| of each U.

        For a vanilla RNN it bounds what happens in the long run: with $|\tanh'| \le 1$, a largest
        singular value below 1 makes the gradient vanish, and it can only explode where that is
        above 1 (Pascanu et al. 2013); the spectral radius is the rate of growth of $U^k$.
        """
        return {gate: float(np.abs(np.linalg.eigvals(u)).max()) for gate, u in self.recurrent_kernel.items()}

    @property
    def largest_singular_value(self) -> dict[str, float]:
        """The spectral norm of each U: by how much it can stretch a vector in one step."""
        return {gate: float(np.linalg.norm(u, 2)) for gate, u in self.recurrent_kernel.items()}

    def parts(self) -> dict[str, dict[str, Array]]:
        """Return kernel, recurrent kernel and (if there is one) bias by their names."""
        parts = {"kernel": self.kernel, "recurrent_kernel": self.recurrent_kernel, "bias": self.bias}
        return {part: gates for part, gates in parts.items() if gates}

    def histogram(self, part: str = "kernel", bins: int = 30) -> tuple[dict[str, Array], Array]:
        """Return counts by gate, `(bins,)`, and the edges they share, `(bins + 1,)`.

        Raises:
            ArgumentError: the layer has no such part.
        """
        if part not in self.parts():
            raise ArgumentError(
                f"The layer {self.name!r} has no such weights.",
                expected=", ".join(map(repr, self.parts())),
                received=repr(part),
                remedy="Name one of those above.",
            )
        gates = self.parts()[part]
        edges = np.histogram_bin_edges(np.concatenate([w.reshape(-1) for w in gates.values()]), bins)
        return {gate: np.histogram(w, edges)[0] for gate, w in gates.items()}, edges

    def to_frame(self) -> pd.DataFrame:
        """Return one row for each part and gate: how large its weights are."""
        rows = [
            {
                "layer": self.name,
                "part": part,
                "gate": gate,
                "mean": w.mean(),
                "std": w.std(),
                "largest": np.abs(w).max(),
            }
            for part, gates in self.parts().items()
            for gate, w in gates.items()
        ]
        return pd.DataFrame(rows)

    def __str__(self) -> str:
        radii = ", ".join(f"{gate} {radius:.3f}" for gate, radius in self.spectral_radius.items())
        table = self.to_frame().drop(columns="layer").to_string(index=False, float_format="{:.3f}".format)
        return f"{self.name}\n{table}\nspectral radius of the recurrent kernel: {radii}"


def gate_weights(model: keras.Model) -> dict[str, GateWeights]:
    """Return the weights of every recurrent layer by gate, under the names that `trace` gives.

    Layers of ours and of Keras are read as they are; the arrays are copies.

    ```python
    gate_weights(model)["lstm"].bias["f"]                       # (units,)
    gate_weights(model)["vanilla_rnn"].spectral_radius["h"]     # 0.98
    ```

    Raises:
        ArgumentError: the model has no LSTM or vanilla RNN layer with weights.
    """
    found = {name: _take_apart(name, cell) for name, cell in cells(model).items() if cell.built}
    if not found:
        raise ArgumentError(
            f"The model {model.name!r} has no recurrent layer with weights.",
            expected="built LSTM or vanilla RNN layers, of keras_lstm_custom or of keras.layers",
            received=", ".join(layer.name for layer in model.layers) or "a model without layers",
            remedy="Build the model first, or pass the one that holds the recurrent layers.",
        )
    return found


def _take_apart(name: str, cell: Any) -> GateWeights:
    def by_gate(packed: Any) -> dict[str, Array]:
        if packed is None:
            return {}
        array = np.array(ops.convert_to_numpy(packed))
        # A vanilla RNN has one map, to its hidden state.
        return split_gates(array) if isinstance(cell, keras.layers.LSTMCell) else {"h": array}

    return GateWeights(
        name=name,
        kernel=by_gate(cell.kernel),
        recurrent_kernel=by_gate(cell.recurrent_kernel),
        bias=by_gate(cell.bias),
    )
