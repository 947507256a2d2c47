"""Which cells are what TFLite's fused LSTM op computes, and how.

The op is more than the LSTM of Keras: it has peepholes, coupled gates, a projection, a layer normalisation of each
gate and clips, as its inputs and options. LiteRT computes them all; the microcontroller runtime has the plain LSTM and
the cell clip alone. There, coupled gates are written as the plain LSTM that they equal.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from keras_lstm_custom.cells.as_ours import as_ours
from keras_lstm_custom.cells.equations_of import changed_methods, unusual_function
from keras_lstm_custom.cells.lstm_form import LSTMForm as FusedLSTM

#: γ of a form that is exact only in the limit (`VanillaRNNCell.lstm_form`): a share of 8e-8, the rounding of float32.
FLOAT_GAIN = 2.0**-11
#: A share of 1e-3, well below what int8 weights cost, with 2^11 steps left of the cell state's int16.
INTEGER_GAIN = 2.0**-4


def as_lstm(name: str, cell: Any, gain: float, variants: bool, integers: bool = False) -> FusedLSTM | None:
    """Return the fused op that computes a cell, or None if there is none.

    Args:
        name: of the layer.
        cell: a cell of Keras or of ours, traced with its weights as constants.
        gain: γ of the form.
        variants: whether the op may have what one runtime alone computes.
        integers: whether the file will compute in integers.
    """
    form = _form(cell, constant, gain)
    if form is None or not _is_fusible(form, variants, integers):
        return None
    form = form if variants else form.with_input_gate()
    return form._replace(name=name)


def is_fusible(cell: Any, variants: bool = True, integers: bool = False) -> bool:
    """Say whether the fused op computes what a cell computes in inference."""
    form = _form(cell, lambda weight: np.zeros(weight.shape, np.float32), FLOAT_GAIN)
    return form is not None and _is_fusible(form, variants, integers)


def _form(cell: Any, values: Callable[[Any], np.ndarray], gain: float) -> FusedLSTM | None:
    ours = as_ours(cell)
    if ours is None or changed_methods(ours) or unusual_function(ours):
        return None
    return ours.lstm_form(values, gain)


def _is_fusible(form: FusedLSTM, variants: bool, integers: bool) -> bool:
    if not variants:
        return not form.peepholes and not form.gammas and form.projection is None
    # LiteRT's integer kernel takes both to be of one size.
    return not (integers and form.peepholes and form.width != form.units)


def constant(variable: Any) -> np.ndarray:
    """Return the values of a weight of a model that is traced with its weights as constants."""
    import tensorflow as tf

    return tf.get_static_value(tf.convert_to_tensor(variable))
