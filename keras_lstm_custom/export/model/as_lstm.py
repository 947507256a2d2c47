"""Which cells are what TFLite's fused LSTM op computes, and how.

The op is more than the LSTM of Keras: it has peepholes, coupled gates, a projection, a layer normalisation of each
gate and clips, as its inputs and options. LiteRT computes them all; the microcontroller runtime has the plain LSTM and
the cell clip alone. There, coupled gates are written as the plain LSTM that they equal:
$1 - \\sigma(z) = \\sigma(-z)$, so that the input gate is $\\sigma(-z_f)$.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_lstm_custom.cells import LSTMCell, VanillaRNNCell
from keras_lstm_custom.cells.as_ours import as_ours
from keras_lstm_custom.equations.weight_layout import split_gates
from keras_lstm_custom.export.model import vanilla_rnn

#: What the fused op computes as the activations of each cell.
ACTIVATIONS: dict[type, dict[str, Callable]] = {
    LSTMCell: {"activation": keras.activations.tanh, "recurrent_activation": keras.activations.sigmoid},
    VanillaRNNCell: {"activation": keras.activations.tanh},
}
#: What an LSTM may have besides to be fused: options of `LSTMCell` that are inputs or options of the op.
EVERYWHERE = frozenset({"coupled", "cell_clip"})
VARIANTS = EVERYWHERE | {"peepholes", "projection", "projection_clip", "layer_normalization"}

ByGate = Mapping[str, np.ndarray]
_NONE: ByGate = MappingProxyType({})


class FusedLSTM(NamedTuple):
    """The weights of a fused op by gate, without the input gate where it is 1 - f."""

    name: str  #: the layer's name, for the tensors in the file
    kernels: ByGate  #: each (features, units)
    recurrent_kernels: ByGate  #: each (width of h, units)
    biases: ByGate  #: each (units,)
    peepholes: ByGate = _NONE  #: each (units,)
    gammas: ByGate = _NONE  #: each (units,), of the layer normalisation
    projection: np.ndarray | None = None  #: (units, width of h)
    cell_clip: float | None = None
    projection_clip: float | None = None
    gain: float | None = None  #: γ of `vanilla_rnn`, if it is one

    @property
    def units(self) -> int:
        return len(self.biases["f"])

    @property
    def width(self) -> int:
        """Return the width of h."""
        return self.units if self.projection is None else self.projection.shape[1]

    def encode(self, state: Sequence[Any]) -> list[Any]:
        """Return the op's h and c for the cell's state; of a vanilla RNN, h alone."""
        return list(state) if self.gain is None else [h * self.gain for h in state]

    def decode(self, h: Any) -> Any:
        """Return the cell's h for the op's."""
        return h if self.gain is None else h / self.gain


def as_lstm(name: str, cell: Any, vanilla_gain: float, variants: bool, integers: bool = False) -> FusedLSTM | None:
    """Return the fused op that computes a cell, or None if there is none.

    Args:
        name: of the layer.
        cell: a cell of Keras or of ours, traced with its weights as constants.
        vanilla_gain: γ of `vanilla_rnn`.
        variants: whether the op may have what one runtime alone computes.
        integers: whether the file will compute in integers.
    """
    ours = as_ours(cell)
    if not is_fusible(cell, variants, integers):
        return None
    return _FORMS[type(ours)](name, ours, vanilla_gain, variants)


def is_fusible(cell: Any, variants: bool = True, integers: bool = False) -> bool:
    """Say whether the fused op computes what a cell computes in inference."""
    ours = as_ours(cell)
    if ours is None or type(ours) not in _FORMS or not ours.features <= (VARIANTS if variants else EVERYWHERE):
        return False
    if getattr(ours, "layer_normalization", None) not in (None, "gate"):
        return False
    if integers and "peepholes" in ours.features and ours.output_size != ours.units:
        return False  # LiteRT's integer kernel takes both to be of one size
    return all(getattr(ours, name) is function for name, function in ACTIVATIONS[type(ours)].items())


def _vanilla(name: str, cell: Any, gain: float, variants: bool) -> FusedLSTM:
    kernel, recurrent_kernel = constant(cell.kernel), constant(cell.recurrent_kernel)
    bias = np.zeros(kernel.shape[1]) if cell.bias is None else constant(cell.bias)
    form = vanilla_rnn.as_lstm(kernel, recurrent_kernel, bias, gain)
    kernels, recurrent_kernels, biases = map(split_gates, (form.kernel, form.recurrent_kernel, form.bias))
    return FusedLSTM(name, kernels, recurrent_kernels, biases, gain=gain)


def _lstm(name: str, cell: Any, gain: float, variants: bool) -> FusedLSTM:
    gates = cell.gates
    bias = np.zeros(len(gates) * cell.units, np.float32) if cell.bias is None else constant(cell.bias)
    kernels, recurrent_kernels, biases = (
        split_gates(array, gates) for array in (constant(cell.kernel), constant(cell.recurrent_kernel), bias)
    )
    if "i" not in gates and not variants:
        kernels, recurrent_kernels, biases = (
            {"i": -parts["f"], **parts} for parts in (kernels, recurrent_kernels, biases)
        )
    options = cell.options
    peepholes = {g: constant(getattr(cell, f"peephole_{g}")) for g in gates if options.peepholes and g != "g"}
    gammas = split_gates(constant(cell.gate_gamma), gates) if options.layer_normalization else _NONE
    projection = None if options.projection is None else constant(cell.projection_kernel)
    clips = options.cell_clip, options.projection_clip
    return FusedLSTM(name, kernels, recurrent_kernels, biases, peepholes, gammas, projection, *clips)


_FORMS: dict[type, Callable[..., FusedLSTM]] = {LSTMCell: _lstm, VanillaRNNCell: _vanilla}


def constant(variable: Any) -> np.ndarray:
    """Return the values of a weight of a model that is traced with its weights as constants."""
    import tensorflow as tf

    return tf.get_static_value(tf.convert_to_tensor(variable))
