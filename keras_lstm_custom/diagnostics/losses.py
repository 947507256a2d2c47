"""The loss that a gradient is taken of: the one that `fit` minimises, or one given in its place."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import keras
from keras import ops, tree

from keras_lstm_custom.diagnostics.autodiff import no_gradients
from keras_lstm_custom.diagnostics.inputs import Data
from keras_lstm_custom.diagnostics.recurrent_layers import Observable
from keras_lstm_custom.engines import reference
from keras_lstm_custom.errors import ArgumentError, InputError
from keras_lstm_custom.structures import Tensor

#: From the model's output to the scalar loss; called where the model was called.
LossOf = Callable[[Any], Tensor]


def total_loss(model: keras.Model, data: Data, loss: Any = None) -> LossOf:
    """Return a function from the model's output to the scalar loss.

    Args:
        model: what the loss is of.
        data: what it is computed on.
        loss: None for the whole loss of `fit`; else as for `gradient_flow`.

    Raises:
        ArgumentError: there is no loss, or it needs targets and there are none.
    """
    y = None if data.y is None else tree.map_structure(ops.convert_to_tensor, data.y)
    weight = None if data.sample_weight is None else tree.map_structure(ops.convert_to_tensor, data.sample_weight)
    if loss is None:
        return _of_fit(model, data.x, y, weight)
    if y is None:
        raise _no_targets(model, f"loss={loss!r}")
    if not callable(loss) or isinstance(loss, keras.losses.Loss):
        return _applied_to_each_output(model, keras.losses.get(loss), y, weight)
    if weight is not None:
        raise ArgumentError(
            "A function as `loss` gets the targets and the output, and knows of no weights.",
            expected="sample_weight=None with a function as `loss`",
            received="sample weights",
            remedy="Weigh inside the function, or pass the name of a loss or a keras.losses.Loss.",
        )
    return lambda output: ops.mean(loss(y, output))


def carries_its_loss(watched: Observable, data: Data) -> bool:
    """Say whether the model has a loss that needs no targets: layers add it, and none was compiled."""
    model = watched.model
    if not model.compiled or _compiled_loss(model) is not None:
        return False
    with watched.watched_by(reference.run) as scope, no_gradients():
        model(data.x, training=False)
    return bool(scope.losses)


def _of_fit(model: keras.Model, x: Any, y: Any, weight: Any) -> LossOf:
    compiled = _compiled_loss(model)
    if not model.compiled:
        raise _no_loss(model, "a model that is not compiled")
    if compiled is not None and y is None:
        raise _no_targets(model, f"the compiled loss {compiled!r}")
    is_own = type(model).compute_loss is not keras.Model.compute_loss
    more = {"training": False} if "training" in inspect.signature(model.compute_loss).parameters else {}

    def of_fit(output):
        if compiled is None and not is_own and not model.losses:
            raise _no_loss(model, "a model compiled without a loss, whose layers add none")
        if compiled is not None and not is_own:
            _check_targets(model, y, output)
        return model.compute_loss(x=x, y=y, y_pred=output, sample_weight=weight, **more)

    return of_fit


def _applied_to_each_output(model: keras.Model, function: Callable, y: Any, weight: Any) -> LossOf:
    # A function gives a loss for each sequence (and step); Loss weighs and averages as its `reduction` says.
    weighing = function if isinstance(function, keras.losses.Loss) or weight is None else _Weighing(function)
    more = {} if weight is None else {"sample_weight": weight}

    def added(output):
        _check_targets(model, y, output)
        pairs = zip(tree.flatten(y), tree.flatten(output), strict=True)
        return sum(ops.mean(weighing(target, part, **more)) for target, part in pairs)

    return added


class _Weighing(keras.losses.Loss):
    """A function of targets and outputs as a loss that takes weights."""

    def __init__(self, function: Callable):
        super().__init__()
        self.call = function


def _compiled_loss(model: keras.Model) -> Any:
    """Return the loss that `compile` was given; the attribute is there only after one was."""
    return getattr(model, "loss", None)


def _no_loss(model: keras.Model, received: str) -> ArgumentError:
    return ArgumentError(
        f"The model {model.name!r} has no loss to take the gradient of.",
        expected="a compiled loss, layers that add one, or `loss`",
        received=received,
        remedy="Pass loss='mse' or the like.",
    )


def _no_targets(model: keras.Model, received: str) -> ArgumentError:
    return ArgumentError(
        f"The loss of {model.name!r} compares the output with targets, and there are none.",
        expected="y, or batches of (x, y)",
        received=f"y=None with {received}",
        remedy="Pass y; it can be left out where layers of the model add the whole loss.",
    )


def _check_targets(model: keras.Model, y: Any, output: Any) -> None:
    """Raise unless each target fits its output: Keras would broadcast some that do not, and count on."""
    targets, outputs = tree.flatten(y), tree.flatten(output)
    if len(targets) == len(outputs) and all(map(_fits, targets, outputs)):
        return
    raise InputError(
        f"The targets do not fit the outputs of {model.name!r}.",
        expected=f"y like what model.predict(x) returns: {', '.join(str(tuple(part.shape)) for part in outputs)}",
        received=f"y of shape {', '.join(str(tuple(target.shape)) for target in targets)}",
        remedy="Pass what model.evaluate(x, y) takes, or as `loss` a function of y and the output.",
    )


def _fits(target: Tensor, output: Tensor) -> bool:
    """Say whether there is a target for each number of the output, or a whole number for each last axis (a class)."""
    numbers, targets = math.prod(output.shape), math.prod(target.shape)
    is_class = "int" in keras.backend.standardize_dtype(target.dtype)
    return targets == numbers or (is_class and targets * output.shape[-1] == numbers)
