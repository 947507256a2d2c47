"""Engines: ways to run a cell over time. `registry` chooses, `contract` says what an engine is."""

from keras_lstm_custom.engines.contract import Engine, EngineName, Request, Result, Support
from keras_lstm_custom.engines.registry import ENGINES, choose, explain, run

__all__ = ["ENGINES", "Engine", "EngineName", "Request", "Result", "Support", "choose", "explain", "run"]
