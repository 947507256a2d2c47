"""Files as the tests want them: made without being run, and their ops counted."""

from __future__ import annotations

from collections import Counter


def float_file(prepared, *, stateful=False) -> bytes:
    """Return the float32 TFLite file of a prepared model."""
    from keras_lstm_custom.export.convert import float_graph

    return float_graph(prepared, stateful=stateful).pack()


def op_counts(content: bytes) -> dict[str, int]:
    """Return how often each op stands in a file, all subgraphs together; a custom op by its own name."""
    from keras_lstm_custom.export.file.graph import Graph
    from keras_lstm_custom.export.file.origin import name_of

    return dict(Counter(name_of(part, operator) for part in Graph(content).parts for operator in part.operators))
