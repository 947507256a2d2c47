"""The recurrent layers of a live model, named by where they are, and all run by our engines while it is watched."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras
from keras import ops, tree

from keras_lstm_custom.cells.as_ours import as_ours
from keras_lstm_custom.cells.base import EquationCell
from keras_lstm_custom.cells.equations_of import has_own_call
from keras_lstm_custom.engines import Request, registry
from keras_lstm_custom.engines.recording import Recorder, recording
from keras_lstm_custom.errors import ArgumentError, InputError
from keras_lstm_custom.keras_hooks import Loop, diverted, has_keras_loop
from keras_lstm_custom.layers.recurrent import Recurrent
from keras_lstm_custom.models.masks import unrolled_differs
from keras_lstm_custom.models.walk import cells_of, recurrent_layers, unique


def cells(model: keras.Model) -> dict[str, Any]:
    """Return the cells whose equations are known, by the name of their layer.

    The cells of a `StackedRNNCells` are named one by one: "rnn/lstm_cell", "rnn/lstm_cell_1".
    """
    found: dict[str, Any] = {}
    for place, layer in recurrent_layers(model).items():
        if not _is_known(layer):
            continue
        is_stack = hasattr(layer.cell, "cells")
        for cell in cells_of(layer):
            found[unique(f"{place}/{cell.name}" if is_stack else place, found)] = cell
    return found


@dataclass(frozen=True)
class Observable:
    """A live model whose recurrent layers can be watched; nothing of it is copied or changed."""

    model: keras.Model
    names: dict[int, str]  #: of each cell's layer, by the `id` of what its requests hold
    loops: list[tuple[keras.layers.RNN, Loop]]  #: of the layers that are not ours, through the registry

    def name_of(self, cell: EquationCell) -> str:
        """Return the name of the cell's layer; one that no attribute of the model leads to goes by its own path."""
        return self.names.get(id(cell)) or cell.path or cell.name

    @contextmanager
    def watched_by(self, recorder: Recorder) -> Iterator[keras.StatelessScope]:
        """Let `recorder` serve every call of the recurrent layers inside the block, in which no variable changes."""
        # Regularisers ask the scope for their weights. Losses are collected, so that `model.losses` are those of the
        # call in the block.
        weights = [(v, ops.convert_to_tensor(v)) for v in self.model.trainable_variables if v.regularizer is not None]
        scope = keras.StatelessScope(state_mapping=weights, collect_losses=True)
        with diverted(self.loops), recording(recorder), scope:
            yield scope


def observable(model: keras.Model) -> Observable:
    """Return `model` in a form that a recorder can watch.

    Layers of `keras.layers` are watched where they are, as ours are: while a recorder is at work, their loop over
    time is the reference engine's. So subclassed models and what a custom layer holds are watched, too.

    Raises:
        ArgumentError: `model` is not a Keras model, or has no recurrent layer that can be watched.
        InputError: the model has no weights yet.
    """
    _check(model)
    layers = recurrent_layers(model)
    unknown = {place: layer for place, layer in layers.items() if not _is_known(layer)}
    if len(unknown) == len(layers):
        raise ArgumentError(
            f"The model {model.name!r} has no recurrent layer to look into.",
            expected="layers of keras_lstm_custom or of `Recurrent`, or LSTM, GRU and SimpleRNN of keras.layers",
            received=_describe(unknown) or "no recurrent layer at all",
            remedy="Pass the model that holds the recurrent layers; layers kept outside a model's attributes are "
            "not found.",
        )
    if unknown:
        warnings.warn(f"Not looked into, because their equations are not known: {_describe(unknown)}.", stacklevel=3)
    names: dict[int, str] = {}
    loops: list[tuple[keras.layers.RNN, Loop]] = []
    by_cell = {id(cell): name for name, cell in cells(model).items()}
    for layer in (layer for place, layer in layers.items() if place not in unknown):
        watched = [as_ours(cell) for cell in cells_of(layer)]
        names |= {id(seen): by_cell[id(cell)] for seen, cell in zip(watched, cells_of(layer), strict=True)}
        if not isinstance(layer, Recurrent):
            loops.append((layer, _loop(layer, watched)))
    return Observable(model, names, loops)


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


def _loop(layer: keras.layers.RNN, watched: list[Any]) -> Loop:
    """Return a loop for a layer of Keras that makes one request for each cell.

    Within a stack no cell looks at the later ones, so running each over all steps in turn computes the same.
    """
    is_stack = hasattr(layer.cell, "cells")

    def run(sequences, initial_state, mask, training):
        _tell_of_unrolled_masks(layer, mask)
        sequences = ops.cast(sequences, layer.compute_dtype)
        new_states = []
        for cell, state in zip(watched, initial_state if is_stack else [initial_state], strict=True):
            request = Request(
                cell=cell,
                sequences=sequences,
                initial_state=tree.flatten(state),
                mask=mask,
                go_backwards=layer.go_backwards,
                unroll=layer.unroll,
                return_sequences=layer.return_sequences or cell is not watched[-1],
                zero_output_for_mask=layer.zero_output_for_mask,
                stateful=layer.stateful,
            )
            result = registry.run(registry.AUTO, request)
            new_states.append(result.state)
            sequences = ops.flip(result.outputs, axis=1) if layer.go_backwards else result.outputs
        return result.last_output, result.outputs, new_states if is_stack else new_states[0]

    return run


def _tell_of_unrolled_masks(layer: keras.layers.RNN, mask: Any) -> None:
    if mask is not None and unrolled_differs(layer):
        warnings.warn(
            f"{layer.name!r} has unroll=True, and Keras' own unrolled loop treats the mask in another way than its "
            "other loop. What is shown is what the layer computes with unroll=False.",
            stacklevel=2,
        )


def can_look_into(cell: EquationCell) -> bool:
    """Say whether what a step of the cell computes stands in its `step`."""
    return not has_own_call(cell)


def _is_known(layer: keras.layers.RNN) -> bool:
    """Say whether the layer is ours, or runs cells whose equations are ours by a loop of Keras' own."""
    if isinstance(layer, Recurrent):
        return can_look_into(layer.cell)
    cells = [as_ours(cell) for cell in cells_of(layer)]
    return has_keras_loop(layer) and all(cell is not None and can_look_into(cell) for cell in cells)


def _describe(layers: dict[str, keras.layers.RNN]) -> str:
    return ", ".join(f"{place!r} ({type(layer).__name__} of {layer.cell.name})" for place, layer in layers.items())


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
