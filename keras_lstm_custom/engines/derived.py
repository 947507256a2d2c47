"""The derived engine: loop and gradient made of a cell's own step by the backend's autodiff. Serves any cell.

What does not depend on the state is taken out of the loops: the products with the inputs come before them, the
gradient of a kernel that the step multiplies by (`equations.project`) is one product after them; a backend may do both
for some steps at a time. Forward, the states and these products are kept; backward, each step is computed again from
them, without its products, and differentiated (torch keeps what its gradient reads, and computes nothing again). So a
cell costs no more than its step says, and its derivative stands nowhere.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from importlib import import_module
from typing import Any
from weakref import WeakKeyDictionary

import keras
from keras import ops, tree

from keras_lstm_custom.cells.equations_of import has_own_call
from keras_lstm_custom.engines import fast_path, halves, masking, no_steps
from keras_lstm_custom.engines.contract import Engine, Request, Result, Support
from keras_lstm_custom.engines.derived_step import settings
from keras_lstm_custom.errors import ArgumentError


def supports(request: Request) -> Support:
    """Serve every cell whose step is a function of its input, its state and its weights."""
    reason = fast_path.loop_refusal(request)
    if reason is None and has_own_call(request.cell):
        reason = f"derives a loop from a cell's `step`, and {type(request.cell).__name__} has a `call` of its own"
    if reason is None and request.cell.built:
        reason = _no_function(request.cell, bool(request.training))
    return Support(False, reason) if reason else Support(True, "loop and gradient derived from the cell's own step")


@no_steps.served
def run(request: Request) -> Result:
    """Run the recurrence, or those of both halves of a batch, where they run side by side."""
    recurrence = import_module(f"keras_lstm_custom.engines.{keras.backend.backend()}.derived").recurrence(request.cell)
    return halves.joined([_run(recurrence, half) for half in halves.of(request)])


def _run(recurrence: Callable, request: Request) -> Result:
    cell = request.cell
    mask = masking.in_running_order(request)
    x = ops.flip(request.sequences, axis=1) if request.go_backwards else request.sequences
    hs, state = recurrence(
        ops.swapaxes(x, 0, 1),
        fast_path.initial_state_of(request),
        [weight.value for weight in cell.weights],
        None if mask is None else ops.transpose(mask)[..., None],
        request.dropout,
    )
    outputs = ops.swapaxes(hs, 0, 1) if request.return_sequences else state[0][:, None]
    return Result(outputs, state, ENGINE.name)


_FOUND: WeakKeyDictionary = WeakKeyDictionary()  #: what `_no_function` found, by cell and whether it trains


def _no_function(cell: Any, training: bool) -> str | None:
    """Return why the step is no function of its arguments, or None: it is run to see, once for a cell and `training`.

    A layer that the step calls (a dropout, say) may draw and set variables in training only.
    """
    found = _FOUND.setdefault(cell, {})
    if training not in found:
        found[training] = _InACall(cell)(training)
    return found[training]


class _InACall(keras.layers.Layer):
    """Tries a step inside the call of a layer, as layers that the step calls ask there whether they train."""

    def __init__(self, cell: Any):
        super().__init__(dtype=cell.dtype_policy, name="is_the_step_a_function")
        self._try = lambda: _tried(cell)
        self._found: str | ArgumentError | None = None

    def __call__(self, training: bool) -> str | None:
        super().__call__(ops.zeros((1,)), training=training)
        if isinstance(self._found, Exception):  # past Keras, which would reword it
            raise self._found
        return self._found

    def call(self, inputs, training=False):
        try:
            self._found = self._try()
        except ArgumentError as error:
            self._found = error
        return inputs


def _tried(cell: Any) -> str | None:
    # The backward loop runs each step again: what it draws at random, say, would not be the same.
    attributes, seen = dict(vars(cell)), dict(settings(cell))
    with _eagerly(cell), keras.StatelessScope(_numbers_for(cell), initialize_variables=False) as scope:
        before = dict(scope.state_mapping)
        x, *state = (
            0.5 * ops.ones((1, n), cell.compute_dtype) for n in (cell.kernel.shape[0], *tree.flatten(cell.state_size))
        )
        try:
            z_x = cell.project_inputs(x)
            runs = [cell.state_of(cell.checked_step(z_x, cell.state_type(*state))) for _ in range(2)]
        except ArgumentError:
            raise
        except Exception as error:
            return f"runs a step outside of Keras' loop, and there it raises {type(error).__name__}: {error}"
        is_same = _are_same(*runs)
    if any(value is not before.get(variable) for variable, value in scope.state_mapping.items()):
        return "runs each step twice, and a step that sets variables (draws at random, say) is not the same then"
    changed = [name for name, value in settings(cell) if seen.get(name) != value]
    if changed:
        _set_back(cell, attributes)
        return f"runs each step twice, and a step that changes attributes ({', '.join(changed)}) is not the same then"
    if not is_same:
        return (
            "runs each step twice, and this one gives other numbers then (it draws at random, counts, or asks a clock)"
        )
    return None


def _numbers_for(cell: Any) -> list[tuple[Any, Any]]:
    """Return numbers for each weight: while Keras builds or loads a model, and in a first `fit`, it has none yet."""
    return [(w, ops.cast(0.5 * ops.ones(w.shape), w.dtype)) for w in cell.weights]


def _are_same(a: Any, b: Any) -> bool:
    """Return whether numbers are equal; those of a function that is being compiled count as equal."""
    both_nan = [ops.logical_and(ops.isnan(p), ops.isnan(q)) for p, q in zip(a, b, strict=True)]
    equal = [ops.logical_or(ops.equal(p, q), nan) for p, q, nan in zip(a, b, both_nan, strict=True)]
    try:
        return all(bool(ops.all(e)) for e in equal)
    except Exception:  # each backend has its own
        return True


def _set_back(cell: Any, attributes: dict[str, Any]) -> None:
    for name in vars(cell).keys() - attributes.keys():
        del vars(cell)[name]
    vars(cell).update(attributes)


def _eagerly(cell: Any) -> Any:
    """Return a context in which numbers are computed, also while a graph is built or Keras works out shapes only."""
    if keras.backend.backend() == "torch":
        with keras.device("cpu"):  # away from "meta", where weights have no numbers either
            device = cell.weights[0].value.device
        return keras.device(str(device))
    if keras.backend.backend() != "tensorflow":
        return nullcontext()
    import tensorflow as tf

    return tf.init_scope()


ENGINE = Engine(
    "derived",
    "loop and gradient derived from the cell's own step",
    supports,
    run,
    graph="xla",
    derivatives="first",
)
