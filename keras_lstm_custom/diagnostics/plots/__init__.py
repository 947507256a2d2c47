"""Pictures of traces, gradients and weights.

Every function takes plain data of the diagnostics, returns a `matplotlib.figure.Figure` and shows
nothing; save it with `figure.savefig("gates.png")`. They are readable in print and with any colour
vision (`style`).
"""

from keras_lstm_custom.diagnostics.plots.curves import gradients, memory_lengths
from keras_lstm_custom.diagnostics.plots.explanations import attribution, memory_contributions
from keras_lstm_custom.diagnostics.plots.matrices import weights
from keras_lstm_custom.diagnostics.plots.sequence import gates, unit

__all__ = ["attribution", "gates", "gradients", "memory_contributions", "memory_lengths", "unit", "weights"]
