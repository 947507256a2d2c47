"""The LSTM cell."""

from __future__ import annotations

from operator import attrgetter
from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from keras_lstm_custom.cells import lstm_checks, lstm_symbols
from keras_lstm_custom.cells.base import EquationCell
from keras_lstm_custom.cells.lstm_form import NONE, LSTMForm
from keras_lstm_custom.equations import lstm_step
from keras_lstm_custom.equations.lstm_options import EPSILON, JOINT, LSTMOptions, lstm_options_step, normalised
from keras_lstm_custom.equations.projection import project
from keras_lstm_custom.equations.weight_layout import split_gates
from keras_lstm_custom.initializers import Chrono
from keras_lstm_custom.options import check_rate
from keras_lstm_custom.structures import LSTMState, LSTMStep

PLAIN = LSTMOptions()


@keras.saving.register_keras_serializable(package="keras_lstm_custom")
class LSTMCell(EquationCell, keras.layers.LSTMCell):
    r"""One step of an LSTM, for `keras.layers.RNN` and `keras.layers.StackedRNNCells`.

    $$ c_t = f_t \odot c_{t-1} + i_t \odot g_t, \qquad h_t = o_t \odot \tanh(c_t) $$

    The gates and their source are in `keras_lstm_custom.equations.lstm_step`; what the options below change is in
    `keras_lstm_custom.equations.lstm_options_step`. They combine.

    Weights, as `keras.layers.LSTMCell` has them (gates packed in the order i, f, g, o; f, g, o if coupled):

    - `kernel` `(features, 4 * units)`
    - `recurrent_kernel` `(units, 4 * units)`; `(projection, 4 * units)` with a projection
    - `bias` `(4 * units,)`, absent with `use_bias=False`

    and after them those of the options:

    - `peephole_i`, `peephole_f`, `peephole_o` `(units,)`, drawn by `kernel_initializer`; no `peephole_i` if coupled
    - `projection_kernel` `(units, projection)`, drawn by `kernel_initializer`
    - `gate_gamma` `(4 * units,)` of layer normalisation "gate"
    - `kernel_norm_gamma`, `kernel_norm_beta`, `recurrent_norm_gamma`, `recurrent_norm_beta` `(4 * units,)`,
      `cell_norm_gamma`, `cell_norm_beta` `(units,)` of "joint" and "addons"

    Args: those of `keras.layers.LSTMCell`, and
        peepholes: whether i and f see c_{t-1} and o sees c_t, each by a weight for each unit.
        coupled: whether i = 1 - f: three gates, a quarter fewer weights.
        projection: width of h, at most `units`; None for h as wide as c.
        projection_clip: h is clipped to ± this after the projection; None for no bound.
        layer_normalization: None, "gate" (each gate by itself, the form of TFLite's fused op), "joint" (Ba 2016), or
            "addons" (that of TensorFlow Addons: as "joint", and the normalised c is carried on).
        cell_clip: c is clipped to ± this; None for no bound.
        zoneout: probability that a unit of h keeps its value of the step before, in [0, 1).
        cell_zoneout: the same for c.
        recurrent_weight_dropout: share of the recurrent kernel that training sets to zero, one mask for all steps of
            a call (Merity et al. 2018, AWD-LSTM).

    Call arguments:
        inputs: `(batch, features)`.
        states: `[h, c]`, `(batch, projection or units)` and `(batch, units)`.
        training: whether dropout and zoneout apply.

    Returns:
        `(h, [h, c])`.

    Raises:
        ArgumentError: `units` is not a positive integer, a rate is outside [0, 1), an activation is unknown, or options
            do not go together.
    """

    keras_class = keras.layers.LSTMCell
    kind = "lstm"
    equation = staticmethod(lstm_step)
    title = "LSTM"
    state_type = LSTMState
    step_type = LSTMStep
    options = PLAIN  # of a cell of Keras under this class (`as_ours`), too
    _of_options: tuple[str, ...] = ()  #: the weights that the options add

    def __init__(
        self,
        *args: Any,
        peepholes: bool = False,
        coupled: bool = False,
        projection: int | None = None,
        projection_clip: float | None = None,
        layer_normalization: Literal["gate", "joint", "addons"] | None = None,
        cell_clip: float | None = None,
        zoneout: float = 0.0,
        cell_zoneout: float = 0.0,
        recurrent_weight_dropout: float = 0.0,
        **kwargs: Any,
    ):
        super().__init__(*args, **kwargs)
        self.recurrent_weight_dropout = check_rate("recurrent_weight_dropout", recurrent_weight_dropout)
        self.options = lstm_checks.checked(
            self.units,
            LSTMOptions(
                peepholes,
                coupled,
                projection,
                projection_clip,
                layer_normalization,
                cell_clip,
                zoneout,
                cell_zoneout,
            ),
        )
        self.check_bias()
        if self.options.projection is not None:
            self.state_size = [self.options.projection, self.units]
            self.output_size = self.options.projection
        if hasattr(self, "dropout_mask_count"):
            self.dropout_mask_count = len(self.gates)

    @property
    def gates(self):
        return self.options.gates

    @property
    def features(self):
        return frozenset(name for name, value in self.options._asdict().items() if value != getattr(PLAIN, name))

    @property
    def symbols(self):
        return lstm_symbols.symbols(self.options)

    @property
    def formulas(self):
        return lstm_symbols.formulas(self.options)

    @property
    def vectors(self):
        return {name.replace("peephole", "p"): name for name in self._of_options if name.startswith("peephole")}

    @property
    def output_kernel(self):
        return None if self.options.projection is None else self.projection_kernel

    @property
    def noise_widths(self):
        rates = {"h": (self.options.zoneout, self.output_size), "c": (self.options.cell_zoneout, self.units)}
        return {state: (rate, width) for state, (rate, width) in rates.items() if rate}

    def build(self, input_shape):
        if self.gates == PLAIN.gates and self.options.projection is None and not self._chrono:
            super().build(input_shape)
        else:
            self.add_packed_weights(input_shape[-1])
        before, add = len(self.weights), self.add_weight
        units, packed = self.units, len(self.gates) * self.units
        if self.options.peepholes:
            for gate in [gate for gate in self.gates if gate != "g"]:
                setattr(self, f"peephole_{gate}", add((units,), self.kernel_initializer, name=f"peephole_{gate}"))
        if self.options.projection is not None:
            shape = (units, self.options.projection)
            self.projection_kernel = add(shape, self.kernel_initializer, name="projection_kernel")
        if self.options.layer_normalization == "gate":
            self.gate_gamma = add((packed,), "ones", name="gate_gamma")
        if self.options.layer_normalization in JOINT:
            for norm, width in {"kernel_norm": packed, "recurrent_norm": packed, "cell_norm": units}.items():
                setattr(self, f"{norm}_gamma", add((width,), "ones", name=f"{norm}_gamma"))
                setattr(self, f"{norm}_beta", add((width,), "zeros", name=f"{norm}_beta"))
        self._of_options = tuple(weight.name for weight in self.weights[before:])

    def initial_bias(self, shape, dtype=None):
        if self._chrono or not self.unit_forget_bias:
            return super().initial_bias(shape, dtype)
        ones = keras.initializers.Ones()
        of_gates = [ones if gate == "f" else self.bias_initializer for gate in self.gates]
        return ops.concatenate([initializer((self.units,), dtype=dtype) for initializer in of_gates])

    @property
    def _chrono(self) -> bool:
        return isinstance(self.bias_initializer, Chrono)

    def input_part(self, x, dropout=None):
        form = self.options.layer_normalization
        if form is None:
            return super().input_part(x, dropout)
        z_x = project(x, self.tensor("kernel"), mask=dropout)
        if form == "gate":  # normalised together with the recurrent part, and the bias comes after it
            return z_x
        gamma, beta, bias = (self.tensor(name) for name in ("kernel_norm_gamma", "kernel_norm_beta", "bias"))
        z_x = normalised(z_x, gamma, beta, EPSILON[form])
        return z_x if bias is None else z_x + bias

    def step(self, z_x, state, recurrent_dropout=None):
        functions = {"activation": self.activation, "recurrent_activation": self.recurrent_activation}
        if self.options == PLAIN:
            kernel = self.tensor("recurrent_kernel")
            return lstm_step(z_x, state, kernel, recurrent_dropout=recurrent_dropout, **functions)
        return self._step_with_options(z_x, state, recurrent_dropout=recurrent_dropout, **functions)

    def _step_with_options(self, z_x, state, **more):
        z_x, keep = self.without_noise(z_x)
        weights = {name: self.tensor(name) for name in ("recurrent_kernel", "bias", *self._of_options)}
        return lstm_options_step(z_x, state, weights, self.options, keep=keep, **more)

    def tapped_step(self, z_x, state, taps):
        if self.options.cell_zoneout:  # h is made of another c than the one that is carried on
            return super().tapped_step(z_x, state, taps)
        functions = {"activation": self.activation, "recurrent_activation": self.recurrent_activation}
        new = self._step_with_options(z_x, state, tap=taps.c, **functions)
        return new._replace(h=new.h + taps.h)

    def lstm_form(self, values, gain):
        options, gates = self.options, self.gates
        if options.layer_normalization in JOINT or self.noise_widths:  # zoneout mixes in the state before
            return None
        bias = np.zeros(len(gates) * self.units, np.float32) if self.bias is None else values(self.bias)
        return LSTMForm(
            split_gates(values(self.kernel), gates),
            split_gates(values(self.recurrent_kernel), gates),
            split_gates(bias, gates),
            peepholes={g: values(getattr(self, f"peephole_{g}")) for g in gates if options.peepholes and g != "g"},
            gammas=split_gates(values(self.gate_gamma), gates) if options.layer_normalization else NONE,
            projection=None if self.output_kernel is None else values(self.output_kernel),
            cell_clip=options.cell_clip,
            projection_clip=options.projection_clip,
        )

    def get_config(self):
        own = {**self.options._asdict(), "recurrent_weight_dropout": self.recurrent_weight_dropout}
        return {**super().get_config(), **own}


for _name in LSTMOptions._fields:
    setattr(LSTMCell, _name, property(attrgetter(f"options.{_name}")))
