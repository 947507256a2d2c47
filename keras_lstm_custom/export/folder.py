"""Folders that an export writes: whole or not at all, and never in place of what is somebody else's.

The file `MARK` in such a folder holds the report and the hash of every other file. By it a later export knows what it
may replace: a file that the user changed or added since is named in an error, and stays.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from keras_lstm_custom import writing
from keras_lstm_custom.errors import ExportError

#: The file that marks a folder as one this package wrote, and may write again.
MARK = "keras_lstm_custom.json"
NAMED = 8  #: how many files an error names


@contextmanager
def new_folder(path: str | os.PathLike) -> Iterator[Path]:
    """Give a folder to write into; when the block ends without an error it takes its place at `path`.

    The one who fills it ends with `seal`. A folder that stands at `path` stays the same folder with another content:
    it may be the one that the user is in, what a link leads to, or the place where a disk is mounted.

    Raises:
        ExportError: something that this package did not write stands at `path`, or it cannot be written.
    """
    target = _target(path)
    exists = target.is_dir()
    with writing.private_folder(target if exists else target.parent, target, ExportError) as private:
        new, old = private / "new", private / "old"
        new.mkdir()
        yield new
        writing.sync(new)
        if not exists:
            new.rename(target)
            return
        _check_replaceable(target)  # again: the work may have taken long
        old.mkdir()
        _exchange(target, new, old)


def check_folder(path: str | os.PathLike) -> None:
    """Raise now what `new_folder` would raise after long work, as far as it can be known."""
    target = _target(path)
    with writing.private_folder(target if target.is_dir() else target.parent, target, ExportError):
        pass


def seal(folder: Path, report: str) -> None:
    """Write the mark: the report, given as JSON, and what the folder holds."""
    content = {**json.loads(report), "files": _hashes(folder)}
    (folder / MARK).write_text(json.dumps({**content, "sha256": _hash_of(content)}, indent=2) + "\n")


def _target(path: str | os.PathLike) -> Path:
    target, mode = writing.target_of(path, ExportError)
    if mode is not None and not stat.S_ISDIR(mode):
        raise _taken(target, "a file" if stat.S_ISREG(mode) else "a device, a pipe or a socket")
    if mode is not None:
        _check_replaceable(target)
    return target


def _check_replaceable(target: Path) -> None:
    """Raise unless all that is in a folder was written by an export and is as it was written."""
    try:
        if not _entries(target):
            return
        known = _manifest(target / MARK)
        if known is None:
            raise _taken(target, f"a folder without a valid {MARK}")
        found = _hashes(target)
    except OSError as error:
        raise writing.not_writable(target, ExportError, f"{type(error).__name__}: {error}") from error
    others = [f"{name} ({'changed' if name in known else 'added'})" for name in found if found[name] != known.get(name)]
    if others:
        more = f" and {len(others) - NAMED} more" if len(others) > NAMED else ""
        raise ExportError(
            f"{str(target)!r} holds files that this package did not write, or that were changed since.",
            expected="an earlier export as it was written, an empty folder, or a path that is free",
            received=", ".join(others[:NAMED]) + more,
            remedy="Keep these files elsewhere and remove them here, or choose another path. Nothing was changed.",
        )


def _manifest(mark: Path) -> dict[str, str] | None:
    """Return the hashes that a mark holds; None if it is no mark, or was edited."""
    try:
        content = json.loads(mark.read_bytes())
        seal = content.pop("sha256")
        return content["files"] if seal == _hash_of(content) else None
    except (FileNotFoundError, IsADirectoryError, ValueError, AttributeError, KeyError, TypeError, RecursionError):
        return None


def _hashes(folder: Path) -> dict[str, str]:
    """Return the hash of each file below a folder by its name, the mark left out; a folder or a link has a word."""
    return {
        path.relative_to(folder).as_posix(): _hash_of_file(path)
        for entry in sorted(_entries(folder))
        if entry != MARK
        for path in [folder / entry, *sorted((folder / entry).rglob("*"))]
    }


def _hash_of_file(path: Path) -> str:
    if path.is_symlink():
        return "link"
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"


def _hash_of(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _entries(folder: Path) -> list[str]:
    return [name for name in os.listdir(folder) if not name.startswith(writing.PRIVATE)]


def _exchange(target: Path, new: Path, old: Path) -> None:
    """Move what is in `target` to `old`, and what is in `new` to `target`: all of it or nothing.

    The mark goes first and comes last: a folder in between has none, and is not taken for an export.
    """
    moves = [(target / name, old / name) for name in sorted(_entries(target), key=lambda name: name != MARK)]
    moves += [(new / name, target / name) for name in sorted(_entries(new), key=lambda name: name == MARK)]
    try:
        for source, goal in moves:
            source.rename(goal)
    except BaseException:
        for source, goal in reversed(moves):
            if os.path.lexists(goal) and not os.path.lexists(source):
                goal.rename(source)
        raise


def _taken(target: Path, received: str) -> ExportError:
    return ExportError(
        f"{str(target)!r} exists and was not written by this package.",
        expected="a path that is free, an empty folder, or an earlier export",
        received=received,
        remedy="Choose another path, or remove what stands there.",
    )
