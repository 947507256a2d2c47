"""The network: from a window in the data's units to a forecast in the data's units, scaling inside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_lstm_custom.layers.forecasting import Affine, OrderedQuantiles, RelativeTarget
from keras_lstm_custom.timeseries.forecasting.plan import Plan

#: The name of the recurrent layer.
RECURRENT = "recurrent"


class Scales(NamedTuple):
    """Mean and standard deviation in the training part, each (series, columns); the columns are those of the plan.

    `static` holds mean and standard deviation of the static columns over the series, each (columns,).
    """

    mean: np.ndarray
    std: np.ndarray
    static: tuple[np.ndarray, np.ndarray]


class Network(NamedTuple):
    """One network seen in two ways; both have the same weights.

    Attributes:
        model: from the data's units to the data's units: outputs "mean" (batch, horizon) and, if there are quantiles,
            "quantiles" (batch, horizon, quantiles).
        core: the same, up to deviations from the simple forecast in standard deviations, (batch, horizon, ...): what
            is learnt.
        start_weights: by layer, the weights of the output layers before training: those of the simple forecast.
    """

    model: keras.Model
    core: keras.Model
    start_weights: dict[str, list[np.ndarray]]


def build(
    plan: Plan,
    scales: Scales,
    simple: np.ndarray,
    *,
    cell: type[keras.layers.Layer],
    units: int,
    quantiles: Sequence[float],
    start: np.ndarray,
    options: dict[str, Any] | None = None,
) -> Network:
    """Return a new network.

    ŷ_{T+k} = s_k + std · ((V h_T + d)_k + u(h_T, future_k)), where h_T is the hidden state after the window, s_k the
    simple forecast, a linear map of the window, and u a small network that sees what is known about step T + k. The
    target is seen relative to its last known value. V and u's last weights start at zero, so the untrained network is
    the simple forecast.

    Args:
        plan: columns and sizes.
        scales: see `Scales`.
        simple: (window, horizon), the matrix of the simple forecast, see `simple_kernel`.
        cell: the recurrent layer's class, such as `LSTM`.
        units: of the recurrent layer.
        quantiles: to forecast; () for the mean alone.
        start: (1 + quantiles,), what the untrained network says: 0, and the free numbers of `OrderedQuantiles`.
        options: more arguments of the recurrent layer, e.g. {"dropout": 0.1}.
    """
    horizon, outputs = simple.shape[1], 1 + len(quantiles)
    inputs, past, mean, std, base = _scaled(plan, scales, simple)
    mask = None
    if plan.missing == "mask":
        mask = ops.all(past[:, :, -len(plan.columns) :] > 0.5, axis=-1)
    state = cell(units, name=RECURRENT, **(options or {}))(past, mask=mask)
    if plan.static:
        inputs["static"] = keras.Input((len(plan.static),), name="static")
        centre, spread = scales.static
        state = _join([state, Affine(list(1 / spread), list(-centre / spread), name="static_scaled")(inputs["static"])])
    zeros = keras.initializers.Zeros()
    head = keras.layers.Dense(horizon * outputs, kernel_initializer=zeros, name="head")
    raw = head(state)
    head.set_weights([head.get_weights()[0], np.tile(start, horizon)])
    raw = keras.layers.Reshape((horizon, outputs), name="steps")(raw)
    if _known(plan):
        inputs["future"] = keras.Input((horizon, _known(plan)), name="future")
        first = 1 + len(plan.past)
        known = inputs["future"]
        if plan.future:
            columns = len(plan.future)
            part = _standardised(known[:, :, :columns], mean, std, first, first + columns)
            known = _join([part, known[:, :, columns:]]) if _known(plan) > columns else part
        # The sum of two products is the product with both; to repeat the state would take an op that micro lacks.
        seen = keras.layers.Reshape((1, units), name="state_for_steps")(keras.layers.Dense(units, name="step")(state))
        seen = seen + keras.layers.Dense(units, use_bias=False, name="step_known")(known)
        hidden = keras.layers.Activation("tanh", name="step_hidden")(seen)
        raw = raw + keras.layers.Dense(outputs, kernel_initializer=zeros, use_bias=False, name="step_head")(hidden)
    centre = raw[:, :, :1]
    width: Any = std[:, :1] if len(plan.series) > 1 else float(scales.std[0, 0])
    learnt, model = {"mean": centre}, {"mean": base + width * centre[:, :, 0]}
    if quantiles:
        learnt["quantiles"] = OrderedQuantiles(name="ordered")(raw[:, :, 1:])
        wide = width[:, None] if len(plan.series) > 1 else width
        model["quantiles"] = base[:, :, None] + wide * learnt["quantiles"]
    model = {name: keras.layers.Identity(name=name)(value) for name, value in model.items()}
    core = keras.Model(inputs, learnt, name="core")
    start_weights = {layer.name: layer.get_weights() for layer in core.layers if layer.name in ("head", "step_head")}
    return Network(keras.Model(inputs, model, name="forecaster"), core, start_weights)


def _known(plan: Plan) -> int:
    """Return how many channels are known for the steps to come."""
    return len(plan.future) + 2 * len(plan.calendar) + (plan.holidays is not None)


def _scaled(plan: Plan, scales: Scales, simple: np.ndarray) -> tuple[dict[str, Any], Any, Any, Any, Any]:
    """Return the inputs, the window scaled and relative, mean and std (of several series), and the simple forecast."""
    columns, window = len(plan.columns), plan.window
    channels = 2 * columns if plan.missing != "refuse" else columns
    inputs = {"past": keras.Input((window, channels), name="past")}
    values = inputs["past"][:, :, :columns]
    mean: Any = scales.mean[0]
    std: Any = scales.std[0]
    if len(plan.series) > 1:
        inputs["series"] = keras.Input((1,), dtype="int32", name="series")
        table = keras.layers.Embedding(len(scales.mean), 2 * columns, trainable=False, name="scales")
        row = keras.layers.Flatten(name="scale")(table(inputs["series"]))
        table.set_weights([np.concatenate([scales.mean, scales.std], axis=1)])
        mean, std = row[:, :columns], row[:, columns:]
    scaled = RelativeTarget(name="relative")(_standardised(values, mean, std, 0, columns))
    past = _join([scaled, inputs["past"][:, :, columns:]]) if channels > columns else scaled
    line = keras.layers.Dense(simple.shape[1], use_bias=False, trainable=False, name="simple_forecast")
    base = line(values[:, :, 0])
    line.set_weights([simple])
    return inputs, past, mean, std, base


def _standardised(values: Any, mean: Any, std: Any, first: int, end: int) -> Any:
    """Return columns first ... end - 1 with mean 0 and standard deviation 1."""
    if isinstance(mean, np.ndarray):
        return Affine(list(1 / std[first:end]), list(-mean[first:end] / std[first:end]))(values)
    return (values - mean[:, None, first:end]) / std[:, None, first:end]


def _join(parts: list[Any]) -> Any:
    return keras.layers.Concatenate()(parts)
