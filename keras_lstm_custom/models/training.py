"""How a model was compiled and how far it is trained, brought to its copy, with the live objects where they may be."""

from __future__ import annotations

import warnings
from typing import Any

import keras
from keras import ops, tree

from keras_lstm_custom.errors import ConversionError
from keras_lstm_custom.keras_hooks import compile_arguments, optimized_variables, undecayed_variables
from keras_lstm_custom.models.live import copied
from keras_lstm_custom.models.state import Twins


def copy_training(source: keras.Model, target: keras.Model, twins: Twins) -> None:
    """Compile `target` as `source` is compiled, and bring its optimizer to the same state.

    Losses have no state, so they are the very objects; metrics and the optimizer are copies. Metrics start anew, as
    they do at each epoch. What cannot be copied is told in a warning, and `target` is left as it is, not compiled.
    """
    if not source.compiled:
        return
    try:
        arguments = compile_arguments(source)
        arguments["optimizer"] = optimizer = _copied_optimizer(source.optimizer, twins)
        for kind in ("metrics", "weighted_metrics"):
            arguments[kind] = tree.map_structure(_copied_metric, arguments[kind])
        target.compile(**arguments, auto_scale_loss=False)  # the optimizer's copy is wrapped already where it must be
    except Exception as error:  # a compile, get_config or from_config of the user's own
        warnings.warn(
            f"The copy of {source.name!r} predicts the same, but is not compiled: optimizer, loss and metrics could "
            f"not be brought along ({str(error).splitlines()[0]}). Compile it before training.",
            stacklevel=5,
        )
        return
    if optimizer is not None and source.optimizer.built:
        for value, variable in zip(source.optimizer.variables, optimizer.variables, strict=True):
            variable.assign(ops.copy(value))


def _copied_optimizer(optimizer: Any, twins: Twins) -> Any:
    if optimizer is None:
        return None
    copy = copied(optimizer)
    if optimizer.built:
        variables = optimized_variables(optimizer)
        missing = [variable.path for variable in variables if id(variable) not in twins]
        if missing:
            raise ConversionError(f"the optimizer trains what is no part of the model: {', '.join(missing)}")
        inner = getattr(optimizer, "inner_optimizer", optimizer)  # of a LossScaleOptimizer
        undecayed = undecayed_variables(inner)
        if undecayed:
            getattr(copy, "inner_optimizer", copy).exclude_from_weight_decay([twins[id(v)] for v in undecayed])
        copy.build([twins[id(variable)] for variable in variables])
    return copy


def _copied_metric(metric: Any) -> Any:
    return copied(metric) if isinstance(metric, keras.metrics.Metric) else metric  # else a name or a function
