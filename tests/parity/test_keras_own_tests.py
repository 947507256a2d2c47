"""Keras' own tests of its recurrent layers, run with our classes in place of Keras'.

Keras ships its tests in its wheel. This is the one file that may import `keras.src`: it reaches
for those tests, and puts a stand-in for their name `layers` whose recurrent layers and cells are ours.
"""

from __future__ import annotations

from typing import Any

import pytest

import keras_lstm_custom as ours

STAND_INS = {
    "GRU": ours.GRU,
    "GRUCell": ours.GRUCell,
    "LSTM": ours.LSTM,
    "LSTMCell": ours.LSTMCell,
    "SimpleRNN": ours.VanillaRNN,
    "SimpleRNNCell": ours.VanillaRNNCell,
}

#: Keras' test modules, and the test class in each.
SUITES = {
    "gru_test": "GRUTest",
    "lstm_test": "LSTMTest",
    "simple_rnn_test": "SimpleRNNTest",
    "rnn_test": "RNNTest",
    "stacked_rnn_cells_test": "StackedRNNTest",
    "bidirectional_test": "SimpleRNNTest",
    "time_distributed_test": "TimeDistributedTest",
}

#: What is Keras' private matter: (module, test) -> why it says nothing about our layers.
EXCLUDED = {
    ("bidirectional_test", "test_fused_lstm_eligibility"): "asks which of Keras' own layers cuDNN may run in both "
    "directions at once; ours are served by our engines",
    ("bidirectional_test", "test_fused_gru_eligibility"): "as above",
}


class _LayersWithOurs:
    """`keras.src.layers` to a test that asks it for a layer, except for the classes of ours."""

    def __init__(self, layers: Any):
        self._layers = layers

    def __getattr__(self, name: str) -> Any:
        return STAND_INS.get(name) or getattr(self._layers, name)


def _suite(module_name: str, class_name: str) -> type:
    module: Any = pytest.importorskip(f"keras.src.layers.rnn.{module_name}", reason="this Keras ships no tests")
    module.layers = _LayersWithOurs(module.layers)
    suite = getattr(module, class_name)
    excluded = {test: None for module_of_test, test in EXCLUDED if module_of_test == module_name}
    assert all(hasattr(suite, test) for test in excluded), f"{module_name} no longer has a test that EXCLUDED names"
    return type(f"Keras_{module_name}", (suite,), excluded)


for _module, _class in SUITES.items():
    globals()[f"Keras_{_module}"] = _suite(_module, _class)
