"""Layers of Keras that are written in another way in a file: the same numbers, in ops that every runtime has."""

from __future__ import annotations

from keras_lstm_custom.export.model.embedding import GatheredEmbedding
from keras_lstm_custom.export.model.time_distributed import AtOnce
from keras_lstm_custom.models.live import address

STAND_INS = {"Embedding": GatheredEmbedding, "TimeDistributed": AtOnce}


def stand_in(entry: dict) -> dict:
    """Return the serialised form of what stands for a layer in a file; for `rebuild`."""
    if entry["class_name"] in STAND_INS and entry.get("module") == "keras.layers":
        return {**entry, **address(STAND_INS[entry["class_name"]])}
    return entry
