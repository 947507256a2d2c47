"""TensorFlow's converter, called on one function: quietly, and with errors that say what is wrong."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import keras

from keras_lstm_custom.errors import ExportError
from keras_lstm_custom.writing import scratch


def converted(
    call: Callable[..., dict[str, Any]],
    shapes: Sequence[Sequence[int]],
    dtypes: Sequence[Any],
    inputs: Sequence[str],
    name: str,
) -> bytes:
    """Trace a function, and let TensorFlow's converter write it.

    Args:
        call: returns its results by name.
        shapes: of its arguments.
        dtypes: of its arguments.
        inputs: the names of its arguments.
        name: of the model, or of the layer.
    """
    import tensorflow as tf

    specs = [
        tf.TensorSpec(shape, dtype, argument) for shape, dtype, argument in zip(shapes, dtypes, inputs, strict=True)
    ]
    module = tf.Module()
    module.call = tf.function(call, autograph=False, input_signature=specs)
    with _plain_errors():
        signature = module.call.get_concrete_function()
    with scratch() as folder, _quiet(), _nothing_old_collected():
        try:
            tf.saved_model.save(module, str(folder), signatures={"serving_default": signature})
        except tf.errors.OpError as error:  # TensorFlow has a file system of its own, whose errors are no OSErrors
            raise OSError(error.message) from error
        converter = tf.lite.TFLiteConverter.from_saved_model(str(folder))
        converter.allow_custom_ops = True  # the marks; what else would be custom is refused below
        try:
            return converter.convert()
        except Exception as error:  # the converter raises whatever its C++ part threw
            raise ExportError(
                f"TensorFlow's converter cannot write {name!r}.",
                expected="layers that TFLite's builtin ops can express",
                received=str(error).strip().splitlines()[0][:500],
                remedy="Replace that layer, or export the part of the model without it.",
            ) from error


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Let errors of ours come as they are; Keras adds the arguments of each layer that they pass through."""
    was_on = keras.config.is_traceback_filtering_enabled()
    keras.config.disable_traceback_filtering()
    try:
        yield
    finally:
        if was_on:
            keras.config.enable_traceback_filtering()


@contextmanager
def _nothing_old_collected() -> Iterator[None]:
    """Spare what was made before from garbage collection: the converter collects by itself, which takes a second."""
    frozen = gc.get_freeze_count()  # by the program, which is left so
    if not frozen:
        gc.freeze()
    try:
        yield
    finally:
        if not frozen:
            gc.unfreeze()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the converter's C++ log off the terminal; what it has to say comes as an exception."""
    saved = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)
