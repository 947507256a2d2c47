"""Loads the native library into TensorFlow, once, and says why where that cannot be."""

from __future__ import annotations

import ctypes
import os
import platform
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from keras_lstm_custom.engines.native.build import LIBRARY, REMEDY, sources

#: Names another library than the one beside this file.
VARIABLE = "KERAS_LSTM_CUSTOM_NATIVE"


class Native(NamedTuple):
    """The loaded operations, or None and the reason."""

    operations: Any
    reason: str


@cache
def load() -> Native:
    """Return TensorFlow's module of the library's operations; the reason names the instruction set in use."""
    import tensorflow as tf

    if platform.system() != "Linux":
        return Native(None, f"is built for Linux only, and this is {platform.system()}")
    path = Path(os.environ.get(VARIABLE, LIBRARY))
    if not path.exists():
        return Native(None, f"is not built: there is no {path}; build it with {REMEDY}")
    try:
        operations = tf.load_op_library(str(path))  # first: TensorFlow sees only what registers itself meanwhile
        library = ctypes.CDLL(str(path))
        library.klc_sources.restype = library.klc_configure.restype = ctypes.c_char_p
        if library.klc_sources().decode() != sources():
            return Native(None, f"{path} was built from other sources than those here; build it with {REMEDY}")
    except (tf.errors.OpError, OSError, AttributeError) as error:
        return Native(None, f"{path} cannot be loaded ({error}); build it with {REMEDY}")
    threads = tf.config.threading.get_intra_op_parallelism_threads()
    threads = threads or int(os.environ.get("TF_NUM_INTRAOP_THREADS") or 0)
    name = library.klc_configure(threads, b"")
    return Native(operations, f"compiled loops for {name.decode()}")
