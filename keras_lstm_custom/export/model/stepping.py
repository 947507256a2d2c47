"""A model that runs a few steps at a time, its recurrent state going in and coming out as ordinary tensors."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import keras
import numpy as np

from keras_lstm_custom.cells.as_ours import as_ours
from keras_lstm_custom.errors import ConversionError, ExportError
from keras_lstm_custom.export.model.inputs import sequences
from keras_lstm_custom.export.model.samples import graph_of, made_up, output_names, predictions
from keras_lstm_custom.export.model.stepped_layers import Stepper, calling, refusal, rewriting
from keras_lstm_custom.export.model.unrolled import unroll as unroll_layers
from keras_lstm_custom.export.model.unrolled import unrolled_by_keras
from keras_lstm_custom.layers.convert import keras_graph
from keras_lstm_custom.models.rebuild import rebuild
from keras_lstm_custom.models.walk import walk

#: How far stepping may differ from the whole sequence, relative to the largest output, for a model that can be stepped.
AGREEMENT = 1e-4


class State(NamedTuple):
    """One state tensor of a recurrent layer."""

    name: str  #: "<layer>_h", "<layer>_c", ...
    size: int  #: units


@dataclass(frozen=True)
class StepModel:
    """A model of a few time steps per call, with its states as inputs and outputs.

    `model` takes the original's inputs, then the states; it returns the original's outputs, then the new states,
    in the same order.
    """

    model: keras.Model
    input_names: tuple[str, ...]  #: of the original's inputs
    output_names: tuple[str, ...]  #: of the original's outputs
    states: tuple[State, ...]
    sequences: tuple[bool, ...]  #: for each input of the original: it runs over time
    whole: tuple[bool, ...]  #: for each output: it has a time axis, so that the blocks join to the whole sequence

    def run(self, inputs: Sequence[np.ndarray], steps: int) -> tuple[list[np.ndarray], list[list[np.ndarray]]]:
        """Run whole sequences `steps` at a time from a zero state.

        Returns:
            The original's outputs, and what the model was fed at each call.
        """
        states = [np.zeros((len(inputs[0]), state.size), "float32") for state in self.states]
        blocks, fed = [], []
        for block in blocks_of(inputs, self.sequences, steps):
            fed.append([*block, *states])
            results = [keras.ops.convert_to_numpy(r) for r in self.model(fed[-1], training=False)]
            blocks.append(results[: len(self.whole)])
            states = results[len(self.whole) :]
        return join(blocks, self.whole), fed


def blocks_of(inputs: Sequence[np.ndarray], sequences: Sequence[bool], steps: int) -> list[list[np.ndarray]]:
    """Cut every input that is a sequence into blocks of `steps` time steps; the others go with each block."""
    length = next(array.shape[1] for array, cut in zip(inputs, sequences, strict=True) if cut)
    return [
        [array[:, t : t + steps] if cut else array for array, cut in zip(inputs, sequences, strict=True)]
        for t in range(0, length, steps)
    ]


def join(blocks: Sequence[Sequence[np.ndarray]], whole: Sequence[bool]) -> list[np.ndarray]:
    """Join what came for each block along the time axis; of an output without one the last is the whole's."""
    columns = zip(*blocks, strict=True)
    return [np.concatenate(parts, 1) if has_time else parts[-1] for parts, has_time in zip(columns, whole, strict=True)]


def step_model(
    model: keras.Model, steps: int | None = 1, batch: int | None = None, *, unroll: bool = False
) -> StepModel:
    """Return `model` as one that runs `steps` time steps per call, with its state as inputs and outputs.

    Args:
        model: a built Sequential or functional model.
        steps: time steps of each call; None = any number.
        batch: sequences at once; None = any number.
        unroll: write the steps one after another instead of as a loop.

    Raises:
        ExportError: the model has no recurrent layer, or one that reads backwards, in both directions or from a
            state computed by the model; or stepping does not give the numbers of the whole sequence, since some
            layer looks at several steps at once.
        ConversionError: the model is subclassed or not built.
    """
    original = keras_graph(model)
    _check(original)
    cut = sequences(original)
    if not any(cut):
        raise refusal(original.name, "has no input that runs over time")
    shapes = {tuple(tensor.shape[1:]) for tensor, is_cut in zip(original.inputs, cut, strict=True) if is_cut}
    lengths = {shape[0] for shape in shapes}
    try:
        copy = graph_of(rebuild(original, rewriting(shapes, steps, unroll)))
        if unroll:
            unroll_layers(copy, unrolled_by_keras(model), continues=True)
        states = _states_of(copy, steps)
        inputs = [
            keras.Input(batch_shape=(batch, *tensor.shape[1:]), dtype=tensor.dtype, name=tensor.name)
            for tensor in copy.inputs
        ]
        state_inputs = [keras.Input(batch_shape=(batch, state.size), name=state.name) for state in states]
        outputs = Stepper(copy, len(inputs))([*inputs, *state_inputs])
        stepped = StepModel(
            model=keras.Model([*inputs, *state_inputs], outputs, name=f"{model.name}_step"),
            input_names=tuple(tensor.name for tensor in model.inputs),
            output_names=tuple(output_names(original)),
            states=tuple(states),
            sequences=tuple(cut),
            whole=tuple(len(tensor.shape) > 2 for tensor in outputs[: len(original.outputs)]),
        )
        difference = _difference(original, stepped, lengths, steps or 1)
    except ConversionError as error:  # a layer does not take what comes of a single block
        raise _not_stepwise(original, _cause(error.__cause__)) from error
    if not difference <= AGREEMENT:
        raise _not_stepwise(original, f"outputs with a relative difference of {difference:.2g}")
    return stepped


def _states_of(copy: keras.Model, steps: int | None) -> list[State]:
    """Call the model once and see which states it keeps, in the order of its calls."""
    samples = made_up(copy, rows=1, free_size=steps or 1)
    with calling(None) as calls:
        copy(samples, training=False)
    states: list[State] = []
    for number, (layer, sizes) in enumerate(calls.sizes):
        again = [earlier for earlier, _ in calls.sizes[:number]].count(layer)
        prefix = f"{layer.name}_{again}" if again else layer.name
        symbols = _symbols(layer, len(sizes))
        states += [State(f"{prefix}_{symbol}", size) for symbol, size in zip(symbols, sizes, strict=True)]
    return states


def _symbols(layer: keras.layers.RNN, count: int) -> Sequence[str]:
    """Return what the states of a layer are called, such as h and c; numbers where nothing tells."""
    of_two = {1: ("h",), 2: ("h", "c")}.get(count, tuple(map(str, range(count))))
    cell = as_ours(layer.cell)
    return of_two if cell is None else cell.state_type._fields


def _check(model: keras.Model) -> None:
    """Raise `ExportError` unless the model has recurrent layers, and all of them read forwards."""
    layers = [layer for _, layer in walk(model)]
    recurrent = [layer for layer in layers if isinstance(layer, keras.layers.RNN)]
    if not recurrent:
        raise refusal(model.name, "has no recurrent layer")
    for layer in layers:
        if isinstance(layer, keras.layers.Bidirectional):
            raise refusal(layer.name, "reads in both directions")
        if isinstance(layer, keras.layers.RNN) and layer.go_backwards:
            raise refusal(layer.name, "reads backwards")


def _difference(original: keras.Model, stepped: StepModel, lengths: set, steps: int) -> float:
    """Return how far stepping is from whole sequences, relative to the largest output."""
    length = next((size for size in lengths if size), None)
    if length is not None and length % steps:
        raise ExportError(
            "A whole number of blocks must make a sequence.",
            expected=f"a divisor of {length}, the model's number of timesteps",
            received=f"blocks of {steps}",
            remedy="Choose another number of steps, or leave the model's number of timesteps open.",
        )
    samples = made_up(original, rows=2, free_size=4 * steps)
    expected, (got, _) = predictions(original, samples), stepped.run(samples, steps)
    if [array.shape for array in expected] != [array.shape for array in got]:
        return np.inf
    return max(float(np.max(np.abs(a - b)) / max(np.max(np.abs(a)), 1e-6)) for a, b in zip(expected, got, strict=True))


def _not_stepwise(model: keras.Model, received: str) -> ExportError:
    known = tuple(getattr(keras.layers, name) for name in STEPWISE)
    suspects = [f"{la.name!r} ({type(la).__name__})" for _, la in walk(model) if not isinstance(la, known)]
    return ExportError(
        "The model does not give the same step by step as for a whole sequence"
        + (f"; look at {', '.join(suspects)}." if suspects else "."),
        expected="layers that treat each time step on its own, besides the recurrent ones",
        received=received,
        remedy="Compute what those layers do outside of the exported model, or export it for whole sequences.",
    )


def _cause(error: BaseException | None) -> str:
    """Return what Keras says of a call that failed, without the list of its arguments."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).split("Arguments received by")[0]
    return " ".join(text.split())


#: Layers that treat each time step on its own, so that they are not to blame.
STEPWISE = [
    *("LSTMCell", "SimpleRNNCell", "GRUCell", "StackedRNNCells"),
    *("InputLayer", "LSTM", "SimpleRNN", "GRU", "RNN", "Dense", "TimeDistributed", "Embedding", "Masking", "Dropout"),
    *("Activation", "ReLU", "LeakyReLU", "ELU", "PReLU", "Softmax", "BatchNormalization", "LayerNormalization"),
    *("Concatenate", "Add", "Multiply", "Subtract", "Average", "Maximum", "Rescaling", "Normalization"),
]
