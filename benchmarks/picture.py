"""The picture of `speed.py`: for each shape, how many times as fast as Keras each candidate is; whole models; memory.

`python benchmarks/picture.py runs/speed.json` draws it again.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import harness

#: Colour, marker and size of each candidate; ours are filled and warm, the others are grey and hollow.
STYLES = {
    "keras XLA": ("#8a8f98", "s", 30),
    "tf_keras": ("#8a8f98", "v", 30),
    "torch": ("#2f6db3", "D", 32),
    "jax": ("#5aa17f", "^", 36),
    "portable": ("#e8a33d", "o", 42),
    "native": ("#c8452f", "o", 70),
    "auto": ("#1d1d1f", "|", 130),
}
SOLID = ("portable", "native")
TICKS = {1 / 8: "⅛", 1 / 4: "¼", 1 / 2: "½", **{2**n: f"{2**n}" for n in range(6)}}


def draw(result: dict, path: Path) -> Path:
    """Draw the figures of a run; return the file."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows = [[row for row in result["layers"] if row["training"] == mode] for mode in (True, False)]
    height = 0.42 * len(rows[0]) + 1.2
    figure = plt.figure(figsize=(11, height + 2.9), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=[height, 2.3])
    axes = above.subplots(1, 2, sharex=True, sharey=True)
    for axis, part, title in zip(axes, rows, ("Training: forward and backward", "Inference"), strict=True):
        _ratios(axis, part)
        axis.set_title(title, loc="left", fontsize=11)
    low, high = axes[0].get_xlim()
    axes[0].set_xticks(*zip(*[(t, name) for t, name in TICKS.items() if low < t < high], strict=True))
    handles, names = axes[0].get_legend_handles_labels()
    above.legend(handles, names, loc="outside lower center", ncols=len(names), frameon=False, fontsize=9)
    left, right = below.subplots(1, 2)
    _models(left, result["models"])
    _memory(right, result["memory"][-1])
    for axis in (*axes, left, right):
        axis.spines[["top", "right", "left"]].set_visible(False)
        axis.tick_params(axis="y", length=0)
    machine = result["machine"]
    figure.suptitle(
        f"How many times as fast as keras.layers.LSTM ({machine['processor']}, {machine['threads']} threads)",
        fontsize=12,
    )
    file = path.with_name(path.name + ".png")
    figure.savefig(file, dpi=140)
    plt.close(figure)
    return file


def _ratios(axis, rows) -> None:
    """Draw one line for each shape, and on it one mark for each candidate."""
    places = range(len(rows))
    axis.axvline(1, color="black", linewidth=1, zorder=1)
    axis.annotate(" Keras", (1, -0.9), ha="left", va="top", fontsize=8)
    for name, (colour, marker, size) in STYLES.items():
        values = [harness.ratio(row["candidates"], "keras", name) for row in rows]
        points = [(value, place) for value, place in zip(values, places, strict=True) if value]
        if points:
            x, y = zip(*points, strict=True)
            colours = {"color": colour} if marker == "|" else {"edgecolor": colour}
            colours |= {} if marker == "|" else {"facecolor": colour if name in SOLID else "white"}
            axis.scatter(x, y, size, label=name, marker=marker, linewidth=1.6, zorder=3, **colours)
    axis.set_xscale("log")
    axis.minorticks_off()
    axis.set_ylim(len(rows) - 0.4, -0.9)
    axis.set_yticks(places, ["{} × {},  {} → {}".format(*row["shape"]) for row in rows], fontsize=9)
    axis.grid(axis="both", color="#e6e6e6", linewidth=0.8)
    axis.set_axisbelow(True)
    if axis.get_subplotspec().is_first_col():
        axis.set_ylabel("batch × steps,  features → units", fontsize=9)


def _models(axis, rows) -> None:
    """Draw the seconds of an epoch, Keras above ours."""
    for n, row in enumerate(rows):
        for offset, name, colour in ((-0.18, "keras", "#c9cdd3"), (0.18, "auto", "#c8452f")):
            seconds = harness.median(row["candidates"][name]) / 1e3
            axis.barh(n + offset, seconds, 0.32, color=colour)
            axis.annotate(f" {seconds:.2f} s, {name}", (seconds, n + offset), va="center", fontsize=8)
    axis.set_yticks(range(len(rows)), [row["model"].replace(", ", ",\n") for row in rows], fontsize=8)
    axis.set_ylim(len(rows) - 0.5, -0.5)
    axis.margins(x=0.25)
    axis.set_title("model.fit: seconds of one epoch", loc="left", fontsize=11)


def _memory(axis, row) -> None:
    """Draw the peak memory of each candidate."""
    names = list(row["MiB"])
    colours = {"keras": "#c9cdd3", **{name: style[0] for name, style in STYLES.items()}}
    for n, name in enumerate(names):
        axis.barh(n, row["MiB"][name], 0.7, color=colours.get(name, "#c9cdd3"))
        axis.annotate(f" {row['MiB'][name]:.0f}", (row["MiB"][name], n), va="center", fontsize=8)
    axis.set_yticks(range(len(names)), names, fontsize=8)
    axis.set_ylim(len(names) - 0.4, -0.6)
    axis.margins(x=0.1)
    axis.set_title("Peak memory of training, MiB: {} × {},  {} → {}".format(*row["shape"]), loc="left", fontsize=11)


if __name__ == "__main__":
    source = Path(sys.argv[1])
    print(draw(json.loads(source.read_text()), source.with_suffix("")))
