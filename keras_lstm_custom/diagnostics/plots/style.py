"""The look that all pictures share.

Colours are those of Okabe & Ito 2008 and matplotlib's cividis and PuOr, which readers with any
colour vision can tell apart; lines differ in their dashes, too, so that they survive a
black-and-white print.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
BLUE, VERMILION, PURPLE = "#0072B2", "#D55E00", "#CC79A7"
LINES = [(BLUE, "-"), (VERMILION, "--"), (GREEN, "-."), (PURPLE, ":"), (ORANGE, (0, (5, 1))), (SKY, (0, (1, 1)))]
TITLES = {
    "i": "input gate $i_t$",
    "f": "forget gate $f_t$",
    "g": "candidate $g_t$",
    "o": "output gate $o_t$",
    "c": "cell state $c_t$",
    "h": "hidden state $h_t$",
    "z": "pre-activation $z_t$",
}
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


def styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Draw in the style of this module, whatever the user's is; the user's stays as it is."""

    @wraps(draw)
    def drawn(*args: Any, **kwargs: Any) -> Figure:
        try:
            import matplotlib as mpl
        except ImportError as error:
            raise ImportError("Pictures need matplotlib: pip install 'keras_lstm_custom[plots]'") from error
        with mpl.rc_context(STYLE):
            return draw(*args, **kwargs)

    return drawn


def heat_map(axis: Any, values: np.ndarray, **scale: Any) -> Any:
    """Draw `values` `(rows, columns)` with one cell for each; where there is no value it is grey."""
    from matplotlib.ticker import MaxNLocator

    axis.set_facecolor("0.75")
    axis.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    axis.spines[:].set_visible(False)
    return axis.imshow(values, aspect="auto", interpolation="nearest", **scale)


def share_scale() -> dict[str, Any]:
    """Return the colours of what lies between 0 and 1."""
    return {"cmap": "cividis", "vmin": 0, "vmax": 1}


def signed_scale(values: np.ndarray) -> dict[str, Any]:
    """Return colours that are white at zero and as strong on either side."""
    largest = float(np.nanmax(np.abs(values), initial=1e-12))
    return {"cmap": "PuOr", "vmin": -largest, "vmax": largest}
