"""Folders that appear whole or not at all, and never in place of somebody else's files."""

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
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    except OSError as error:
        raise ExportError(
            f"{str(target)!r} cannot be written.",
            expected="a path whose folder exists or can be made, with permission to write",
            received=f"{type(error).__name__}: {error}",
            remedy="Choose another path.",
        ) from error
    try:
        yield beside
        if target.exists():
            shutil.rmtree(target)
        beside.rename(target)
        target.chmod(0o755)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _is_ours(path: Path) -> bool:
    return path.is_dir() and ((path / MARK).is_file() or not any(path.iterdir()))
