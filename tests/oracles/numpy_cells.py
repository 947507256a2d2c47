"""The oracle: both recurrent networks in NumPy float64, written from the equations with plain loops.

It imports NumPy only and shares no code with the package, so that a mistake there cannot hide here.
Each gate has its own weights (`W_i`, `U_i`, `b_i`, ...), cut from the packed ones by column number.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Array = np.ndarray
Function = Callable[[float], float]


def sigmoid(z: float) -> float:
    return 1.0 / (1.0 + np.exp(-z))


def lstm(
    x: Array,
    kernel: Array,
    recurrent_kernel: Array,
    bias: Array | None = None,
    h: Array | None = None,
    c: Array | None = None,
    *,
    mask: Array | None = None,
    inputs_dropout: list[Array] | None = None,
    recurrent_dropout: list[Array] | None = None,
    activation: Function = np.tanh,
    recurrent_activation: Function = sigmoid,
) -> dict[str, Array]:
    """Run an LSTM over `x`.

    Args:
        x: `(batch, timesteps, features)`.
        kernel: `(features, 4 * units)`, gates in the order i, f, g, o.
        recurrent_kernel: `(units, 4 * units)`.
        bias: `(4 * units,)`; zeros if None.
        h: `(batch, units)`, the hidden state to start from; zeros if None.
        c: `(batch, units)`, the cell state to start from; zeros if None.
        mask: `(batch, timesteps)`; where it is False, h and c stay as they were.
        inputs_dropout: what x is multiplied with at every step, `(batch, features)`, for each gate in turn.
        recurrent_dropout: the same for h, `(batch, units)`.
        activation: the function written tanh in the equations.
        recurrent_activation: the function written sigma in the equations.

    Returns:
        Arrays by name, each `(batch, timesteps, units)`: the gates i, f, g, o (NaN at masked steps),
        the states c and h after every step, and y, what a layer gives out: h, but at a masked step
        the y before it, and zeros where there is none.
    """
    batch, timesteps, _ = x.shape
    units = recurrent_kernel.shape[0]
    h = np.zeros((batch, units)) if h is None else np.array(h, np.float64)
    c = np.zeros((batch, units)) if c is None else np.array(c, np.float64)
    steps = {name: np.full((batch, timesteps, units), np.nan) for name in "ifgochy"}
    for b in range(batch):
        y = np.zeros(units)
        for t in range(timesteps):
            if mask is None or mask[b, t]:
                seen = [x[b, t] if inputs_dropout is None else x[b, t] * m[b] for m in inputs_dropout or range(4)]
                kept = [h[b] if recurrent_dropout is None else h[b] * m[b] for m in recurrent_dropout or range(4)]
                gates = {
                    "i": _gate(0, seen[0], kept[0], kernel, recurrent_kernel, bias, recurrent_activation),
                    "f": _gate(1, seen[1], kept[1], kernel, recurrent_kernel, bias, recurrent_activation),
                    "g": _gate(2, seen[2], kept[2], kernel, recurrent_kernel, bias, activation),
                    "o": _gate(3, seen[3], kept[3], kernel, recurrent_kernel, bias, recurrent_activation),
                }
                for k in range(units):
                    c[b, k] = gates["f"][k] * c[b, k] + gates["i"][k] * gates["g"][k]
                    h[b, k] = gates["o"][k] * activation(c[b, k])
                for name, gate in gates.items():
                    steps[name][b, t] = gate
                y = h[b].copy()
            steps["c"][b, t] = c[b]
            steps["h"][b, t] = h[b]
            steps["y"][b, t] = y
    return steps


def vanilla_rnn(
    x: Array,
    kernel: Array,
    recurrent_kernel: Array,
    bias: Array | None = None,
    h: Array | None = None,
    *,
    mask: Array | None = None,
    inputs_dropout: list[Array] | None = None,
    recurrent_dropout: list[Array] | None = None,
    activation: Function = np.tanh,
) -> dict[str, Array]:
    """Run a vanilla RNN over `x`; arguments as in `lstm`, with `units` columns instead of `4 * units`.

    Returns:
        `z`, the pre-activation (NaN at masked steps), `h` and `y`, each `(batch, timesteps, units)`.
    """
    batch, timesteps, _ = x.shape
    units = recurrent_kernel.shape[0]
    h = np.zeros((batch, units)) if h is None else np.array(h, np.float64)
    steps = {name: np.full((batch, timesteps, units), np.nan) for name in "zhy"}
    for b in range(batch):
        y = np.zeros(units)
        for t in range(timesteps):
            if mask is None or mask[b, t]:
                seen = x[b, t] if inputs_dropout is None else x[b, t] * inputs_dropout[0][b]
                kept = h[b] if recurrent_dropout is None else h[b] * recurrent_dropout[0][b]
                steps["z"][b, t] = _gate(0, seen, kept, kernel, recurrent_kernel, bias, lambda z: z)
                for k in range(units):
                    h[b, k] = activation(steps["z"][b, t, k])
                y = h[b].copy()
            steps["h"][b, t] = h[b]
            steps["y"][b, t] = y
    return steps


def _gate(number: int, x: Array, h: Array, kernel: Array, recurrent_kernel: Array, bias, function: Function) -> Array:
    """Return function(W x + U h + b) of one gate, unit by unit; `x` is `(features,)`, `h` is `(units,)`."""
    units = len(h)
    values = np.zeros(units)
    for k in range(units):
        column = number * units + k
        z = 0.0 if bias is None else float(bias[column])
        for j in range(len(x)):
            z += float(kernel[j, column]) * float(x[j])
        for j in range(units):
            z += float(recurrent_kernel[j, column]) * float(h[j])
        values[k] = function(z)
    return values


def finite_difference(loss: Callable[[Array], float], at: Array, step: float = 1e-5) -> Array:
    """Return the gradient of `loss` at `at` by central differences: error O(step^2), here about 1e-9."""
    at = np.array(at, np.float64)
    gradient = np.zeros_like(at)
    for index in np.ndindex(*at.shape):
        there = at.copy()
        there[index] = at[index] + step
        above = loss(there)
        there[index] = at[index] - step
        gradient[index] = (above - loss(there)) / (2 * step)
    return gradient
