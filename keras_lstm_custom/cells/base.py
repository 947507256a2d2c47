"""What every cell of ours adds to its Keras counterpart."""

from __future__ import annotations

from typing import Any, ClassVar

import keras
from keras import ops

from keras_lstm_custom.equations.projection import DropoutMask, project
from keras_lstm_custom.keras_hooks import dropout_masks
from keras_lstm_custom.options import bind
from keras_lstm_custom.structures import Tensor


class EquationCell(keras.layers.Layer):
    """Mixin in front of a Keras cell: Keras keeps weights and options, the step is our equation.

    A subclass names its state and step tuples and writes `step`; everything that runs a cell
    (the cell itself, the engines, the tracer) goes through `project_inputs` and `step`.
    """

    keras_class: ClassVar[type]  #: the Keras cell whose arguments, weights and packing it shares
    kind: ClassVar[str]  #: which equations: "lstm" or "vanilla_rnn"
    state_type: ClassVar[type]  #: named tuple of the state
    step_type: ClassVar[type]  #: named tuple of all that a step computes; begins with the state

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(**bind(self.keras_class, args, kwargs))

    @property
    def input_bias(self) -> Tensor | None:
        """Return what is added to the projected input: `bias`, or a part of it."""
        return self.bias

    def project_inputs(self, x: Tensor, dropout: DropoutMask = None) -> Tensor:
        """Return the input part of the pre-activations, `(..., gates * units)`, for any leading axes."""
        bias = None if self.input_bias is None else ops.cast(self.input_bias, self.compute_dtype)
        return project(x, ops.cast(self.kernel, self.compute_dtype), bias, dropout)

    def step(self, z_x: Tensor, state: Any, recurrent_dropout: DropoutMask = None) -> Any:
        """Return one step of the equations from the projected input and a `state_type`."""
        raise NotImplementedError

    def call(self, inputs, states, training=False):
        """Return `(h, new states)` of one step; inputs `(batch, features)`, each state `(batch, units)`."""
        nested = isinstance(states, (list, tuple))
        state = self.state_type(*(states if nested else [states]))
        masks = dropout_masks(self, inputs, state.h, training)
        step = self.step(self.project_inputs(inputs, masks.inputs), state, masks.recurrent)
        return step.h, list(step.state) if nested else step.h

    def get_config(self):
        config = super().get_config()
        if hasattr(self, "implementation"):  # Keras leaves it out, so that it is lost on saving
            config["implementation"] = self.implementation
        return config
