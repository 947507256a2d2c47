"""Engines: ways to run a cell over time.

`contract` says what an engine is, `registry` has the table of them and chooses, `measured` says where "auto" takes a
fast one. An engine is a module here with its own name, or the folder `native`; how it computes is in the folder of its
backend: `tensorflow`, `jax`, `torch`. What is the same for several engines (masks, checkpoints, no timesteps, higher
derivatives, a device without memory) is a module here, too.
"""

from keras_lstm_custom.engines.contract import Engine, EngineName, Request, Result, Support
from keras_lstm_custom.engines.registry import ENGINES, choose, explain, run

__all__ = ["ENGINES", "Engine", "EngineName", "Request", "Result", "Support", "choose", "explain", "run"]
