"""One row for each public layer and cell: its Keras counterpart if there is one, and a value for every option.

Tests that hold for all of them walk `LAYERS` and `CELLS`; `test_descriptors.py` fails when a public
class or one of its options has no place here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import pytest

import keras_lstm_custom as ours
from tests.oracles import numpy_cells
from tests.oracles.numpy_gru import gru
from tests.oracles.numpy_slstm import slstm

BATCH, TIMESTEPS, FEATURES, UNITS = 3, 4, 2, 5


@dataclass(frozen=True)
class Descriptor:
    """How to build one public class, and what to compare it with."""

    public_class: type
    keras_class: Any  #: None: Keras has no such cell
    options: dict[str, Any]  #: a non-default value for every argument except `units`
    oracle: Any  #: the NumPy network of the same equations
    states: int  #: how many state tensors it keeps
    positive: tuple[int, ...] = ()  #: which of them are positive

    @property
    def name(self) -> str:
        return self.public_class.__qualname__  # its __name__ is the one that files of weights have

    def build(self, **options: Any) -> Any:
        return self.public_class(UNITS, **options)

    def keras_twin(self, **options: Any) -> Any:
        """Build the Keras counterpart, without the faster paths that Keras itself does not compare."""
        if self.keras_class in (keras.layers.LSTM, keras.layers.GRU):
            options.setdefault("use_cudnn", False)
        return self.keras_class(UNITS, **options)

    def random_states(self, rng: np.random.Generator, batch: int = BATCH, units: int = UNITS) -> list[np.ndarray]:
        drawn = [rng.normal(size=(batch, units)).astype("float32") for _ in range(self.states)]
        return [0.5 + np.abs(state) if n in self.positive else state for n, state in enumerate(drawn)]


_CELL_OPTIONS = {
    "activation": "softsign",
    "use_bias": False,
    "kernel_initializer": "he_normal",
    "recurrent_initializer": "glorot_normal",
    "bias_initializer": "ones",
    "kernel_regularizer": keras.regularizers.L2(0.01),
    "recurrent_regularizer": keras.regularizers.L1(0.02),
    "bias_regularizer": keras.regularizers.L1L2(0.03, 0.04),
    "kernel_constraint": keras.constraints.MaxNorm(1.5),
    "recurrent_constraint": keras.constraints.UnitNorm(),
    "bias_constraint": keras.constraints.NonNeg(),
    "dropout": 0.25,
    "recurrent_dropout": 0.5,
    "seed": 11,
    # from here on: taken through **kwargs
    "implementation": 1,
    "name": "renamed",
    "dtype": "mixed_bfloat16",
    "trainable": False,
}
_LSTM_CELL_OPTIONS = {
    **_CELL_OPTIONS,
    "recurrent_activation": "hard_sigmoid",
    "unit_forget_bias": False,
    "peepholes": True,
    "coupled": True,
    "projection": 3,
    "projection_clip": 0.7,
    "layer_normalization": "joint",
    "cell_clip": 2.5,
    "zoneout": 0.1,
    "cell_zoneout": 0.2,
    "recurrent_weight_dropout": 0.3,
}
_GRU_CELL_OPTIONS = {**_CELL_OPTIONS, "recurrent_activation": "hard_sigmoid", "reset_after": False}
_LAYER_OPTIONS = {
    "activity_regularizer": keras.regularizers.L2(0.05),
    "return_sequences": True,
    "return_state": True,
    "go_backwards": True,
    "stateful": True,
    "unroll": True,
    "zero_output_for_mask": True,
    "engine": "reference",
    "checkpoint_every": 3,
}
# Keras' SimpleRNN has no `implementation` and SimpleRNNCell none either.
_RNN_CELL_OPTIONS = {name: value for name, value in _CELL_OPTIONS.items() if name != "implementation"}

LAYERS = [
    Descriptor(
        ours.LSTM,
        keras.layers.LSTM,
        {**_LSTM_CELL_OPTIONS, **_LAYER_OPTIONS, "use_cudnn": False},
        numpy_cells.lstm,
        states=2,
    ),
    Descriptor(
        ours.VanillaRNN,
        keras.layers.SimpleRNN,
        {**_RNN_CELL_OPTIONS, **_LAYER_OPTIONS},
        numpy_cells.vanilla_rnn,
        states=1,
    ),
    Descriptor(
        ours.GRU,
        keras.layers.GRU,
        {**_GRU_CELL_OPTIONS, **_LAYER_OPTIONS, "use_cudnn": False},
        gru,
        states=1,
    ),
    Descriptor(ours.SLSTM, None, {**_RNN_CELL_OPTIONS, **_LAYER_OPTIONS, "heads": 5}, slstm, states=4, positive=(2,)),
]
CELLS = [
    Descriptor(ours.LSTMCell, keras.layers.LSTMCell, _LSTM_CELL_OPTIONS, numpy_cells.lstm, states=2),
    Descriptor(ours.VanillaRNNCell, keras.layers.SimpleRNNCell, _RNN_CELL_OPTIONS, numpy_cells.vanilla_rnn, states=1),
    Descriptor(ours.GRUCell, keras.layers.GRUCell, _GRU_CELL_OPTIONS, gru, states=1),
    Descriptor(ours.SLSTMCell, None, {**_RNN_CELL_OPTIONS, "heads": 5}, slstm, states=4, positive=(2,)),
]
#: Those that Keras has, too.
TWINS = [row for row in LAYERS if row.keras_class]


def randomise(layer: Any, rng: np.random.Generator) -> None:
    """Give a built layer weights in which any two columns, and any two gates, differ; biases too."""
    layer.set_weights([rng.normal(scale=0.5, size=w.shape).astype("float32") for w in layer.get_weights()])


#: Keras keeps the states of its recurrent layers out of what its JAX trainer carries along; ours warn of it.
NOT_ON_JAX = pytest.mark.skipif(keras.backend.backend() == "jax", reason="Keras' fit and predict drop states on JAX")
