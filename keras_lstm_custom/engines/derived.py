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
from keras_lstm_custom.errors import ArgumentError


def supports(request: Request) -> Support:
    """Serve every cell whose step is a function of its input, its state and its weights."""
    reason = fast_path.loop_refusal(request)
    if reason is None and has_own_call(request.cell):
        reason = f"derives a loop from a cell's `step`, and {type(request.cell).__name__} has a `call` of its own"
    if reason is None and request.cell.built:
        reason = _no_function(request.cell)
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


_FOUND: WeakKeyDictionary = WeakKeyDictionary()  #: what `_no_function` found, by cell


def _no_function(cell: Any) -> str | None:
    """Return why the step is no function of its arguments, or None: one on zeros is run to see, once for a cell."""
    if cell not in _FOUND:
        if not _has_values(cell):
            return None
        _FOUND[cell] = _tried(cell)
    return _FOUND[cell]


def _has_values(cell: Any) -> bool:
    """Return whether the weights can be read; on JAX not while Keras works out the shapes of a model that it loads."""
    try:
        return all(weight.value is not None for weight in cell.weights)
    except TypeError:
        return False


def _tried(cell: Any) -> str | None:
    # The backward loop runs each step again: what it draws at random, say, would not be the same.
    # In JAX's fit and predict only the scope around holds the values of the weights.
    held = [(w, w.value) for w in cell.weights] if keras.backend.backend() == "jax" else None
    with _eagerly(cell), keras.StatelessScope(held, initialize_variables=False) as scope:
        before = dict(scope.state_mapping)
        state = [ops.zeros((1, width), dtype=cell.compute_dtype) for width in tree.flatten(cell.state_size)]
        try:
            z_x = cell.project_inputs(ops.zeros((1, cell.kernel.shape[0]), dtype=cell.compute_dtype))
            cell.checked_step(z_x, cell.state_type(*state))
        except ArgumentError:
            raise
        except Exception as error:
            return f"runs a step outside of Keras' loop, and there it raises {type(error).__name__}: {error}"
    if any(value is not before.get(variable) for variable, value in scope.state_mapping.items()):
        return "runs each step twice, and a step that sets variables (draws at random, say) is not the same then"
    return None


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
