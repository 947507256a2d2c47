"""What every cell of ours adds to its Keras counterpart."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, ClassVar

import keras
import numpy as np
from keras import ops

from keras_lstm_custom.arguments import BY_KEYWORD, with_arguments
from keras_lstm_custom.cells import declared
from keras_lstm_custom.cells.lstm_form import LSTMForm
from keras_lstm_custom.equations.projection import DropoutMask, project
from keras_lstm_custom.errors import ArgumentError
from keras_lstm_custom.initializers import Chrono
from keras_lstm_custom.keras_hooks import dropout_masks, entry_of, name_for
from keras_lstm_custom.options import ClassSignature, bind, own_options, signature_with, spelling_checked
from keras_lstm_custom.structures import Tensor

#: What decides what a cell computes.
METHODS = ("__call__", "call", "project_inputs", "step")


class EquationCell(keras.layers.Layer):
    """Mixin in front of a Keras cell: Keras keeps weights and options, the step is our equation.

    A subclass is the row of its cell: it names gates, state and step tuples and writes `step`. Everything that runs,
    shows or exports a cell asks these, and goes through `project_inputs` and `step`.
    """

    keras_class: ClassVar[type]  #: the Keras cell whose arguments, weights and packing it shares
    kind: ClassVar[str]  #: what it is called in files, in one word; nothing asks it what it computes
    #: The function of `equations` that `step` is, without `features`: engines that have it written out know it by it.
    equation: Callable | None = None
    registered: ClassVar[Mapping[str, Callable]]  #: the `METHODS` of the class that named the equation
    title: ClassVar[str] = ""  #: what people call the cell; its kind unless it says otherwise
    #: What a step computes, in words (`symbols.described` has the defaults), and its equations for `report`.
    symbols: Any = MappingProxyType({})  #: `Symbol`s by name
    formulas: Any = ()  #: `Formula`s
    #: The weights, one number for each unit, that formulas name: attribute by the name in the formula.
    vectors: Any = MappingProxyType({})
    recurrent_weight_dropout: float = 0.0  #: share of the recurrent kernel that training sets to zero
    state_type: ClassVar[Any]  #: named tuple of the state
    step_type: ClassVar[Any]  #: named tuple of all that a step computes; begins with the state

    def __init_subclass__(cls, **kwargs: Any):
        """Give the class the signature of its Keras counterpart plus its own options."""
        super().__init_subclass__(**kwargs)
        if "equation" in vars(cls):  # as they are now: what is assigned later is not the equation
            cls.registered = {name: getattr(cls, name) for name in METHODS}
        if hasattr(cls, "keras_class"):
            signature = signature_with(cls.keras_class, own_options(cls))
            cls.__signature__ = ClassSignature(signature)  # type: ignore
            cls.__dict__["__signature__"].__set_name__(cls, "__signature__")
            cls.__doc__ = with_arguments(cls.__doc__, [*signature.parameters, *BY_KEYWORD])

    def __init__(self, *args: Any, **kwargs: Any):
        options = bind(self.keras_class, args, kwargs)
        options["name"] = options.get("name") or name_for(type(self))
        with spelling_checked(type(self), kwargs):
            super().__init__(**options)
        if "float" not in self.compute_dtype:
            raise ArgumentError(
                f"{type(self).__name__} computes in floating-point numbers.",
                expected="a dtype such as 'float32', 'float64' or 'mixed_float16'",
                received=f"dtype={self.compute_dtype!r}",
                remedy="Leave `dtype` out, and give integers as they are: the layer casts its input.",
            )
        self.check_bias()

    def check_bias(self) -> None:
        """Raise `ArgumentError` if the bias is to start from what is made for other gates."""
        if isinstance(self.bias_initializer, Chrono):
            self.bias_initializer.check_gates(self.gates)

    def load_own_variables(self, store):
        super().load_own_variables(entry_of(store))

    @property
    def gates(self) -> tuple[str, ...]:
        """Return the blocks of `units` columns of the kernels, in order; mostly a class attribute."""
        raise NotImplementedError

    @property
    def features(self) -> frozenset[str]:
        """Return what it has beyond the plain `equation`; an engine that does not know one refuses."""
        return frozenset()

    @property
    def noise_widths(self) -> Mapping[str, tuple[float, int]]:
        """Return for each state that a step keeps at random (zoneout): the rate, and how wide the state is."""
        return {}

    @property
    def input_bias(self) -> Tensor | None:
        """Return what is added to the projected input: `bias`, or a part of it."""
        return self.bias

    def project_inputs(self, x: Tensor, dropout: DropoutMask = None) -> Tensor:
        """Return the input part of the pre-activations, `(..., gates * units)`, for any leading axes.

        Noise behind the features (`noise_widths`) is passed on behind the pre-activations.
        """
        x, *noise = _apart(x, self.kernel.shape[0])
        z_x = self.input_part(x, dropout)
        return ops.concatenate([z_x, *noise], axis=-1) if noise else z_x

    def input_part(self, x: Tensor, dropout: DropoutMask = None) -> Tensor:
        """Return what a step needs of x `(..., features)`: W x + b."""
        bias = None if self.input_bias is None else ops.cast(self.input_bias, self.compute_dtype)
        return project(x, self.tensor("kernel"), bias, dropout)

    def add_packed_weights(self, features: int) -> None:
        """Add kernel, recurrent kernel and bias of all gates, with the options of the Keras cell."""
        packed = len(self.gates) * self.units
        of_weights = {
            "kernel": ((features, packed), self.kernel_initializer),
            "recurrent_kernel": (self.recurrent_kernel_shape, self.recurrent_initializer),
            "bias": ((packed,), self.initial_bias),
        }
        self.recurrent_kernel: Any = None
        self.bias: Any = None
        for name, (shape, initializer) in of_weights.items():
            if shape and (name != "bias" or self.use_bias):
                option = name.removesuffix("_kernel")
                regularizer, constraint = (getattr(self, f"{option}_{o}") for o in ("regularizer", "constraint"))
                weight = self.add_weight(shape, initializer, name=name, regularizer=regularizer, constraint=constraint)
                setattr(self, name, weight)

    @property
    def recurrent_kernel_shape(self) -> tuple[int, ...]:
        """Return `(width of h, gates * units)`; () if a step multiplies h by no matrix, and there is no such weight."""
        return (self.output_size, len(self.gates) * self.units)

    def initial_bias(self, shape: tuple[int, ...], dtype: Any = None) -> Tensor:
        """Return the values that a bias starts from."""
        if isinstance(self.bias_initializer, Chrono):
            return self.bias_initializer.by_gate(self.gates, self.units, dtype)
        return self.bias_initializer(shape, dtype=dtype)

    @property
    def output_kernel(self) -> Tensor | None:
        """Return the weights of a linear map behind what the gates let out, where there is one."""
        return None

    def tensor(self, name: str) -> Tensor | None:
        """Return a weight in the dtype that the cell computes in, or None for what a cell does without.

        Raises:
            ArgumentError: the cell has no weight of that name.
        """
        weight = getattr(self, name, self)
        if weight is self:
            raise ArgumentError(
                f"{type(self).__name__} has no weight {name!r}.",
                expected=", ".join(weight.name for weight in self.weights),
                received=repr(name),
                remedy=f"Add it in `build`: self.{name} = self.add_weight(shape, initializer, name={name!r}).",
            )
        return None if weight is None else ops.cast(weight, self.compute_dtype)

    def lstm_form(self, values: Callable[[Any], np.ndarray], gain: float) -> LSTMForm | None:
        """Return the LSTM with tanh and σ that computes in inference what the cell does with them; None without one.

        Args:
            values: the numbers of a weight.
            gain: of a form that is exact in the limit only: how small it is to make its h, between 0 and 1.
        """
        return None

    def noise(self, batch: Any, timesteps: Any) -> Tensor:
        """Draw what zoneout keeps: 1 where a state keeps its old value, `(batch, timesteps, sum of the widths)`."""
        drawn = [
            keras.random.uniform((batch, timesteps, width), seed=self.seed_generator) < rate
            for rate, width in self.noise_widths.values()
        ]
        return ops.cast(ops.concatenate(drawn, axis=-1), self.compute_dtype)

    def without_noise(self, z_x: Tensor) -> tuple[Tensor, dict[str, Tensor] | None]:
        """Return the input part of a step, and the noise behind it by the state that it is for, or None."""
        z_x, *noise = _apart(z_x, self.kernel.shape[1])
        if not noise:
            return z_x, None
        ends = [0, *itertools.accumulate(width for _, width in self.noise_widths.values())]
        parts = [noise[0][..., start:end] for start, end in itertools.pairwise(ends)]
        return z_x, dict(zip(self.noise_widths, parts, strict=True))

    def step(self, z_x: Tensor, state: Any, recurrent_dropout: DropoutMask = None) -> Any:
        """Return one step of the equations from the projected input and a `state_type`."""
        raise NotImplementedError

    def call(self, inputs, states, training=False):
        """Return `(h, new states)` of one step; inputs `(batch, features)`, each state `(batch, units)`."""
        nested = isinstance(states, (list, tuple))
        state = declared.state_of_call(self, inputs, states if nested else [states])
        masks = dropout_masks(self, inputs, state.h, training)
        if training and self.noise_widths:
            inputs = ops.concatenate([inputs, self.noise(ops.shape(inputs)[0], 1)[:, 0]], axis=-1)
        with self.dropped_weights(training):
            new = self.checked_step(self.project_inputs(inputs, masks.inputs), state, masks.recurrent)
        return new[0], list(self.state_of(new)) if nested else new[0]

    def checked_step(self, z_x: Tensor, state: Any, recurrent_dropout: DropoutMask = None) -> Any:
        """Return `step`, whose result must be what the cell declares.

        Raises:
            ArgumentError: it is not.
        """
        new = self.step(z_x, state, recurrent_dropout)
        declared.check_step(self, state, new)
        return new

    def tapped_step(self, z_x: Tensor, state: Any, taps: Any) -> Any:
        """Return `step` with `taps`, a `state_type`, added to its new states as they leave it.

        A cell that makes h of another state lets that state's tap pass into h, so that a gradient with respect to it is
        the whole one.
        """
        new = self.checked_step(z_x, state)
        return new._replace(**{name: getattr(new, name) + tap for name, tap in taps._asdict().items()})

    def state_of(self, step: Any) -> Any:
        """Return the new state, the first fields of what a step computed."""
        return self.state_type(*step[: len(self.state_type._fields)])

    @contextmanager
    def dropped_weights(self, training: bool) -> Iterator[None]:
        r"""In training set a share of the recurrent kernel to zero inside the block: $U \odot m / (1 - p)$.

        One mask for all steps and rows of the block. Source: Merity et al. 2018 (arXiv 1708.02182), section 2.
        """
        rate = self.recurrent_weight_dropout
        if not training or not rate:
            yield
            return
        kernel = ops.convert_to_tensor(self.recurrent_kernel.value)
        dropped = keras.random.dropout(kernel, rate, seed=self.seed_generator)
        values = [(weight, dropped if weight is self.recurrent_kernel else weight.value) for weight in self.weights]
        with keras.StatelessScope(state_mapping=values):
            yield

    def get_config(self):
        config = super().get_config()
        if hasattr(self, "implementation"):  # Keras leaves it out, so that it is lost on saving
            config["implementation"] = self.implementation
        return config


def _apart(x: Tensor, width: int) -> list[Tensor]:
    """Return the first `width` of the last axis, and what is behind it if there is anything.

    By slices: on torch Keras' `split` by widths waits for the GPU, so that no step with it can be recorded there.
    """
    return [x] if x.shape[-1] == width else [x[..., :width], x[..., width:]]
