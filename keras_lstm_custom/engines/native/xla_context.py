"""Whether what is traced now will be compiled by XLA: the one undocumented part of TensorFlow this package asks.

While `tf.function(jit_compile=True)` traces, its graph is in an XLA control flow context. TensorFlow has no
public way to ask for it. `tests/engines/test_native.py` fails when this changes.
"""

from __future__ import annotations


def inside_xla() -> bool:
    """Return whether the graph under construction, or one around it, is compiled by XLA."""
    import tensorflow as tf

    graph = None if tf.executing_eagerly() else tf.compat.v1.get_default_graph()
    while graph is not None:
        context = graph._get_control_flow_context()
        while context is not None:
            if context.IsXLAContext():
                return True
            context = context.outer_context
        graph = getattr(graph, "outer_graph", None)
    return False
