"""The oracle of the LSTM's options: NumPy float64, one row and step at a time, from the papers' equations.

Gers & Schmidhuber 2000 (peepholes), Greff et al. 2017 (coupled), Sak et al. 2014 (projection, clips), Ba et al. 2016
("joint"), TensorFlow Addons' LayerNormLSTMCell ("addons"), TFLite's fused op ("gate"), Krueger et al. 2016 (zoneout),
Merity et al. 2018 (weight dropout).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tests.oracles.numpy_cells import Array, sigmoid


def layer_norm(z: Array, gamma: Array, beta: Array, epsilon: float) -> Array:
    deviation = z - z.mean()
    return deviation / np.sqrt((deviation**2).mean() + epsilon) * gamma + beta


def lstm_with(
    x: Array,
    weights: Mapping[str, Array],
    h: Array,
    c: Array,
    *,
    mask: Array | None = None,
    keep_h: Array | None = None,
    keep_c: Array | None = None,
    kept_weights: Array | None = None,
    peepholes: bool = False,
    coupled: bool = False,
    projection: int | None = None,
    projection_clip: float | None = None,
    layer_normalization: str | None = None,
    cell_clip: float | None = None,
    zoneout: float = 0.0,
    cell_zoneout: float = 0.0,
    recurrent_weight_dropout: float = 0.0,
) -> dict[str, Array]:
    """Run an LSTM with options over `x`.

    Args:
        x: `(batch, timesteps, features)`.
        weights: by the names of `LSTMCell`.
        h: `(batch, projection or units)`.
        c: `(batch, units)`.
        mask: `(batch, timesteps)`; where it is False, h and c stay as they were.
        keep_h: in training, 1 where a unit of h keeps its old value, `(batch, timesteps, width of h)`; None: inference.
        keep_c: the same for c.
        kept_weights: in training, 1 where a recurrent weight is kept, of the recurrent kernel's shape.

    Returns:
        Arrays by name: gates i, f, g, o (NaN at masked steps), states h, c, and y, what a layer gives out.
    """
    x, h, c = (np.array(a, np.float64) for a in (x, h, c))
    weights = {name: np.asarray(w, np.float64) for name, w in weights.items()}
    batch, timesteps, _ = x.shape
    units, width = c.shape[1], h.shape[1]
    names = "fgo" if coupled else "ifgo"
    columns = {gate: slice(n * units, (n + 1) * units) for n, gate in enumerate(names)}
    recurrent_kernel = weights["recurrent_kernel"]
    if kept_weights is not None:
        recurrent_kernel = recurrent_kernel * kept_weights / (1.0 - recurrent_weight_dropout)
    steps = {name: np.full((batch, timesteps, width if name in "hy" else units), np.nan) for name in "ifgochy"}
    for b in range(batch):
        y = np.zeros(width)
        for t in range(timesteps):
            if mask is None or mask[b, t]:
                from_x, from_h = x[b, t] @ weights["kernel"], h[b] @ recurrent_kernel
                if layer_normalization in ("joint", "addons"):
                    from_x = layer_norm(from_x, weights["kernel_norm_gamma"], weights["kernel_norm_beta"], 1e-3)
                    from_h = layer_norm(from_h, weights["recurrent_norm_gamma"], weights["recurrent_norm_beta"], 1e-3)
                z = {gate: from_x[columns[gate]] + from_h[columns[gate]] for gate in names}

                def gate_input(gate, seen, z=z):
                    value = z[gate] + (weights[f"peephole_{gate}"] * seen if peepholes and gate != "g" else 0.0)
                    bias = weights["bias"][columns[gate]] if "bias" in weights else 0.0
                    if layer_normalization == "gate":
                        return layer_norm(value, weights["gate_gamma"][columns[gate]], bias, 1e-8)
                    return value + bias

                f = sigmoid(gate_input("f", c[b]))
                i = 1.0 - f if coupled else sigmoid(gate_input("i", c[b]))
                g = np.tanh(gate_input("g", None))
                new_c = f * c[b] + i * g
                if cell_clip is not None:
                    new_c = np.minimum(np.maximum(new_c, -cell_clip), cell_clip)
                o = sigmoid(gate_input("o", new_c))
                seen = new_c
                if layer_normalization in ("joint", "addons"):
                    seen = layer_norm(new_c, weights["cell_norm_gamma"], weights["cell_norm_beta"], 1e-3)
                new_h = o * np.tanh(seen)
                if layer_normalization == "addons":
                    new_c = seen
                if projection is not None:
                    new_h = new_h @ weights["projection_kernel"]
                    if projection_clip is not None:
                        new_h = np.minimum(np.maximum(new_h, -projection_clip), projection_clip)
                old_h = zoneout if keep_h is None else keep_h[b, t]
                old_c = cell_zoneout if keep_c is None else keep_c[b, t]
                h[b] = old_h * h[b] + (1.0 - old_h) * new_h
                c[b] = old_c * c[b] + (1.0 - old_c) * new_c
                y = h[b].copy()
                steps["i"][b, t], steps["f"][b, t], steps["g"][b, t], steps["o"][b, t] = i, f, g, o
            steps["h"][b, t], steps["c"][b, t], steps["y"][b, t] = h[b], c[b], y
    return steps
