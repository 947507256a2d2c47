"""Where weights start."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any

import keras
from keras import ops

from keras_lstm_custom.equations.weight_layout import GATES
from keras_lstm_custom.errors import ArgumentError
from keras_lstm_custom.structures import Tensor


@keras.saving.register_keras_serializable(package="keras_lstm_custom")
class Chrono(keras.initializers.RandomUniform):
    r"""Biases with which gates remember for 1 to `max_timesteps` steps: $b_f = \log U(1, T_{max} - 1)$, $b_i = -b_f$.

    A unit whose forget gate is $f = \sigma(b_f)$ forgets over $1 / (1 - f) = 1 + e^{b_f}$ steps. All other gates start
    from zero. It takes the place of `unit_forget_bias`.

    ```python
    layer = LSTM(64, bias_initializer=initializers.Chrono(100))  # what to remember lies up to 100 steps back
    ```

    For cells of this package with a gate f. `keras.layers.LSTM` takes it with `unit_forget_bias=False` only.

    Source: Tallec & Ollivier 2018, *Can recurrent neural networks warp time?* (arXiv 1804.11188), section 2.

    Args:
        max_timesteps: T_max, the longest memory in steps; more than 2, and finite.
        input_bias: whether b_i = -b_f; else b_i = 0. A cell with coupled gates has no b_i: i = 1 - f is σ(-b_f) there.
        seed: as of `keras.initializers.RandomUniform`.

    Returns:
        When called with the shape `(4 * units,)`: the bias of an LSTM, gates in the order i, f, g, o.

    Raises:
        ArgumentError: `max_timesteps` or `input_bias` is not usable; when a cell or layer is made: it lacks a gate.
    """

    def __init__(self, max_timesteps: float, input_bias: bool = True, seed: Any = None):
        number = isinstance(max_timesteps, Real) and not isinstance(max_timesteps, bool)
        if not number or not 2 < float(max_timesteps) < math.inf:
            raise ArgumentError(
                "`max_timesteps` is the longest memory that a unit starts with.",
                expected="a finite number of steps above 2",
                received=repr(max_timesteps),
                remedy="Pass how many steps lie between what is to be remembered and its use, e.g. Chrono(100).",
            )
        if not isinstance(input_bias, bool):
            raise ArgumentError(
                "`input_bias` says whether the input gate's bias is set, too.",
                expected="True or False",
                received=repr(input_bias),
                remedy="Leave it out for b_i = -b_f.",
            )
        super().__init__(minval=1.0, maxval=float(max_timesteps) - 1.0, seed=seed)
        # A number of NumPy's is no JSON, which a configuration must be.
        self.max_timesteps: float = getattr(max_timesteps, "item", lambda: max_timesteps)()
        self.input_bias: bool = input_bias

    def __call__(self, shape, dtype=None):
        if len(shape) != 1 or shape[0] % len(GATES):
            raise ArgumentError(
                "Chrono gives the bias of an LSTM.",
                expected="the shape (4 * units,)",
                received=str(tuple(shape)),
                remedy="Use it as `bias_initializer`.",
            )
        return self.by_gate(GATES, shape[0] // len(GATES), dtype)

    def by_gate(self, gates: Sequence[str], units: int, dtype: Any = None) -> Tensor:
        """Return the packed bias `(gates * units,)` of a cell."""
        b_f = ops.log(super().__call__((units,), dtype=dtype))
        zeros = ops.zeros_like(b_f)
        of_gate = {"f": b_f, "i": -b_f if self.input_bias else zeros}
        return ops.concatenate([of_gate.get(gate, zeros) for gate in gates])

    def check_gates(self, gates: Sequence[str]) -> None:
        """Raise `ArgumentError` unless a cell has the gates whose biases are set."""
        needed = ("f", "i") if self.input_bias else ("f",)
        if not set(needed) <= set(gates):
            raise ArgumentError(
                f"Chrono sets the bias of the gates {', '.join(needed)}.",
                expected="a cell with these gates",
                received=f"one with the gates {', '.join(gates)}",
                remedy="With coupled gates pass Chrono(..., input_bias=False): i = 1 - f starts at σ(-b_f) by itself."
                if "f" in gates
                else "Pass another `bias_initializer`, e.g. 'zeros'.",
            )

    def get_config(self):
        seed = super().get_config()["seed"]
        return {"max_timesteps": self.max_timesteps, "input_bias": self.input_bias, "seed": seed}
