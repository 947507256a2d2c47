"""The undocumented parts of Keras, TensorFlow and torch this package stands on; there are thirteen, all in this file.

1. `keras.layers.RNN.inner_loop`: Keras' loop over time. `EngineRNN` overrides it, so that masks,
   states, `stateful` and `go_backwards` stay Keras' own and only the loop is ours;
   `loop_over_time` calls Keras' original for the reference engine; `diverted` puts another in its
   place for a while, in layers that are not ours, and `replace_loop` for good, in copies.
2. `get_dropout_mask` / `get_recurrent_dropout_mask` of Keras' recurrent cells: one mask for each
   call of the layer, drawn before the loop starts.
3. `dropout_mask_count` of these cells: whether that is one mask, or one for each gate.
4. `_compile_config` of a model: the arguments of `compile` as they were given. The public
   `get_compile_config` has their configurations, which lose what was not registered, and Huber's delta.
5. `_trainable_variables` of an optimizer: which variables it was built for, a layer that was frozen since
   among them; and `_use_weight_decay`: which of them `exclude_from_weight_decay` left out.
6. The names of the functions in which Keras' TensorFlow trainer calls a model: their graphs are in no SavedModel.
7. `could_possibly_record` and `stop_recording` of TensorFlow's `eager.record`: whether a gradient tape is open, and
   how what has a gradient of its own is kept off it.
8. `pack_tangents` of TensorFlow's `eager.forwardprop_util`: whether forward mode follows a tensor.
9. In files of weights Keras names a layer after its class (`saving_lib`), and tells the layer where it reads.
10. `Layer.__call__` looks up `call` on the layer itself, so that one layer's may be replaced for a while
   (`methods_replaced`).
11. `_are_functorch_transforms_active` of `torch._C`: whether a transform of `torch.func` (jvp, vmap, ...) runs.
12. `_schema` of an operation of `torch.ops`: whether it changes a tensor in place, and gives new ones.
13. `_thnn_fused_lstm_cell` and `_thnn_fused_lstm_cell_backward_impl` of `torch.ops.aten`: the kernels behind
   `torch.nn.LSTMCell` on a GPU.

`tests/test_keras_hooks.py` fails with the name of the hook when Keras changes one.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from importlib import import_module
from threading import Lock
from typing import Any, NamedTuple

import keras
from keras import ops

from keras_lstm_custom.equations.projection import DropoutMask
from keras_lstm_custom.structures import Tensor


class DropoutMasks(NamedTuple):
    """Masks for one call of a layer, each as `equations.project` takes it."""

    inputs: DropoutMask = None
    recurrent: DropoutMask = None


NO_DROPOUT = DropoutMasks()


def dropout_masks(cell: Any, x_t: Tensor, h: Tensor, training: bool) -> DropoutMasks:
    """Return the masks of `cell` for this call: drawn at its first step, the same at every later one.

    Args:
        cell: a Keras recurrent cell.
        x_t: `(batch, features)`, the input of any one step.
        h: `(batch, units)`.
        training: no mask is drawn outside training.
    """
    if not training:
        return NO_DROPOUT
    return DropoutMasks(
        inputs=cell.get_dropout_mask(x_t) if 0 < cell.dropout < 1 else None,
        recurrent=cell.get_recurrent_dropout_mask(h) if 0 < cell.recurrent_dropout < 1 else None,
    )


def symbolic_dropout_masks(cell: Any, x_shape: tuple, h_shape: tuple, training: bool) -> DropoutMasks:
    """Return `keras.KerasTensor`s in place of the masks that `dropout_masks` would draw."""

    def masks(rate, shape):
        if not (training and 0 < rate < 1):
            return None
        mask = keras.KerasTensor(shape, cell.compute_dtype)
        count = getattr(cell, "dropout_mask_count", None)
        return mask if count is None else [mask] * count

    return DropoutMasks(masks(cell.dropout, x_shape), masks(cell.recurrent_dropout, h_shape))


def compile_arguments(model: keras.Model) -> dict[str, Any]:
    """Return what a compiled model was compiled with, the very objects, but what its attributes say since."""
    changeable = ("run_eagerly", "steps_per_execution", "jit_compile")
    given = model._compile_config.config
    since = {name: getattr(model, name) for name in changeable}
    return {**given, **since, "loss": getattr(model, "loss", None)}  # a loss outlives a `compile` without one


def optimized_variables(optimizer: keras.optimizers.Optimizer) -> list[Any]:
    """Return the variables that an optimizer was built for, in its order."""
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)  # a LossScaleOptimizer has the list since Keras 3.11
    return list(optimizer._trainable_variables)


def undecayed_variables(optimizer: keras.optimizers.Optimizer) -> list[Any]:
    """Return those of the variables an optimizer was built for that `exclude_from_weight_decay` named."""
    return [variable for variable in optimizer._trainable_variables if not optimizer._use_weight_decay(variable)]


#: The functions of Keras' TensorFlow trainer around `train_step`, `test_step` and `predict_step`.
TRAINER_FUNCTIONS = frozenset(
    ("one_step_on_data", "multi_step_on_iterator", "one_step_on_data_distributed", "multi_step_on_data")
)


def inside_trainer() -> bool:
    """Return whether the TensorFlow graph under construction is part of Keras' fit, evaluate or predict."""
    import tensorflow as tf

    graph = None if tf.executing_eagerly() else tf.compat.v1.get_default_graph()
    while graph is not None:
        if getattr(graph, "name", None) in TRAINER_FUNCTIONS:
            return True
        graph = getattr(graph, "outer_graph", None)
    return False


def recording_gradients() -> bool:
    """Return whether a `tf.GradientTape` is open."""
    return import_module("tensorflow.python.eager.record").could_possibly_record()


def unrecorded() -> AbstractContextManager:
    """Return a context in which no tape and no forward accumulator sees what TensorFlow computes."""
    return import_module("tensorflow.python.eager.record").stop_recording()


def has_tangents(tensors: list[Tensor]) -> bool:
    """Return whether a `tf.autodiff.ForwardAccumulator` follows one of these tensors or variables."""
    watched = [getattr(t, "handle", t) for t in tensors if not isinstance(t, keras.KerasTensor)]
    return bool(import_module("tensorflow.python.eager.forwardprop_util").pack_tangents(watched).tangents)


def inside_torch_func() -> bool:
    """Return whether a transform of `torch.func` runs."""
    import torch

    return not torch.compiler.is_compiling() and torch._C._are_functorch_transforms_active()


def changes_in_place(operation: Any) -> bool:
    """Return whether this is an operation of `torch.ops` that changes what it is given."""
    schema = getattr(operation, "_schema", None)
    return schema is not None and schema.is_mutable


def gives_new_tensors(operation: Any) -> bool:
    """Return whether this is an operation of `torch.ops` whose results share nothing with what it is given."""
    schema = getattr(operation, "_schema", None)
    return schema is not None and all(result.alias_info is None for result in schema.returns)


def fused_lstm_kernels() -> tuple[Any, Any]:
    """Return torch's kernels of an LSTM's step, forward and backward; None for one that this torch does not have."""
    import torch

    names = ("_thnn_fused_lstm_cell", "_thnn_fused_lstm_cell_backward_impl")
    return getattr(torch.ops.aten, names[0], None), getattr(torch.ops.aten, names[1], None)


class EngineRNN(keras.layers.RNN):
    """A `keras.layers.RNN` whose loop over time is `run_loop`."""

    def run_loop(
        self, sequences: Tensor, initial_state: list[Tensor], mask: Tensor | None, training: bool
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Return the last output, all outputs and the final state. Subclasses write this."""
        raise NotImplementedError

    def inner_loop(self, sequences, initial_state, mask, training=False):
        return self.run_loop(sequences, list(initial_state), mask, bool(training))


#: Takes sequences, initial state, mask and training; returns the last output, all outputs and the final state.
Loop = Callable[[Tensor, list[Tensor], Tensor | None, bool], tuple[Tensor, Tensor, list[Tensor]]]

_KERAS_LOOPS = {
    getattr(keras.layers, name).inner_loop for name in ("RNN", "LSTM", "SimpleRNN", "GRU")
}  #: what a layer calls that does not bring a loop of its own
_diverted: ContextVar[Mapping[int, Loop] | None] = ContextVar("diverted", default=None)
_diversions: Counter[int] = Counter()  #: how many open `diverted` blocks, in all threads, want each layer
_diverting = Lock()


def has_keras_loop(layer: keras.layers.RNN) -> bool:
    """Say whether a layer runs its cell by one of Keras' own loops over time."""
    return type(layer).inner_loop in _KERAS_LOOPS


def runs_its_cell(layer: keras.layers.RNN) -> bool:
    """Say whether a layer is a loop over the steps of its cell and nothing else: by a loop of Keras, or an engine."""
    return has_keras_loop(layer) or type(layer).inner_loop is EngineRNN.inner_loop


@contextmanager
def diverted(loops: list[tuple[keras.layers.RNN, Loop]]) -> Iterator[None]:
    """Let each of the layers run its cell by the loop given for it, inside the block and for this thread only."""
    token = _diverted.set({**(_diverted.get() or {}), **{id(layer): loop for layer, loop in loops}})
    with _diverting:
        for layer, _ in loops:
            _diversions[id(layer)] += 1
            vars(layer).setdefault("inner_loop", _diversion(layer))
    try:
        yield
    finally:
        with _diverting:
            for layer, _ in loops:
                _diversions[id(layer)] -= 1
                if not _diversions[id(layer)]:
                    del vars(layer)["inner_loop"], _diversions[id(layer)]
        _diverted.reset(token)


def _diversion(layer: keras.layers.RNN) -> Callable:
    def inner_loop(sequences, initial_state, mask, training=False):
        loop = (_diverted.get() or {}).get(id(layer))
        if loop is None:  # another thread's call
            return type(layer).inner_loop(layer, sequences, initial_state, mask, training)
        return loop(sequences, list(initial_state), mask, bool(training))

    return inner_loop


#: The names under which earlier versions stored a class of ours, by the name that Keras' counterpart has in files.
_EARLIER_NAMES: dict[str, str] = {}


def stored_as(ours: type, keras_class: type) -> str:
    """Return the name that `ours` must have, so that files of weights fit it and `keras_class` alike."""
    _EARLIER_NAMES[_snake_case(keras_class.__name__)] = _snake_case(ours.__name__)
    return keras_class.__name__


def name_for(layer_class: type) -> str | None:
    """Return a fresh default name for a layer of a class that is not called what it is named in Python, else None."""
    own = layer_class.__qualname__.rpartition(".")[2]
    if layer_class.__name__ == own:
        return None
    prefix = _snake_case(own)
    count = keras.backend.get_uid(prefix)
    return prefix if count == 1 else f"{prefix}_{count - 1}"


def entry_of(store: Any) -> Any:
    """Return what a file of weights holds for a layer; under the name of an earlier version if there is no other."""
    path = getattr(store, "_h5_entry_path", None)
    if not path or len(store):
        return store
    for name in sorted(_EARLIER_NAMES, key=len, reverse=True):  # "simple_rnn_cell" before "simple_rnn"
        path = re.sub(rf"(^|/){name}(?=(_\d+)?(/|$))", rf"\g<1>{_EARLIER_NAMES[name]}", path)
    return store.get(path)


def _snake_case(name: str) -> str:
    """Return a class name as Keras writes it in names of layers."""
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def replace_loop(layer: Any, loop: Callable) -> None:
    """Let one `keras.layers.RNN` run `loop(sequences, initial_state, mask, training)` in place of Keras' own loop.

    `loop` takes its arguments by these names and returns the last output, all outputs and the final states.
    """
    layer.inner_loop = loop


class _StepCell:
    """The least that `keras.layers.RNN` accepts as a cell: a function of input and states."""

    def __init__(self, step: Callable, state_size: list[int]):
        self.call = step
        self.state_size = state_size

    def __call__(self, inputs, states):
        return self.call(inputs, states)


def loop_over_time(
    step: Callable[[Tensor, list[Tensor]], tuple[Tensor, list[Tensor]]],
    sequences: Tensor,
    initial_state: list[Tensor],
    mask: Tensor | None = None,
    go_backwards: bool = False,
    **options: bool,
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Run `step` over axis 1 of `sequences` by Keras' own generic loop, on every backend.

    Args:
        step: `(x_t, states) -> (output, new states)`.
        sequences: `(batch, timesteps, features)`.
        initial_state: one `(batch, n)` tensor for each state.
        mask: `(batch, timesteps)`, or None. A masked step keeps the state; its output is right after
            the first step that is read, and before that the backend's own matter (`engines.masking`).
        go_backwards: run from the last step to the first; outputs come in the order they were computed.
        **options: `unroll`, `return_sequences`, `stateful` and `zero_output_for_mask` (which JAX's unrolled
            loop does not look at) of `keras.layers.RNN`.

    Returns:
        The last output, all outputs and the final states.
    """
    if go_backwards:  # not left to Keras: unrolled, it loses track of the mask (torch: it fails)
        sequences = ops.flip(sequences, axis=1)
        mask = None if mask is None else ops.flip(mask, axis=1)
    cell = _StepCell(step, [state.shape[-1] for state in initial_state])
    loop = keras.layers.RNN(cell, name="loop_over_time", **options)
    last_output, outputs, states = loop.inner_loop(sequences, initial_state, mask)
    return last_output, outputs, list(states)


@contextmanager
def methods_replaced(replacements: list[tuple[keras.Layer, str, Callable]]) -> Iterator[None]:
    """Let layers use other functions in place of their methods inside the block.

    Args:
        replacements: layer, name of the method (`call`), and the function, which takes what
            the bound method takes.
    """
    before = [vars(layer).get(name) for layer, name, _ in replacements]
    for layer, name, function in replacements:
        vars(layer)[name] = function  # past Keras' own `__setattr__`, which has nothing to track here
    try:
        yield
    finally:
        for (layer, name, _), own in zip(replacements, before, strict=True):
            if own is None:
                del vars(layer)[name]
            else:
                vars(layer)[name] = own
