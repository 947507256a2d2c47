"""The one way in which this package writes files: beside their place and private, then renamed.

What stood at a path stands there until the new file is whole, and after every failure. A link is written through to
what it leads to, a leading `~` is the home folder, and folders that are missing are made (and taken away again if
nothing came into them). A file that is replaced keeps its permissions; a new one gets those of the umask.

A signal that ends the process (SIGTERM, SIGHUP) first unwinds the block, as Ctrl-C does, so that nothing is left
behind. That is done in the main thread and where the process has no handler of its own; a handler of the user's is
left alone. Where it cannot be done (another thread, SIGKILL) a hidden folder named `PRIVATE...` may stay, which is
nobody's and may be deleted.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
import stat
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from keras_lstm_custom.errors import ExportError, RecurrentError

#: How the names of private folders begin.
PRIVATE = ".keras_lstm_custom-"

#: The signals that ask a process to end and that Python does not turn into an exception by itself.
ENDING = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]

Error = type[RecurrentError]


@contextmanager
def new_file(path: str | os.PathLike, error: Error = ExportError) -> Iterator[Path]:
    """Give a path to write a file to; when the block ends without an error the file takes its place at `path`.

    Args:
        path: where the file is to stand.
        error: what to raise if it cannot be written; any `OSError` of the block becomes one, too.
    """
    target = file_target(path, error)
    with private_folder(target.parent, target, error) as folder:
        file = folder / target.name
        yield file
        sync(file)
        if target.exists():
            shutil.copymode(target, file)
        os.replace(file, target)


def check_file(path: str | os.PathLike, error: Error = ExportError) -> None:
    """Raise now what `new_file` would raise after long work, as far as it can be known."""
    target = file_target(path, error)
    with private_folder(target.parent, target, error):
        pass


def write_bytes(path: str | os.PathLike, content: bytes, error: Error = ExportError) -> None:
    """Write a file of bytes."""
    with new_file(path, error) as file:
        file.write_bytes(content)


def write_text(path: str | os.PathLike, text: str, error: Error = ExportError) -> None:
    """Write a file of text in UTF-8, its line ends as they are."""
    write_bytes(path, text.encode(), error)


def write_npz(path: str | os.PathLike, arrays: Mapping[str, Any], error: Error = ExportError) -> None:
    """Write arrays to one compressed file, under the very name that was asked for."""
    import numpy as np

    with new_file(path, error) as file, file.open("wb") as opened:  # given a path, NumPy would append ".npz"
        np.savez_compressed(opened, **arrays)


@contextmanager
def scratch(error: Error = ExportError) -> Iterator[Path]:
    """Give a folder for files that are needed only in the block, where the system keeps such files."""
    import tempfile

    try:
        with ending_cleanly(), tempfile.TemporaryDirectory(prefix=PRIVATE[1:]) as folder:
            yield Path(folder)
    except OSError as reason:
        raise error(
            "A temporary file cannot be written.",
            expected="a folder for temporary files with room in it",
            received=_told(reason),
            remedy="Make room there, or name another folder in the variable TMPDIR.",
        ) from reason


@contextmanager
def private_folder(place: Path, target: Path, error: Error) -> Iterator[Path]:
    """Give a folder in `place` that nobody else can look into, for what will stand at `target`; it goes at the end."""
    # Its name is known before it is made, so that no signal can come between its making and its cleaning up.
    folder = place / f"{PRIVATE}{secrets.token_hex(8)}"
    missing: list[Path] = []
    with ending_cleanly():
        try:
            missing += [each for each in (place, *place.parents) if not each.exists()]
            place.mkdir(parents=True, exist_ok=True)
            folder.mkdir(mode=0o700)
            yield folder
        except OSError as reason:
            raise not_writable(target, error, _told(reason)) from reason
        finally:
            _here.cleaning = True
            shutil.rmtree(folder, ignore_errors=True)
            for made in missing:
                with suppress(OSError):
                    made.rmdir()  # which only an empty folder lets happen
            _here.cleaning = False


def file_target(path: str | os.PathLike, error: Error) -> Path:
    """Return where a file asked for at `path` will stand, or raise because it cannot."""
    target, mode = target_of(path, error)
    if os.fspath(path).endswith(os.sep) or (mode is not None and stat.S_ISDIR(mode)):
        raise not_writable(path, error, "the name of a folder")
    if mode is not None and not stat.S_ISREG(mode):
        raise not_writable(path, error, "a device, a pipe or a socket, which is no file")
    if mode is not None and _is_own_output(target):
        raise not_writable(path, error, "the file that this process prints to")
    if mode is not None and not os.access(target, os.W_OK):
        raise not_writable(path, error, "a file that is protected against writing")
    return target


def _is_own_output(file: Path) -> bool:
    """Return whether standard output or error go to a file, which is what `/dev/stdout` leads to after `> file`."""
    for stream in (1, 2):
        with suppress(OSError):
            if os.path.samestat(os.stat(file), os.fstat(stream)):
                return True
    return False


def target_of(path: str | os.PathLike, error: Error) -> tuple[Path, int | None]:
    """Return the place that a path leads to, through links and `~`, and the mode of what stands there."""
    if not isinstance(path, (str, os.PathLike)) or not isinstance(os.fspath(path), str):
        raise not_writable(path, error, f"{path!r}, which is no str and no Path")
    text = os.path.expanduser(os.fspath(path))
    if not text:
        raise not_writable(path, error, "an empty path")
    if re.match("[A-Za-z][A-Za-z0-9+.-]+:/", text):  # with one slash, as a Path has it
        raise not_writable(path, error, "the address of another computer; this package writes local files only")
    if text.startswith("~") and os.sep in text and not os.path.exists(text.split(os.sep)[0]):
        raise not_writable(path, error, "the home folder of a user who is not known here")
    try:
        try:
            mode = os.stat(text).st_mode
        except FileNotFoundError:
            mode = None
        return Path(os.path.realpath(text)), mode
    except (OSError, ValueError) as reason:  # a name too long, a circle of links, a character that names cannot have
        raise not_writable(path, error, _told(reason)) from reason


def not_writable(path: Any, error: Error, received: str) -> RecurrentError:
    """Return the error that says why nothing was written."""
    return error(
        f"{str(path)!r} cannot be written.",
        expected="a path whose folder exists or can be made, with permission to write and room for the content",
        received=received,
        remedy="Choose another path, or make room. What stood there is as it was.",
    )


def sync(path: Path) -> None:
    """Bring a file, or the files of a folder, to the disk, so that an error shows before the old ones go."""
    for file in [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]:
        descriptor = os.open(file, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


#: Of each thread: whether it is cleaning up, which no signal may break off.
_here = threading.local()


class _Ended(BaseException):
    """A signal asked the process to end; it will, once all is cleaned up."""


@contextmanager
def ending_cleanly() -> Iterator[None]:
    """Let a signal that ends the process unwind the block first; the process then ends by that signal."""
    in_main = threading.current_thread() is threading.main_thread()
    taken = [number for number in ENDING if in_main and signal.getsignal(number) is signal.SIG_DFL]
    received: list[int] = []

    def end(number, frame):
        received.append(number)
        if len(received) == 1 and not getattr(_here, "cleaning", False):
            raise _Ended

    try:
        for number in taken:
            signal.signal(number, end)
        yield
    finally:
        for number in taken:
            if signal.getsignal(number) is end:
                signal.signal(number, signal.SIG_DFL)
        if received:
            os.kill(os.getpid(), received[0])


def _told(reason: Exception) -> str:
    return f"{type(reason).__name__}: {reason}"
