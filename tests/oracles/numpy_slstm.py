"""The oracle of the sLSTM: NumPy float64, without the stabiliser where it cancels out, from Beck et al. 2024."""

from __future__ import annotations

import numpy as np

from tests.oracles.numpy_cells import Array, sigmoid


def slstm(
    x: Array,
    kernel: Array,
    recurrent_kernel: Array,
    bias: Array | None = None,
    h: Array | None = None,
    c: Array | None = None,
    n: Array | None = None,
    m: Array | None = None,
    *,
    mask: Array | None = None,
) -> dict[str, Array]:
    """Run an sLSTM over `x`: equations 8 to 14 of the paper with exp(m) c and exp(m) n in place of c and n.

    Args:
        x: `(batch, timesteps, features)`.
        kernel: `(features, 4 * units)`, gates in the order i, f, g, o.
        recurrent_kernel: `(heads, units / heads, 4 * units / heads)`.
        bias: `(4 * units,)`.
        h, c, n, m: `(batch, units)`; zeros, and m = -inf, if None.
        mask: `(batch, timesteps)`; where it is False, the states stay as they were.

    Returns:
        The states h, c, n, m after every step, and y, what a layer gives out.
    """
    x, kernel, recurrent_kernel = (np.asarray(a, np.float64) for a in (x, kernel, recurrent_kernel))
    batch, timesteps, _ = x.shape
    units = kernel.shape[1] // 4
    heads, width, _ = recurrent_kernel.shape
    h, c, n = (np.zeros((batch, units)) if s is None else np.array(s, np.float64) for s in (h, c, n))
    m = np.full((batch, units), -np.inf) if m is None else np.array(m, np.float64)
    steps = {name: np.full((batch, timesteps, units), np.nan) for name in "hcnmy"}
    for b in range(batch):
        y = np.zeros(units)
        for t in range(timesteps):
            if mask is None or mask[b, t]:
                z = x[b, t] @ kernel + (0.0 if bias is None else bias)
                z = {gate: z[k * units : (k + 1) * units].copy() for k, gate in enumerate("ifgo")}
                for head in range(heads):
                    own = slice(head * width, (head + 1) * width)
                    for k, gate in enumerate("ifgo"):
                        block = recurrent_kernel[head][:, k * width : (k + 1) * width]
                        z[gate][own] += h[b, own] @ block
                share, forget = np.exp(z["i"]), sigmoid(z["f"])
                big_c = forget * np.exp(m[b]) * c[b] + share * np.tanh(z["g"])
                big_n = forget * np.exp(m[b]) * n[b] + share
                m[b] = np.maximum(z["i"], np.log(forget) + m[b])
                h[b] = sigmoid(z["o"]) * big_c / big_n
                c[b], n[b] = big_c / np.exp(m[b]), big_n / np.exp(m[b])
                y = h[b].copy()
            for name, value in {"h": h, "c": c, "n": n, "m": m}.items():
                steps[name][b, t] = value[b]
            steps["y"][b, t] = y
    return steps
