"""Look inside a recurrent model: its gates, its memory, and its gradients through time."""

from keras_lstm_custom.diagnostics.flow import GradientFlow, GradientFlows, Verdict
from keras_lstm_custom.diagnostics.gradients import gradient_flow
from keras_lstm_custom.diagnostics.records import GateTrace, RNNTrace, Traces
from keras_lstm_custom.diagnostics.tracing import trace

__all__ = ["GateTrace", "GradientFlow", "GradientFlows", "RNNTrace", "Traces", "Verdict", "gradient_flow", "trace"]
