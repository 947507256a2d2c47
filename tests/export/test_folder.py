"""Folders of an export: whole or not at all, and what the user changed or added in one stays."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from keras_lstm_custom import writing
from keras_lstm_custom.errors import ExportError
from keras_lstm_custom.export import folder
from keras_lstm_custom.export.folder import MARK


def export(path, text):
    """Write what a package looks like: files, a folder in it, an empty one, and the mark."""
    with folder.new_folder(path) as place:
        (place / "main.cc").write_text(text)
        (place / f"only_{text}").write_text(text)
        (place / "variables").mkdir()
        (place / "variables" / "data").write_bytes(b"\0" + text.encode())
        (place / "assets").mkdir()
        folder.seal(place, '{"path": "x"}')


def state(path):
    """Return all that is below a path: names, contents, where links lead."""
    return {
        found.relative_to(path).as_posix(): os.readlink(found)
        if found.is_symlink()
        else found.read_bytes()
        if found.is_file()
        else None
        for found in path.rglob("*")
    }


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("path", ["out", "out/", "a/b/out", "two words/ü", "-x", "link", "dangling", "empty"])
def test_a_free_place_an_empty_folder_and_an_earlier_export_are_filled(here, path):
    (here / "far" / "real").mkdir(parents=True)
    (here / "empty").mkdir()
    (here / "link").symlink_to("far/real")
    (here / "dangling").symlink_to("far/none")
    export(path, "one")
    assert (here / path / "main.cc").read_text() == "one"
    export(path, "two")
    names = {MARK, "main.cc", "only_two", "variables", "variables/data", "assets"}
    assert set(state(here / path)) == names
    assert (here / path / "variables" / "data").read_bytes() == b"\0two"
    assert (here / "link").is_symlink()
    assert (here / "dangling").is_symlink()
    assert not [name for name in state(here) if writing.PRIVATE in name]


def test_the_folder_one_is_in_stays_the_folder_one_is_in(here, monkeypatch):
    export("out", "one")
    monkeypatch.chdir(here / "out")
    export(".", "two")
    assert Path("main.cc").read_text() == "two"
    assert Path.cwd() == here / "out"
    assert os.listdir(here) == ["out"]


def change(out):
    (out / "main.cc").write_text("mine")


def change_deep_in(out):
    (out / "variables" / "data").write_text("mine")


def add(out):
    (out / "notes.txt").write_text("mine")


def add_deep_in(out):
    (out / "assets" / "notes.txt").write_text("mine")


def add_a_folder(out):
    (out / "mine").mkdir()


def put_a_link(out):
    (out / "main.cc").rename(out.parent / "main.cc")
    (out / "main.cc").symlink_to("../main.cc")


USERS = {
    change: r"main\.cc \(changed\)",
    change_deep_in: r"variables/data \(changed\)",
    add: r"notes\.txt \(added\)",
    add_deep_in: r"assets/notes\.txt \(added\)",
    add_a_folder: r"mine \(added\)",
    put_a_link: r"main\.cc \(changed\)",
}


@pytest.mark.parametrize("users", USERS, ids=lambda users: users.__name__)
@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_what_the_user_changed_or_added_is_named_and_stays(here, users, when):
    export("out", "one")
    if when == "before":
        users(here / "out")
        before = state(here)
        with pytest.raises(ExportError, match=f"(?s)or that were changed since.*{USERS[users]}"):
            folder.check_folder("out")
        with pytest.raises(ExportError, match=f"(?s)or that were changed since.*{USERS[users]}"):
            export("out", "two")
        assert state(here) == before
        return
    before = {}

    def work():
        with folder.new_folder("out") as place:
            folder.seal(place, "{}")
            users(here / "out")
            before.update({name: held for name, held in state(here).items() if writing.PRIVATE not in name})

    with pytest.raises(ExportError, match=f"(?s)or that were changed since.*{USERS[users]}"):
        work()
    assert state(here) == before


@pytest.mark.parametrize("mark", ["mine", "{}", "[]", '{"files": {}, "sha256": ""}', "\0", "[" * 100_000, None])
def test_a_mark_that_was_edited_is_none(here, mark):
    export("out", "one")
    text = (here / "out" / MARK).read_text().replace('"path": "x"', '"path": "mine"') if mark is None else mark
    (here / "out" / MARK).write_text(text)
    before = state(here)
    with pytest.raises(ExportError, match="was not written by this package"):
        export("out", "two")
    assert state(here) == before


def test_somebody_elses_things_are_refused(here):
    (here / "theirs").mkdir()
    (here / "theirs" / "main.cc").write_text("theirs")
    (here / "file").write_text("theirs")
    os.mkfifo(here / "pipe")
    before = state(here)
    for path in ("theirs", "file", "file/x", "pipe", "/", "", "s3://bucket/x", "n" * 256, None):
        for write in (folder.check_folder, lambda path: export(path, "one")):
            with pytest.raises(ExportError, match=r"was not written by this package|cannot be written"):
                write(path)
    assert state(here) == before


@pytest.mark.parametrize("broken", range(1, 12))
@pytest.mark.parametrize("error", [OSError(errno.EIO, "Input/output error"), KeyboardInterrupt()], ids=type)
def test_an_exchange_that_breaks_off_is_taken_back(here, monkeypatch, broken, error):
    """At each of its moves: the five entries of the earlier export out, the five of the new one in."""
    export("out", "one")
    before, calls, rename = state(here), [], Path.rename

    def fails_once(self, goal):
        calls.append(self)
        if len(calls) == broken:
            raise error
        return rename(self, goal)

    monkeypatch.setattr(Path, "rename", fails_once)
    if broken == 11:  # there are ten
        export("out", "two")
        assert (here / "out" / "main.cc").read_text() == "two"
        return
    with pytest.raises(ExportError if isinstance(error, OSError) else KeyboardInterrupt):
        export("out", "two")
    assert state(here) == before


def test_work_that_fails_leaves_the_earlier_export_and_other_peoples_private_folders(here):
    export("out", "one")
    (here / "out" / f"{writing.PRIVATE}of_another_process").mkdir()
    before = state(here)
    with pytest.raises(ZeroDivisionError), folder.new_folder("out"):
        _ = 1 / 0
    with pytest.raises(ZeroDivisionError), folder.new_folder("a/b"):
        _ = 1 / 0
    assert state(here) == before
    export("out", "two")
    assert (here / "out" / f"{writing.PRIVATE}of_another_process").is_dir()
