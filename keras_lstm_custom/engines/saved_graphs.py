"""Whether the graph under construction may end up in a file: what "auto" may put into it.

`model.export`, `tf.saved_model.save`, `keras.export.ExportArchive` and the TFLite converter all write graphs, also
such as were traced by a call long before. So what decides is the graph, not whether somebody is saving now: under
TensorFlow any `tf.function` in inference may be saved, except those of Keras' own trainer, which a file never holds.
In it "auto" uses only engines whose graph is plain operations of TensorFlow, as that of `keras.layers` is: neither
operations of our own, which no other process has, nor functions that XLA must compile, which not every runtime can.

A graph that takes gradients while `training` is a training step. It is seldom saved, and speed counts most there, so
"auto" uses every engine; but a graph with operations of our own then refuses to be saved, instead of writing a file
that does not load.
"""

from __future__ import annotations

from functools import cache

import keras

from keras_lstm_custom.engines.contract import Engine, Request, Support
from keras_lstm_custom.keras_hooks import inside_trainer, recording_gradients

WHY_NOT = (
    "could serve, but this tf.function can be saved, and what this engine puts into it does not load everywhere; "
    "auto uses it in eager calls, in Keras' fit, evaluate and predict, and in a tf.function that takes gradients"
)


def allows(engine: Engine, request: Request) -> Support:
    """Return whether "auto" may use the engine in the graph under construction."""
    if engine.graph == "plain" or not _in_a_users_function() or _trains(request):
        return Support(True, "")
    return Support(False, WHY_NOT)


def forbid_saving(engine: Engine) -> None:
    """Let TensorFlow refuse to save the graph under construction if "auto" put an operation of ours into it."""
    if engine.graph == "own" and _in_a_users_function():
        import tensorflow as tf

        tf.raw_ops.VarIsInitializedOp(resource=_not_to_be_saved(engine.name))


def _trains(request: Request) -> bool:
    return request.training and recording_gradients()


def _in_a_users_function() -> bool:
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    from keras_lstm_custom.engines.native.xla_context import inside_xla

    # What XLA compiles holds the operations of no library but TensorFlow's, since XLA knows no others.
    return not (tf.executing_eagerly() or inside_xla() or inside_trainer())


@cache
def _not_to_be_saved(engine: str):
    """Return a resource that nothing tracks: a function that captures it cannot be saved, and its name says why."""
    import tensorflow as tf

    name = f"the engine {engine!r} of keras_lstm_custom; pass engine='reference' to the layers of what is to be saved"
    with tf.init_scope(), tf.device("CPU:0"):
        return tf.raw_ops.VarHandleOp(dtype=tf.float32, shape=[], shared_name=name)
