"""Loads the native library into TensorFlow, once, and says why where that cannot be.

A library is loaded only if its seal (`build.seal`) says that it is whole: one that is cut off, or filled with zeros,
ends the process when it is loaded, and no error can be caught.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import re
import warnings
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from keras_lstm_custom.engines.native.build import LIBRARY, REMEDY, SEAL, SYSTEMS, sources

#: Names another library than the one beside this file.
VARIABLE = "KERAS_LSTM_CUSTOM_NATIVE"
THREADS_VARIABLE = "TF_NUM_INTRAOP_THREADS"  #: TensorFlow's own
MOST_THREADS = 1024  #: a job of `thread_pool.h` has up to 2**16 tasks, one for each thread


class Native(NamedTuple):
    """The loaded operations, or None and the reason."""

    operations: Any
    reason: str


@cache
def load() -> Native:
    """Return TensorFlow's module of the library's operations; the reason names the instruction set in use.

    A file that is there and cannot be used is warned of; that none was built is not.
    """
    if platform.system().lower() not in SYSTEMS:
        return Native(None, f"is built for Linux and macOS only, and this is {platform.system()}")
    path = Path(os.environ.get(VARIABLE) or LIBRARY)
    if not os.path.lexists(path):
        return Native(None, f"is not built: there is no {path}; build it with {REMEDY}")
    reason = problem(path)
    if reason is None:
        try:
            return _loaded(path)
        except Exception as error:  # whatever TensorFlow or the loader of libraries makes of it
            reason = f"cannot be loaded ({error})"
    warnings.warn(f"The native library {path} {reason}. Another engine serves, more slowly.", stacklevel=2)
    return Native(None, f"{path} {reason}; build it with {REMEDY}")


def problem(path: Path) -> str | None:
    """Return why the file is not to be loaded, or None."""
    try:
        if not path.is_file():
            return "is not a file"
        content = path.read_bytes()
    except OSError as error:
        return f"cannot be read ({error})"
    pattern = re.escape(SEAL).replace(r"\{sources\}", "([0-9a-f]{64})").replace(r"\{content\}", "([0-9a-f]{64})")
    size = len(SEAL.format(sources="0" * 64, content="0" * 64))
    seal = re.fullmatch(pattern.encode(), content[-size:])
    if seal is None:
        return "is cut off, or was not made by this package"
    built_from, expected = (value.decode() for value in seal.groups())
    if built_from != sources():
        return "was built from other sources than those here"
    if hashlib.sha256(content[:-size]).hexdigest() != expected:
        return "is damaged: its bytes are not those that were built"
    return None


def _loaded(path: Path) -> Native:
    import tensorflow as tf

    operations = tf.load_op_library(str(path))  # first: TensorFlow sees only what registers itself meanwhile
    library = ctypes.CDLL(str(path))
    library.klc_configure.restype = ctypes.c_char_p
    threads, note = threads_of(tf.config.threading.get_intra_op_parallelism_threads())
    name = library.klc_configure(threads, b"")
    return Native(operations, f"compiled loops for {name.decode()}{note}")


def threads_of(configured: int) -> tuple[int, str]:
    """Return the number of threads as TensorFlow reads it, 0 for one on each processor, and what to say about it."""
    text = os.environ.get(THREADS_VARIABLE) or "0"
    # TensorFlow takes what is no whole number of 32 bits, or not above 0, as if it were not set.
    readable = re.fullmatch(r"\s*[+-]?0*[0-9]{1,10}\s*", text, re.ASCII) and abs(int(text)) < 2**31
    asked = configured if configured > 0 else int(text) if readable else 0
    if configured <= 0 and (not readable or asked < 0):
        note = f"{THREADS_VARIABLE}={text!r} is no number of threads, so there is one for each processor"
        warnings.warn(f"{note}, as in TensorFlow.", stacklevel=2)
        return 0, f"; {note}"
    if asked > MOST_THREADS:
        return MOST_THREADS, f"; on {MOST_THREADS} threads, the most it takes, of {asked}"
    return asked, ""
