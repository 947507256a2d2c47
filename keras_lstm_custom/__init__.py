"""Recurrent layers for Keras 3, and cells of one's own: from their equations, fast, open to inspection."""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from keras_lstm_custom.installation import check_versions

check_versions()  # before anything that an old Keras does not have is looked for

from keras_lstm_custom import activations, initializers
from keras_lstm_custom.cells import GRUCell, LSTMCell, RecurrentCell, SLSTMCell, VanillaRNNCell
from keras_lstm_custom.layers import GRU, LSTM, SLSTM, Recurrent, VanillaRNN, from_keras, to_keras
from keras_lstm_custom.version import __version__

if TYPE_CHECKING:  # what editors and type checkers see of the names below; `tests/test_types.py` compares the two
    from keras_lstm_custom import export, load, tasks, timeseries
    from keras_lstm_custom.diagnostics import (
        GateMonitor,
        attribute,
        gate_weights,
        gradient_flow,
        memory_contributions,
        plots,
        report,
        summary,
        trace,
    )
    from keras_lstm_custom.load import to_torch

#: Loaded on first use, so that a model alone needs none of what they import.
_ON_FIRST_USE = {
    "GateMonitor": "keras_lstm_custom.diagnostics:GateMonitor",
    "attribute": "keras_lstm_custom.diagnostics:attribute",
    "export": "keras_lstm_custom.export",
    "gate_weights": "keras_lstm_custom.diagnostics:gate_weights",
    "gradient_flow": "keras_lstm_custom.diagnostics:gradient_flow",
    "load": "keras_lstm_custom.load",
    "memory_contributions": "keras_lstm_custom.diagnostics:memory_contributions",
    "plots": "keras_lstm_custom.diagnostics.plots",
    "report": "keras_lstm_custom.diagnostics:report",
    "summary": "keras_lstm_custom.diagnostics:summary",
    "tasks": "keras_lstm_custom.tasks",
    "timeseries": "keras_lstm_custom.timeseries",
    "to_torch": "keras_lstm_custom.load:to_torch",
    "trace": "keras_lstm_custom.diagnostics:trace",
}

__all__ = [
    "GRU",
    "LSTM",
    "SLSTM",
    "GRUCell",
    "GateMonitor",
    "LSTMCell",
    "Recurrent",
    "RecurrentCell",
    "SLSTMCell",
    "VanillaRNN",
    "VanillaRNNCell",
    "__version__",
    "activations",
    "attribute",
    "export",
    "from_keras",
    "gate_weights",
    "gradient_flow",
    "initializers",
    "load",
    "memory_contributions",
    "plots",
    "report",
    "summary",
    "tasks",
    "timeseries",
    "to_keras",
    "to_torch",
    "trace",
]


if not TYPE_CHECKING:  # a type checker would take any name for one of ours

    def __getattr__(name: str) -> Any:
        if name not in _ON_FIRST_USE:
            error = f"module {__name__!r} has no attribute {name!r}"
            raise AttributeError(error, name=name, obj=sys.modules[__name__])  # with which Python suggests a near name
        module, _, attribute = _ON_FIRST_USE[name].partition(":")
        value = import_module(module)
        return getattr(value, attribute) if attribute else value


def __dir__() -> list[str]:
    return sorted(__all__)
