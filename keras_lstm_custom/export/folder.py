"""Files and folders that appear whole or not at all, and folders never in place of somebody else's."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from keras_lstm_custom.errors import ExportError

#: The file that marks a folder as one this package wrote, and may write again.
MARK = "keras_lstm_custom.json"


@contextmanager
def new_folder(path: str | os.PathLike) -> Iterator[Path]:
    """Give a folder to write into; when the block ends without an error it takes its place at `path`.

    The one who fills it must write the file `MARK` in it.

    Raises:
        ExportError: something that this package did not write stands at `path`, or it cannot be written.
    """
    target = Path(path)
    if target.exists() and not _is_ours(target):
        raise ExportError(
            f"{str(target)!r} exists and was not written by this package.",
            expected="a path that is free, an empty folder, or an earlier export",
            received="a file" if target.is_file() else f"a folder without {MARK}",
            remedy="Choose another path, or remove what stands there.",
        )
    beside = _beside(target)
    try:
        yield beside
        if target.exists():
            shutil.rmtree(target)
        beside.rename(target)
        target.chmod(0o755)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


@contextmanager
def new_file(path: str | os.PathLike) -> Iterator[Path]:
    """Give a path to write a file to; when the block ends without an error the file takes its place at `path`.

    Raises:
        ExportError: a folder stands at `path`, or it cannot be written.
    """
    target = Path(path)
    if target.is_dir():
        raise _not_writable(target, "a folder of that name")
    beside = _beside(target)
    try:
        yield beside / target.name
        (beside / target.name).replace(target)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _beside(target: Path) -> Path:
    """Make a folder in the place where `target` will stand."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    except OSError as error:
        raise _not_writable(target, f"{type(error).__name__}: {error}") from error


def _not_writable(target: Path, received: str) -> ExportError:
    return ExportError(
        f"{str(target)!r} cannot be written.",
        expected="a path whose folder exists or can be made, with permission to write",
        received=received,
        remedy="Choose another path.",
    )


def _is_ours(path: Path) -> bool:
    return path.is_dir() and ((path / MARK).is_file() or not any(path.iterdir()))
