"""Whole models between Keras' recurrent layers and ours: the same graph, names, state and training."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping

import keras

from keras_lstm_custom.cells.as_ours import OURS
from keras_lstm_custom.cells.equations_of import lost_by_rebuilding
from keras_lstm_custom.errors import ConversionError
from keras_lstm_custom.layers.gru import GRU
from keras_lstm_custom.layers.lstm import LSTM
from keras_lstm_custom.layers.recurrent import OWN_OPTIONS
from keras_lstm_custom.layers.vanilla_rnn import VanillaRNN
from keras_lstm_custom.models.live import address
from keras_lstm_custom.models.masks import may_mask, unrolled_differs
from keras_lstm_custom.models.rebuild import plain_graph, rebuild
from keras_lstm_custom.models.walk import cells_of, described, outermost, recurrent_layers, walk
from keras_lstm_custom.options import own_options

#: The layers that Keras has, too.
_LAYERS = (GRU, LSTM, VanillaRNN)
#: Ours and Keras', class by class.
COUNTERPARTS: dict[type, type] = {
    **{layer: layer.keras_class for layer in _LAYERS},
    **{ours: theirs for theirs, ours in OURS.items()},
}
_EXCHANGED = {*COUNTERPARTS, *COUNTERPARTS.values()}
#: The cells that Keras' layers make for themselves.
CELLS: dict[type, type] = {layer.keras_class: layer.cell_class.keras_class for layer in _LAYERS}


def from_keras(model: keras.Model) -> keras.Model:
    """Return a copy of `model` with Keras' LSTM and SimpleRNN layers and cells replaced by ours.

    Layers inside `Bidirectional`, `TimeDistributed`, `RNN`, `StackedRNNCells` and nested models are
    replaced too. All else is kept: graph, names, weights, what layers were adapted to, seeds, states,
    frozen layers, the compiled loss and metrics, and the optimizer with its state. Predictions and the
    next training step are the same, and the two models share nothing that training changes. Custom
    classes and functions need not be registered.

    A layer of Keras that a custom layer makes in its own code stays as it is, and a warning names it.
    So does a warning where the two would differ: Keras' own unrolled loops treat masks in another way
    than its other loops, which are those that our layers agree with.

    Args:
        model: a built Sequential or functional model; it is left as it is.

    Returns:
        A new model of the same kind.

    Raises:
        ConversionError: the model is subclassed, is not built, or holds a layer that cannot be made
            from its configuration.
    """
    return _convert(model, {theirs: ours for ours, theirs in COUNTERPARTS.items()})


def to_keras(model: keras.Model) -> keras.Model:
    """Return a copy of `model` with our layers and cells replaced by Keras' own; the inverse of `from_keras`.

    The options `engine` and `checkpoint_every` have no counterpart and are dropped. Others that Keras does not have
    (`peepholes`, say) change what is computed, and are refused.

    Args:
        model: a built Sequential or functional model; it is left as it is.

    Returns:
        A new model of the same kind.

    Raises:
        ConversionError: the model is subclassed, is not built, or holds a layer that cannot be made
            from its configuration, or that uses an option Keras does not have.
    """
    return _convert(model, COUNTERPARTS)


def keras_graph(model: keras.Model, rewrite: Callable[[dict], dict] | None = None) -> keras.Model:
    """Return a copy of a model's graph with Keras' layers in place of ours, not compiled: what an export starts from.

    What has no counterpart in Keras stays, and runs by the reference engine, whose ops are TensorFlow's own.

    Args:
        model: a built Sequential or functional model, or one of a functional subclass, whose class is left out.
        rewrite: applied to the serialised form of every object in it, as in `rebuild`.

    Raises:
        ConversionError: as `to_keras`.
    """
    _check_unchanged(model)
    exchanged = _exchange(COUNTERPARTS, keeping=True)
    return rebuild(plain_graph(model), exchanged if rewrite is None else lambda entry: rewrite(exchanged(entry)))


def _exchange(counterparts: dict[type, type], *, keeping: bool = False) -> Callable[[dict], dict]:
    """Return a rewrite that turns objects of each class into objects of its counterpart.

    Args:
        counterparts: class by class.
        keeping: whether what has options without a counterpart stays as it is, with the reference engine; else it
            raises `ConversionError`.
    """
    table = {_identity(_address(source)): target for source, target in counterparts.items()}

    def rewrite(entry: dict) -> dict:
        target = table.get(_identity(entry))
        config = entry["config"]
        if target is None:
            return _by_reference(entry) if keeping else entry
        if target in COUNTERPARTS.values():
            source = next(ours for ours, theirs in COUNTERPARTS.items() if theirs is target)
            of_cell = own_options(getattr(source, "cell_class", source))
            if keeping and _used(config, of_cell):
                return _by_reference(entry)
            config = _without_own_options(config, of_cell)
        return {**entry, **_address(target), "config": config}

    return rewrite


def _without_own_options(config: dict, of_cell: Mapping[str, inspect.Parameter]) -> dict:
    """Return the configuration without what Keras' counterpart does not take; that must change nothing it computes."""
    used = _used(config, of_cell)
    if used:
        raise ConversionError(
            f"{config['name']!r} has no counterpart in Keras.",
            expected="a layer without options that keras.layers does not have",
            received=", ".join(f"{name}={value!r}" for name, value in used.items()),
            remedy="Keep the layer of keras_lstm_custom: saving, tracing and export take it as it is.",
        )
    return {name: value for name, value in config.items() if name not in (*OWN_OPTIONS, *of_cell)}


def _used(config: dict, of_cell: Mapping[str, inspect.Parameter]) -> dict:
    return {name: config[name] for name, p in of_cell.items() if config.get(name, p.default) != p.default}


def _by_reference(entry: dict) -> dict:
    """Let a layer of ours run by the reference engine."""
    config = entry["config"]
    if not isinstance(config, dict) or not config.keys() >= set(OWN_OPTIONS):
        return entry
    return {**entry, "config": {**config, "engine": "reference", "checkpoint_every": None}}


def _convert(model: keras.Model, counterparts: dict[type, type]) -> keras.Model:
    _check_unchanged(model)
    copy = rebuild(model, _exchange(counterparts), training=True)
    kept = outermost({place: layer for place, layer in walk(copy) if type(layer) in counterparts})
    if kept:
        warnings.warn(
            f"Left as they are: {described(kept)}. A layer around them makes them in its own code, "
            "where they can be replaced.",
            stacklevel=3,
        )
    _tell_of_unrolled(model, stacklevel=4)
    return copy


def _tell_of_unrolled(model: keras.Model, stacklevel: int) -> None:
    unrolled = {place: layer for place, layer in recurrent_layers(model).items() if unrolled_differs(layer)}
    unrolled = {place: layer for place, layer in unrolled.items() if type(layer) in _EXCHANGED}
    if unrolled and may_mask(model):
        warnings.warn(
            f"With a mask the two models differ in {described(unrolled)}: with unroll=True, Keras' own loop treats it "
            "in another way than with unroll=False, which is what our layers agree with.",
            stacklevel=stacklevel,
        )


def _address(keras_class: type) -> dict:
    """Return the part of a serialised object that says which class it is."""
    if keras_class in COUNTERPARTS:
        return address(keras_class)
    return {"module": "keras.layers", "class_name": keras_class.__name__, "registered_name": None}


def _identity(entry: dict) -> tuple:
    return entry.get("registered_name") or (entry.get("module"), entry.get("class_name"))


def _check_unchanged(model: keras.Model) -> None:
    """Raise `ConversionError` if a layer or cell computes what its configuration does not say."""
    for layer in recurrent_layers(model).values() if isinstance(model, keras.Model) else ():
        for part in (layer, *cells_of(layer)):
            lost = lost_by_rebuilding(part)
            cell_class = CELLS.get(type(part)) or getattr(part, "cell_class", None)
            if cell_class is not None and type(part.cell) is not cell_class:
                lost = [f"cell ({type(part.cell).__name__})"]
            if lost:
                raise ConversionError(
                    f"{part.name!r} was changed after it was made, and a copy of the model would not have the change.",
                    expected="layers and cells that compute what their class says",
                    received=f"{type(part).__name__} with its own {' and '.join(lost)}",
                    remedy="Write a subclass that overrides the method (or names the `cell_class`), and register it "
                    "with keras.saving.register_keras_serializable.",
                )
