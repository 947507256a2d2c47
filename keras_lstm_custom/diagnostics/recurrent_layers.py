"""Find the recurrent layers of a model, name them by where they are, and make them all run through our engines."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
from keras import ops, tree

from keras_lstm_custom.cells import LSTMCell, VanillaRNNCell
from keras_lstm_custom.cells.base import EquationCell
from keras_lstm_custom.cells.equations_of import has_own_call
from keras_lstm_custom.engines import Request, registry
from keras_lstm_custom.errors import ArgumentError, InputError
from keras_lstm_custom.keras_hooks import EngineRNN
from keras_lstm_custom.layers.convert import from_keras, rebuild
from keras_lstm_custom.layers.recurrent import Recurrent

KERAS_LAYERS = (keras.layers.LSTM, keras.layers.SimpleRNN)
TRACED = {cell.kind: cell.step_type for cell in (LSTMCell, VanillaRNNCell)}  #: what a trace has a place for
KNOWN_CELLS = (keras.layers.LSTMCell, keras.layers.SimpleRNNCell, LSTMCell, VanillaRNNCell)


def recurrent_layers(model: keras.Model) -> dict[str, keras.layers.RNN]:
    """Return every layer of `model` that is a `keras.layers.RNN`, ours or not, by its place in the model."""
    return {path: layer for path, layer in _walk(model, "", set()) if isinstance(layer, keras.layers.RNN)}


def cells(model: keras.Model) -> dict[str, Any]:
    """Return the cells whose equations are known, by the name of their layer.

    The cells of a `StackedRNNCells` are named one by one: "rnn/lstm_cell", "rnn/lstm_cell_1".
    """
    found: dict[str, Any] = {}
    for path, layer in recurrent_layers(model).items():
        if not _is_known(layer):
            continue
        stack = getattr(layer.cell, "cells", None)
        for cell in stack or [layer.cell]:
            found[_unique(f"{path}/{cell.name}" if stack else path, found)] = cell
    return found


@dataclass(frozen=True)
class Observable:
    """A model whose recurrent layers all reach the registry: the one given, or a copy of it."""

    source: keras.Model
    model: keras.Model
    names: dict[int, str]  #: of each cell, by its `id`

    def name_of(self, cell: EquationCell) -> str:
        """Return the name of the cell's layer; one that no attribute of the model leads to goes by its own path."""
        return self.names.get(id(cell)) or cell.path or cell.name

    def refresh(self) -> None:
        """Bring weights and kept states of a copy up to those of its source."""
        if self.model is not self.source:
            self.model.set_weights(self.source.get_weights())
            _copy_states(self.source, self.model)


def observable(model: keras.Model) -> Observable:
    """Return `model` in a form that a recorder can watch.

    A model whose recurrent layers are ours is watched as it is, subclassed or not. If some are
    Keras' own, a copy with ours in their place is watched instead.

    Raises:
        ArgumentError: `model` is not a Keras model, or has no recurrent layer that can be watched.
        InputError: the model has no weights yet.
        ConversionError: the model holds Keras' own recurrent layers and cannot be copied, because it
            is subclassed or holds what cannot be serialised.
    """
    _check(model)
    layers = recurrent_layers(model)
    unknown = {path: layer for path, layer in layers.items() if not _is_known(layer)}
    if len(unknown) == len(layers):
        raise ArgumentError(
            f"The model {model.name!r} has no recurrent layer to look into.",
            expected="LSTM or vanilla RNN layers, of keras_lstm_custom or of keras.layers",
            received=_describe(unknown) or "no recurrent layer at all",
            remedy="Pass the model that holds the recurrent layers; layers kept outside a model's attributes are "
            "not found.",
        )
    if unknown:
        warnings.warn(f"Not looked into, because their equations are not known: {_describe(unknown)}.", stacklevel=3)
    known = [layer for path, layer in layers.items() if path not in unknown]
    copy = model
    if not all(isinstance(layer, Recurrent) for layer in known):
        copy = rebuild(from_keras(model), _watch_cells)
        _copy_states(model, copy)
    return Observable(model, copy, {id(cell): name for name, cell in cells(copy).items()})


def selection(layers: str | Sequence[str] | None, watched: Observable) -> Callable[[str], bool]:
    """Return a function that says whether the layer of a name was asked for; None asks for all.

    Raises:
        ArgumentError: there is no layer of a name asked for.
    """
    if layers is None:
        return lambda name: True
    asked = [layers] if isinstance(layers, str) else list(layers)
    known = list(watched.names.values())

    def within(name: str, outer: str) -> bool:
        return name == outer or name.startswith(f"{outer}/")

    for outer in asked:
        if not any(within(name, outer) for name in known):
            raise ArgumentError(
                "There is no recurrent layer of that name in the model.",
                expected=", ".join(map(repr, known)),
                received=repr(outer),
                remedy="Use one of the names above, or the name of a model or wrapper around them.",
            )
    return lambda name: any(within(name, outer) for outer in asked)


@keras.saving.register_keras_serializable(package="keras_lstm_custom.diagnostics")
class WatchedRNN(EngineRNN):
    """`keras.layers.RNN` over cells of ours, one request for each cell.

    Within a stack no cell looks at the later ones, so running each over all steps in turn computes the same.
    """

    def run_loop(self, sequences, initial_state, mask, training):
        stack = getattr(self.cell, "cells", None)
        states = initial_state if stack else [initial_state]
        new_states = []
        cells = stack or [self.cell]
        for cell, state in zip(cells, states, strict=True):
            whole = self.return_sequences or cell is not cells[-1]
            result = registry.run(registry.AUTO, self._request(cell, sequences, tree.flatten(state), mask, whole))
            new_states.append(result.state)
            sequences = ops.flip(result.outputs, axis=1) if self.go_backwards else result.outputs
        return result.last_output, result.outputs, new_states if stack else new_states[0]

    def _request(self, cell, sequences, state, mask, whole) -> Request:
        return Request(
            cell=cell,
            sequences=sequences,
            initial_state=state,
            mask=mask,
            go_backwards=self.go_backwards,
            unroll=self.unroll,
            return_sequences=whole,
            zero_output_for_mask=self.zero_output_for_mask,
            stateful=self.stateful,
        )


def can_look_into(cell: EquationCell) -> bool:
    """Say whether what a step of the cell computes stands in its `step`, and has a place in a trace."""
    return not has_own_call(cell) and cell.step_type is TRACED.get(cell.kind)


def _watch_cells(entry: dict) -> dict:
    """Rewrite a serialised `keras.layers.RNN` over known cells into a `WatchedRNN`."""
    if (entry.get("module"), entry.get("class_name")) != ("keras.layers", "RNN"):
        return entry
    stack = entry["config"]["cell"]["config"].get("cells", [entry["config"]["cell"]])
    ours = {keras.saving.get_registered_name(cell) for cell in (LSTMCell, VanillaRNNCell)}
    if not all(cell.get("registered_name") in ours for cell in stack):
        return entry
    name = keras.saving.get_registered_name(WatchedRNN)
    return {**entry, "module": WatchedRNN.__module__, "class_name": "WatchedRNN", "registered_name": name}


def _is_known(layer: keras.layers.RNN) -> bool:
    """Say whether the layer is ours, or Keras' own (not a subclass) over cells whose equations are ours."""
    if isinstance(layer, Recurrent):
        return can_look_into(layer.cell)
    if type(layer) in KERAS_LAYERS:
        return True
    stack = getattr(layer.cell, "cells", [layer.cell])
    if isinstance(layer, WatchedRNN):
        return all(isinstance(cell, EquationCell) for cell in stack)
    return type(layer) is keras.layers.RNN and all(type(cell) in KNOWN_CELLS for cell in stack)


def _walk(layer: Any, path: str, seen: set[int]) -> Iterator[tuple[str, keras.Layer]]:
    """Yield every layer inside `layer` once, with the names on the way to it joined by "/"."""
    children = layer.layers if isinstance(layer, keras.Model) else tree.flatten(vars(layer))
    taken: set[str] = set()
    for child in children:
        if not isinstance(child, keras.Layer) or id(child) in seen:
            continue
        seen.add(id(child))
        child_path = _unique(f"{path}/{child.name}" if path else child.name, taken)
        taken.add(child_path)
        yield child_path, child
        yield from _walk(child, child_path, seen)


def _unique(name: str, taken: Any) -> str:
    numbered = (f"{name}_{number}" for number in range(1, len(taken) + 2))
    return name if name not in taken else next(other for other in numbered if other not in taken)


def _copy_states(source: keras.Model, target: keras.Model) -> None:
    """Copy what stateful layers keep between calls; Keras does not count it among the weights."""
    copies = recurrent_layers(target)
    for path, layer in recurrent_layers(source).items():
        if layer.stateful:
            for kept, original in zip(tree.flatten(copies[path].states), tree.flatten(layer.states), strict=True):
                kept.assign(original.value)


def _describe(layers: dict[str, keras.layers.RNN]) -> str:
    return ", ".join(f"{path!r} ({type(layer).__name__} of {layer.cell.name})" for path, layer in layers.items())


def _check(model: Any) -> None:
    if not isinstance(model, keras.Model):
        raise ArgumentError(
            "Only a Keras model can be looked into.",
            expected="a keras.Model",
            received=type(model).__name__,
            remedy="Wrap a single layer: keras.Sequential([keras.Input((timesteps, features)), layer]).",
        )
    if not model.built or not model.weights:
        raise InputError(
            f"The model {model.name!r} has no weights yet.",
            expected="a built model",
            received="an unbuilt one",
            remedy="Give it an Input, or call it once on data.",
        )
