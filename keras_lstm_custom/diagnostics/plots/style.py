"""The look that all pictures share.

Colours are those of Okabe & Ito 2008 and matplotlib's cividis and PuOr, which readers with any
colour vision can tell apart; lines differ in their dashes, too, so that they survive a
black-and-white print.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec

import numpy as np

from keras_lstm_custom.installation import installing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
BLUE, VERMILION, PURPLE = "#0072B2", "#D55E00", "#CC79A7"
LINES = [(BLUE, "-"), (VERMILION, "--"), (GREEN, "-."), (PURPLE, ":"), (ORANGE, (0, (5, 1))), (SKY, (0, (1, 1)))]
#: Steps that a mask made a layer skip, wherever they are shown.
SKIPPED = "0.75"
#: Names of more steps than this are written for some of them only.
MOST_NAMES = 40
STYLE: dict[Any, Any] = {
    "figure.constrained_layout.use": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": "medium",
    "axes.titlelocation": "left",
    "font.size": 9,
    "legend.frameon": False,
    "savefig.dpi": 150,
}


P = ParamSpec("P")


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Draw in the style of this module, whatever the user's is; the user's stays as it is."""

    @wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> Figure:
        try:
            import matplotlib as mpl
        except ImportError as error:
            raise ImportError(f"Pictures need matplotlib: {installing('plots')}") from error
        with mpl.rc_context(STYLE):
            return draw(*args, **kwargs)

    return drawn


def whole_numbers(most: int | None = None) -> Any:
    """Return what puts ticks at whole numbers only; one where there is only one, such as a single unit."""
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator("auto" if most is None else most, integer=True, min_n_ticks=1)


def colour_scale(axis: Any, image: Any) -> None:
    """Draw the scale of a heat map beside its panel; legends of other panels may be as wide as they like."""
    axis.figure.colorbar(image, cax=axis.inset_axes([1.01, 0, 0.02, 1]))


def heat_map(axis: Any, values: np.ndarray, **scale: Any) -> Any:
    """Draw `values` `(rows, columns)` with one cell for each; where there is no value it is grey."""
    axis.set_facecolor(SKIPPED)
    axis.yaxis.set_major_locator(whole_numbers(4))
    axis.spines[:].set_visible(False)
    return axis.imshow(values, aspect="auto", interpolation="nearest", **scale)


def share_scale() -> dict[str, Any]:
    """Return the colours of what lies between 0 and 1."""
    return {"cmap": "cividis", "vmin": 0, "vmax": 1}


def signed_scale(values: np.ndarray) -> dict[str, Any]:
    """Return colours that are white at zero and as strong on either side."""
    largest = float(np.nanmax(np.abs(values), initial=1e-12))
    return {"cmap": "PuOr", "vmin": -largest, "vmax": largest}


def grey_out(axis: Any, read: np.ndarray) -> None:
    """Paint the steps that were not read grey, `read` being `(timesteps,)`."""
    edges = np.flatnonzero(np.diff(np.concatenate([[True], read, [True]]).astype(int)))
    for start, stop in edges.reshape(-1, 2):
        axis.axvspan(start - 0.5, stop - 0.5, color=SKIPPED, linewidth=0, zorder=0)


def name_steps(axis: Any, names: list[str] | None, timesteps: int) -> None:
    """Write the names of the steps under an axis, or their numbers."""
    if names is None:
        axis.xaxis.set_major_locator(whole_numbers())
        axis.set_xlabel("time step t")
        return
    shown = range(0, timesteps, -(-timesteps // MOST_NAMES))
    longest = max((len(names[step]) for step in shown), default=0)
    crowded = longest * len(shown) > 80
    axis.set_xticks(list(shown), labels=[names[step] for step in shown], rotation=90 if crowded else 0)
