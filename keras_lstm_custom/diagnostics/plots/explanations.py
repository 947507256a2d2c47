"""Why a prediction came out as it did: by input and step, and by the memory of each unit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_lstm_custom.diagnostics.explaining.contributions import MemoryContributions
from keras_lstm_custom.diagnostics.explaining.record import Attribution
from keras_lstm_custom.diagnostics.naming import Names, feature_labels, step_labels
from keras_lstm_custom.diagnostics.plots.sequence import check_number, draw_input
from keras_lstm_custom.diagnostics.plots.style import (
    BLACK,
    MOST_NAMES,
    colour_scale,
    grey_out,
    heat_map,
    name_steps,
    signed_scale,
    styled,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: What raises the output and what lowers it: the ends of PuOr, the colours of `signed_scale`.
RAISES, LOWERS = "#542788", "#B35806"


@styled
def attribution(
    found: Attribution,
    sequence: int = 0,
    *,
    input: str | None = None,
    feature_names: Names | None = None,
    step_names: Any = None,
) -> Figure:
    """Draw one sequence and what each of its numbers contributed to the prediction.

    Args:
        found: from `attribute`.
        sequence: its number in the batch.
        input: the name of the input to draw, where the model has several.
        feature_names: of the features.
        step_names: one for each step, or a list of them for each sequence, as the words of a text.

    Returns:
        A figure: the input; a heat map of the contributions, features by steps; their sums by step. Tokens, and an
        input without features, have the sums alone. Steps that a mask left out are grey.

    Raises:
        ArgumentError: there is no such sequence or unit, or names are too few or too many.
    """
    import matplotlib.pyplot as plt

    check_number("sequence", sequence, len(found.prediction))
    values, x = found.of(input)[sequence], found.input(input)[sequence]
    timesteps = len(values)
    names = step_labels(step_names, timesteps, len(found.prediction))
    mask = found.mask_of(input)
    read = np.ones(timesteps, bool) if mask is None else mask[sequence]
    by_step = values if values.ndim == 1 else values.reshape(timesteps, -1).sum(1)
    if values.ndim == 2 and x.shape == values.shape:
        height = min(3.0, max(0.8, 0.22 * values.shape[1]))
        figure, axes = plt.subplots(
            3, 1, sharex=True, figsize=(7.5, 3.6 + height), height_ratios=[1.5, height, 1.3], squeeze=False
        )
        draw_input(axes[0, 0], x, read, feature_names)
        axes[0, 0].set_title("input $x_t$")
        shown = np.where(read[:, None], values, np.nan)
        image = heat_map(axes[1, 0], shown.T, **signed_scale(shown))
        labels = feature_labels(feature_names, values.shape[1])
        if len(labels) <= MOST_NAMES:
            axes[1, 0].set_yticks(range(len(labels)), labels=labels)
        axes[1, 0].set_title("what each number contributed")
        colour_scale(axes[1, 0], image)
    else:
        figure, axes = plt.subplots(1, 1, figsize=(7.5, 2.8), squeeze=False)
    last = axes[-1, 0]
    _draw_sums(last, by_step, read)
    last.set(xlim=(-0.5, timesteps - 0.5), title="what each step contributed")
    name_steps(last, None if names is None else names[sequence], timesteps)
    figure.suptitle(_sum(found, sequence), x=0.01, ha="left")
    return figure


@styled
def memory_contributions(
    parts: MemoryContributions,
    sequence: int = 0,
    units: Sequence[int] | None = None,
    *,
    feature_names: Names | None = None,
    step_names: Any = None,
) -> Figure:
    """Draw what each step put into the memory of each unit, and how much of it was still there at the end.

    Args:
        parts: of one layer, from `memory_contributions`.
        sequence: its number in the batch.
        units: which to show, in this order; None shows all.
        feature_names: of the columns of the layer's input.
        step_names: one for each step, or a list of them for each sequence.

    Returns:
        A figure: the input; a heat map, units by steps, whose rows add up to the cell states beside it (but for what
        was there before the first step); and, where a target was named, what came to it through these from each step.

    Raises:
        ArgumentError: there is no such sequence or unit, or names are too few or too many.
    """
    import matplotlib.pyplot as plt

    batch, timesteps, count = parts.values.shape
    check_number("sequence", sequence, batch)
    chosen = list(range(count)) if units is None else list(units)
    for unit in chosen:
        check_number("unit", unit, count)
    names = step_labels(step_names, timesteps, batch)
    read = np.ones(timesteps, bool) if parts.mask is None else parts.mask[sequence]
    height = min(4.0, max(1.2, 0.14 * len(chosen)))
    rows = 2 + (parts.readout is not None)
    figure, axes = plt.subplots(
        rows, 2, sharex="col", squeeze=False, figsize=(7.8, 2.0 + height + 1.4 * (rows - 2)),
        height_ratios=[1.2, height, *[1.2] * (rows - 2)], width_ratios=[30, 1],
    )  # fmt: skip
    for axis in (axes[0, 1], *axes[2:, 1]):
        axis.remove()
    draw_input(axes[0, 0], parts.x[sequence], read, feature_names)
    axes[0, 0].set_title(f"{parts.name}, sequence {sequence}\ninput $x_t$")
    shown, c = np.where(read[:, None], parts.values[sequence], np.nan)[:, chosen], parts.c[sequence, chosen]
    scale = signed_scale(np.concatenate([shown, c[None]]))
    image = heat_map(axes[1, 0], shown.T, **scale)
    axes[1, 0].set(ylabel="unit", title=r"$i_t\,g_t\,f_{t+1} \cdots f_T$: what is left of what the step put there")
    heat_map(axes[1, 1], c[:, None], **scale)
    axes[1, 1].set(xticks=[], yticks=[], title="$= c$")
    if units is not None:
        axes[1, 0].set_yticks(range(len(chosen)), labels=map(str, chosen))
    figure.colorbar(image, ax=axes[1, 1], pad=0.1, aspect=14, fraction=0.9)
    if parts.readout is not None:
        _draw_sums(axes[2, 0], parts.prediction[sequence].sum(1), read)
        axes[2, 0].set_title(f"what came from each step to {parts.readout.target} through this memory")
    name_steps(axes[-1, 0], None if names is None else names[sequence], timesteps)
    axes[-1, 0].set_xlim(-0.5, timesteps - 0.5)
    return figure


def _draw_sums(axis: Any, sums: np.ndarray, read: np.ndarray) -> None:
    axis.bar(np.arange(len(sums)), sums, width=0.8, color=[RAISES if value > 0 else LOWERS for value in sums])
    axis.axhline(0, color=BLACK, linewidth=0.6)
    axis.set_ylabel("contribution")
    grey_out(axis, read)


def _sum(found: Attribution, sequence: int) -> str:
    """Return how prediction, baseline and contributions belong together."""
    prediction, reference, total = (v[sequence] for v in (found.prediction, found.reference, found.total))
    head = f"sequence {sequence}: {found.target} = {prediction:.4g}"
    if found.method == "occlusion":
        return f"{head}\nocclusion: by how much it falls without the number"
    signed = f"{'−' if total < 0 else '+'} {abs(total):.4g}"
    return f"{head}\n{reference:.4g} at the baseline ({found.baseline}) {signed}, the sum of what is below"
