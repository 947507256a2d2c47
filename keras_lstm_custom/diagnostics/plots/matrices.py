"""Weights by gate."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from keras_lstm_custom.diagnostics.plots.style import BLACK, LINES, heat_map, signed_scale, styled, whole_numbers
from keras_lstm_custom.diagnostics.weights import GateWeights

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@styled
def weights(of: GateWeights) -> Figure:
    """Draw the weights of one layer by gate: kernel and (if there is one) recurrent kernel, as maps and histograms."""
    import matplotlib.pyplot as plt

    parts = of.parts()
    titles = {"kernel": "kernel $W$: input", "recurrent_kernel": "recurrent kernel $U$: from unit"}
    titles = {part: title for part, title in titles.items() if part in parts}  # not every cell has U
    size = (max(4.5, 1.2 + 2.1 * len(of.gates)), 2.2 * (len(titles) + 1))
    figure, axes = plt.subplots(len(titles) + 1, len(of.gates), figsize=size, squeeze=False)
    for row, (part, ylabel) in zip(axes, titles.items(), strict=False):
        scale = signed_scale(np.concatenate([w.reshape(-1) for w in parts[part].values()]))
        for axis, (gate, w) in zip(row, parts[part].items(), strict=True):
            image = heat_map(axis, w, **scale)
            axis.xaxis.set_major_locator(whole_numbers())
            axis.set(xlabel="to unit")
            axis.set_title(of.titles.get(gate, gate) if part == "kernel" else _radius(of, gate))
        row[0].set_ylabel(ylabel)
        figure.colorbar(image, ax=list(row), pad=0.01, aspect=10)
    for part, (color, dashes) in zip(titles, LINES, strict=False):
        counts, edges = of.histogram(part, bins=15)
        for axis, gate in zip(axes[-1], of.gates, strict=True):
            axis.stairs(counts[gate] / counts[gate].sum(), edges, color=color, linestyle=dashes, label=part)
    for axis, gate in zip(axes[-1], of.gates, strict=True):
        if of.bias:
            b = of.bias[gate].reshape(-1)
            axis.plot(b, np.zeros_like(b), "|", color=BLACK, markersize=14, clip_on=False, label="bias of each unit")
        axis.set(xlabel="weight", ylim=(0, None))
    axes[-1, 0].set_ylabel("share of the weights")
    figure.legend(*axes[-1, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    figure.suptitle(of.name)
    return figure


def _radius(of: GateWeights, gate: str) -> str:
    radius = of.spectral_radius.get(gate)
    return "" if radius is None else f"spectral radius {radius:.2f}"
