"""Look inside a recurrent model: its gates, its memory, and its gradients through time."""

from keras_lstm_custom.diagnostics.callback import GateMonitor
from keras_lstm_custom.diagnostics.explaining.attribution import attribute
from keras_lstm_custom.diagnostics.explaining.contributions import MemoryContributions, memory_contributions
from keras_lstm_custom.diagnostics.explaining.record import Attribution
from keras_lstm_custom.diagnostics.flow import GradientFlow, GradientFlows, Verdict
from keras_lstm_custom.diagnostics.gradients import gradient_flow
from keras_lstm_custom.diagnostics.records import CellTrace, GateTrace, RNNTrace
from keras_lstm_custom.diagnostics.reporting import report
from keras_lstm_custom.diagnostics.summaries import GateSummary, RNNSummary, Summary, summary
from keras_lstm_custom.diagnostics.traces import Traces
from keras_lstm_custom.diagnostics.tracing import trace
from keras_lstm_custom.diagnostics.weights import GateWeights, gate_weights

__all__ = [
    "Attribution",
    "CellTrace",
    "GateMonitor",
    "GateSummary",
    "GateTrace",
    "GateWeights",
    "GradientFlow",
    "GradientFlows",
    "MemoryContributions",
    "RNNSummary",
    "RNNTrace",
    "Summary",
    "Traces",
    "Verdict",
    "attribute",
    "gate_weights",
    "gradient_flow",
    "memory_contributions",
    "report",
    "summary",
    "trace",
]
