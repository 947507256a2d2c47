"""The table of descriptors leaves nothing out."""

import inspect

import keras
import pytest

import keras_lstm_custom as ours
from keras_lstm_custom.layers.recurrent import OWN_OPTIONS
from keras_lstm_custom.options import own_options
from tests.descriptors import CELLS, LAYERS, UNITS

#: The bases of cells of one's own: what they are without a subclass is nothing.
BASES = {ours.Recurrent, ours.RecurrentCell}
WITH_TWIN = pytest.mark.parametrize("row", [row for row in LAYERS + CELLS if row.keras_class], ids=lambda row: row.name)
ROWS = pytest.mark.parametrize("row", LAYERS + CELLS, ids=lambda row: row.name)


def test_every_public_class_has_a_row():
    public = {getattr(ours, name) for name in ours.__all__ if isinstance(getattr(ours, name), type)}
    layers = {cls for cls in public if issubclass(cls, keras.layers.Layer)}
    assert layers - BASES == {row.public_class for row in LAYERS + CELLS}


@ROWS
def test_every_argument_has_a_value_that_is_not_the_default(row):
    parameters = inspect.signature(row.public_class).parameters
    assert set(parameters) - {"units", "kwargs"} <= set(row.options)
    for name, parameter in parameters.items():
        if name not in ("units", "kwargs"):
            assert row.options[name] != parameter.default, name


@WITH_TWIN
def test_arguments_are_those_of_keras_in_the_same_order(row):
    mine, keras_own = (list(inspect.signature(cls).parameters) for cls in (row.public_class, row.keras_class))
    own = {*OWN_OPTIONS, *own_options(getattr(row.public_class, "cell_class", row.public_class))}
    assert [name for name in mine if name not in own] == keras_own


@WITH_TWIN
def test_positional_arguments_mean_what_they_mean_in_keras(row):
    positional = ["tanh", "sigmoid"] if "recurrent_activation" in row.options else ["relu", False]
    mine = row.public_class(UNITS, *positional).get_config()
    theirs = row.keras_class(UNITS, *positional).get_config()
    shared = set(mine) & set(theirs) - {"name"}
    assert {key: mine[key] for key in shared} == {key: theirs[key] for key in shared}
