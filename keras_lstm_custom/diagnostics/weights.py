"""`gate_weights`: the packed weights of every recurrent layer, taken apart by gate."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import pandas as pd
from keras import ops

from keras_lstm_custom.cells.as_ours import as_ours
from keras_lstm_custom.diagnostics.recurrent_layers import cells
from keras_lstm_custom.equations.weight_layout import split_gates
from keras_lstm_custom.errors import ArgumentError
from keras_lstm_custom.symbols import described

Array = np.ndarray


@dataclass(frozen=True, eq=False, kw_only=True)
class GateWeights:
    """The weights of one layer by gate: "i", "f", "g", "o" of an LSTM, "z", "r", "n" of a GRU, "h" of a vanilla RNN.

    Gates are the blocks of units that the cell packs its kernels of (`EquationCell.gates`).
    """

    name: str  #: as in the traces
    kernel: dict[str, Array]  #: W of each gate, `(features, units)`
    recurrent_kernel: dict[str, Array]  #: U of each gate, `(width of h, units)`; blocks of heads on the diagonal
    bias: dict[str, Array]  #: b of each gate, `(units,)`, or `(2, units)` with one for x and one for h; empty without
    more: dict[str, dict[str, Array]] = field(default_factory=dict)  #: other weights by gate: {"peephole": {"f": ...}}
    others: dict[str, Array] = field(default_factory=dict)  #: weights that belong to no gate, by name
    titles: dict[str, str] = field(default_factory=dict)  #: what the gates are called, for pictures
    output_kernel: Array | None = None  #: `(units, width of h)`, of a projection

    @property
    def gates(self) -> tuple[str, ...]:
        return tuple(self.kernel)

    @property
    def spectral_radius(self) -> dict[str, float]:
        r"""The largest |eigenvalue| of each U; with a projection P, of each P U.

        For a vanilla RNN it bounds what happens in the long run: with $|\tanh'| \le 1$, a largest
        singular value below 1 makes the gradient vanish, and it can only explode where that is
        above 1 (Pascanu et al. 2013); the spectral radius is the rate of growth of $U^k$.
        """
        maps = self.recurrent_kernel.items()
        if self.output_kernel is not None:  # from step to step units go through both
            maps = {gate: self.output_kernel @ u for gate, u in maps}.items()
        return {gate: float(np.abs(np.linalg.eigvals(u)).max()) for gate, u in maps if u.shape[0] == u.shape[1]}

    @property
    def largest_singular_value(self) -> dict[str, float]:
        """The spectral norm of each U: by how much it can stretch a vector in one step."""
        return {gate: float(np.linalg.norm(u, 2)) for gate, u in self.recurrent_kernel.items()}

    def parts(self) -> dict[str, dict[str, Array]]:
        """Return kernel, recurrent kernel and (if there is one) bias by their names, and what else there is by gate."""
        parts = {"kernel": self.kernel, "recurrent_kernel": self.recurrent_kernel, "bias": self.bias, **self.more}
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
        """Return one row for each part and gate ("" where it belongs to none): how large its weights are."""
        weights = {(part, gate): w for part, gates in self.parts().items() for gate, w in gates.items()}
        weights |= {(name, ""): w for name, w in self.others.items()}
        rows = [
            {
                "layer": self.name,
                "part": part,
                "gate": gate,
                "mean": w.mean(),
                "std": w.std(),
                "largest": np.abs(w).max(),
            }
            for (part, gate), w in weights.items()
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
    gate_weights(model)["encoder"].bias["f"]                       # (units,)
    gate_weights(model)["encoder"].spectral_radius["f"]            # 0.98
    ```

    Args:
        model: a built model; its layers may be of ours or of Keras.

    Returns:
        By name `GateWeights`: kernel `(features, units)`, recurrent kernel `(units, units)` and bias `(units,)` of each
        gate, its spectral radius, and more.

    Raises:
        ArgumentError: the model has no recurrent layer with weights.
    """
    found = {name: _take_apart(name, as_ours(cell)) for name, cell in cells(model).items() if cell.built}
    if not found:
        raise ArgumentError(
            f"The model {model.name!r} has no recurrent layer with weights.",
            expected="built recurrent layers of keras_lstm_custom, or LSTM, GRU, SimpleRNN of keras.layers",
            received=", ".join(layer.name for layer in model.layers) or "a model without layers",
            remedy="Build the model first, or pass the one that holds the recurrent layers.",
        )
    return found


PARTS = ("kernel", "recurrent_kernel", "bias")


def _take_apart(name: str, cell: Any) -> GateWeights:
    parts: dict[str, dict[str, Array]] = {part: {} for part in PARTS}
    others: dict[str, Array] = {}
    for weight in cell.weights:
        values = _as_matrix(np.array(ops.convert_to_numpy(weight)))
        stem, _, gate = weight.name.rpartition("_")
        if values.shape[-1] == len(cell.gates) * cell.units:
            parts[weight.name] = split_gates(values, cell.gates)
        elif stem and gate in cell.gates:
            parts.setdefault(stem, {})[gate] = values
        else:
            others[weight.name] = values
    kernel, recurrent_kernel, bias = (parts.pop(part) for part in PARTS)
    output = cell.output_kernel
    return GateWeights(
        name=name,
        kernel=kernel,
        recurrent_kernel=recurrent_kernel,
        bias=bias,
        more=parts,
        others=others,
        titles={gate: symbol.latex(gate) for gate, symbol in described(cell).symbols.items()},
        output_kernel=None if output is None else np.array(ops.convert_to_numpy(output)),
    )


def packed(cell: Any, part: str) -> Array | None:
    """Return a weight with the blocks of its gates side by side, as `gate_weights` takes it apart; None without one."""
    weight = getattr(cell, part, None)
    return None if weight is None else _as_matrix(np.array(ops.convert_to_numpy(weight)))


def _as_matrix(values: Array) -> Array:
    """Return a weight that has one matrix for each head as the one that it is: the heads' blocks on the diagonal."""
    if values.ndim < 3:
        return values
    heads, rows, columns = values.shape
    gates = columns // rows
    whole = np.zeros((heads, rows, gates, heads, rows), values.dtype)
    for head, block in enumerate(values):
        whole[head, :, :, head] = block.reshape(rows, gates, rows)
    return whole.reshape(heads * rows, gates * heads * rows)
