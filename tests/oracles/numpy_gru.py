"""The oracle of the GRU: NumPy float64, one row and step at a time, each gate with weights of its own."""

from __future__ import annotations

import numpy as np

from tests.oracles.numpy_cells import Array, Function, sigmoid


def gru(
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
    recurrent_activation: Function = sigmoid,
    reset_after: bool = True,
) -> dict[str, Array]:
    """Run a GRU over `x`; arguments as of `numpy_cells.lstm`, gates in the order z, r, n.

    Returns:
        z, r, n (NaN at masked steps), h after every step, and y, what a layer gives out.
    """
    x, kernel, recurrent_kernel = (np.asarray(a, np.float64) for a in (x, kernel, recurrent_kernel))
    batch, timesteps, _ = x.shape
    units = recurrent_kernel.shape[0]
    h = np.zeros((batch, units)) if h is None else np.array(h, np.float64)
    to_x, to_h = np.zeros(3 * units), np.zeros(3 * units)
    if bias is not None:
        to_x, to_h = (bias[0], bias[1]) if reset_after else (bias, to_h)
    z_of, r_of, n_of = slice(units), slice(units, 2 * units), slice(2 * units, None)
    steps = {name: np.full((batch, timesteps, units), np.nan) for name in "zrnhy"}
    for b in range(batch):
        y = np.zeros(units)
        for t in range(timesteps):
            if mask is None or mask[b, t]:
                x_z, x_r, x_n = [x[b, t] if inputs_dropout is None else x[b, t] * m[b] for m in inputs_dropout or "zrn"]
                h_z, h_r, h_n = [h[b] if recurrent_dropout is None else h[b] * m[b] for m in recurrent_dropout or "zrn"]
                z = recurrent_activation(
                    x_z @ kernel[:, z_of] + to_x[z_of] + h_z @ recurrent_kernel[:, z_of] + to_h[z_of]
                )
                r = recurrent_activation(
                    x_r @ kernel[:, r_of] + to_x[r_of] + h_r @ recurrent_kernel[:, r_of] + to_h[r_of]
                )
                if reset_after:
                    n = activation(
                        x_n @ kernel[:, n_of] + to_x[n_of] + r * (h_n @ recurrent_kernel[:, n_of] + to_h[n_of])
                    )
                else:
                    n = activation(x_n @ kernel[:, n_of] + to_x[n_of] + (r * h_n) @ recurrent_kernel[:, n_of])
                h[b] = z * h[b] + (1.0 - z) * n
                y = h[b].copy()
                steps["z"][b, t], steps["r"][b, t], steps["n"][b, t] = z, r, n
            steps["h"][b, t] = h[b]
            steps["y"][b, t] = y
    return steps
