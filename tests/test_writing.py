"""The one way of writing: whole or not at all, nothing of the user's lost, nothing left behind, whatever happens."""

from __future__ import annotations

import ast
import errno
import os
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from keras_lstm_custom import writing
from keras_lstm_custom.errors import DataError, ExportError
from tests.test_imports import MODULES, PACKAGE


def write(path):
    writing.write_text(path, "new")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The folder that the test is in, empty."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return folder


def content(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "name",
    ["plain.txt", "two words.txt", "grün/ü.txt", "-x.txt", "no_suffix", "n" * 255, "a/b/c.txt", "[x]*?.txt", ".x"],
)
@pytest.mark.parametrize("kind", [str, Path])
def test_odd_names_are_names(here, name, kind):
    write(kind(name))
    assert content(here) == {name: b"new"}


REFUSED = {
    "": "an empty path",
    ".": "the name of a folder",
    "..": "the name of a folder",
    "folder": "the name of a folder",
    "new/": "the name of a folder",
    "n" * 256: "too long",
    "new/" + "n" * 256: "too long",
    "nul\0": "null byte",
    "file/x": "Not a directory",
    "pipe": "a device, a pipe or a socket",
    "/dev/full": "a device, a pipe or a socket",
    "circle": "symbolic links",
    "s3://bucket/x": "another computer",
    "gs:/bucket/x": "another computer",
    "~nobody_of_that_name/x": "not known here",
}


@pytest.mark.parametrize("path", [*REFUSED, None, 3, b"x"], ids=lambda path: repr(path)[:24])
@pytest.mark.parametrize("error", [ExportError, DataError])
def test_a_path_that_cannot_be_a_file_is_refused_at_once_and_nothing_changes(here, path, error):
    (here / "folder").mkdir()
    (here / "file").write_text("old")
    os.mkfifo(here / "pipe")
    (here / "circle").symlink_to("circle")
    before = sorted(os.listdir(here))
    for call in (writing.check_file, lambda *given: writing.write_text(given[0], "new", given[1])):
        if path == "new/" + "n" * 256 and call is writing.check_file:
            continue  # the folder is not there yet to say how long its names may be
        with pytest.raises(error, match=rf"(?s)cannot be written.*{REFUSED.get(path, 'no str and no Path')}"):
            call(path, error)
    assert sorted(os.listdir(here)) == before
    assert content(here) == {"file": b"old"}


def test_a_home_folder_is_one(here, tmp_path):
    write("~/x/y.txt")
    write("~y.txt")  # a name as any other
    assert content(tmp_path) == {"home/x/y.txt": b"new", "here/~y.txt": b"new"}


def test_a_link_is_written_through(here, tmp_path):
    """To a file, to nothing, over a folder; what somebody planted beside it is not touched."""
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "real").write_text("old")
    (here / "link").symlink_to(tmp_path / "far" / "real")
    (here / "dangling").symlink_to("../far/none")
    (here / "folder").symlink_to("../far")
    (tmp_path / "victim").write_text("precious")
    for planted in ("link.part", "link.new", ".link"):
        (here / planted).symlink_to(tmp_path / "victim")
    for path in ("link", "dangling", "folder/new"):
        write(path)
    assert all((here / path).is_symlink() for path in ("link", "dangling", "folder"))
    assert content(tmp_path / "far") == {"real": b"new", "none": b"new", "new": b"new"}
    assert (tmp_path / "victim").read_text() == "precious"


def test_permissions(here):
    """A new file has those of the umask, a replaced one keeps its own; nobody else sees it before it is whole."""
    before = os.umask(0o027)
    try:
        with writing.new_file("new") as file:
            assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
            assert file.parent.parent == here
            file.write_text("new")
        assert stat.S_IMODE(Path("new").stat().st_mode) == 0o640
        Path("new").chmod(0o604)
        write("new")
        assert stat.S_IMODE(Path("new").stat().st_mode) == 0o604
    finally:
        os.umask(before)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_what_is_protected_stays(here):
    write("file")
    Path("file").chmod(0o444)
    with pytest.raises(ExportError, match="protected against writing"):
        write("file")
    Path("folder").mkdir(mode=0o555)
    with pytest.raises(ExportError, match="Permission denied"):
        write("folder/x")


def full(*args, **kwargs):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


FAILURES = {
    "while it is written": (Path, "write_bytes"),
    "when it is brought to the disk": (os, "fsync"),
    "when its permissions are set": (writing.shutil, "copymode"),
    "when it is renamed": (os, "replace"),
}


@pytest.mark.parametrize("when", FAILURES)
@pytest.mark.parametrize("path", ["file", "a/b/file"])
def test_a_full_disk_leaves_what_was_there(here, monkeypatch, when, path):
    (here / "file").write_text("old")
    monkeypatch.setattr(*FAILURES[when], full)
    if path != "file" and "permissions" in when:
        return  # there are none to keep
    with pytest.raises(ExportError, match="No space left on device"):
        write(path)
    monkeypatch.undo()
    assert content(here) == {"file": b"old"}
    assert os.listdir(here) == ["file"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, ValueError])
def test_an_error_in_the_block_leaves_what_was_there(here, error):
    write("file")

    def work(path):
        with writing.new_file(path) as file:
            file.write_text("half")
            raise error

    for path in ("file", "a/b/file"):
        with pytest.raises(error):
            work(path)
    assert content(here) == {"file": b"new"}
    assert os.listdir(here) == ["file"]


def test_the_file_that_the_process_prints_to_is_not_replaced(here):
    code = f"from {PACKAGE} import writing; writing.write_text('/dev/stdout', 'new')"
    with open("log", "w") as log:
        done = subprocess.run([sys.executable, "-c", code], stdout=log, stderr=subprocess.PIPE, text=True, env=stub())
    assert done.returncode == 1
    assert "prints to" in done.stderr
    assert os.listdir(here) == ["log"]


def test_a_name_is_kept_as_it_is(here):
    writing.write_npz("x.traces", {"a": np.arange(3)})
    assert os.listdir(here) == ["x.traces"]


def stub():
    """Return an environment for a process that imports this module and not all of Keras."""
    (code := Path("stub")).mkdir()
    root = Path(MODULES[PACKAGE]).parent
    (code / f"{PACKAGE}.py").write_text(f"__path__ = [{str(root)!r}]")
    code = code.rename(code.absolute().parents[1] / "stub")
    return {**os.environ, "PYTHONPATH": str(code)}


LONG_WORK = f"""
import os, signal, sys, time
from {PACKAGE} import writing

def again(*arguments, remove=writing.shutil.rmtree, **options):
    os.kill(os.getpid(), signal.SIGTERM)  # another signal, in the midst of the cleaning up
    remove(*arguments, **options)

{{before}}
with writing.scratch() as scratch, writing.new_file("a/b/file") as file:
    file.write_text("half")
    (scratch / "more").write_text("half")
    writing.shutil.rmtree = again
    print(scratch, flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT], ids=lambda number: number.name)
def test_a_signal_ends_the_process_and_leaves_nothing_behind(here, number):
    code = LONG_WORK.format(before="")
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=stub(),
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),  # a shell's background jobs, say, ignore some
    )
    scratch = Path(process.stdout.readline().decode().strip())
    assert scratch.is_dir()
    assert os.listdir(here) == ["a"]
    process.send_signal(number)
    process.communicate(timeout=30)
    # Ctrl-C is an exception of Python's, so the other signal is the one by which the process ends.
    assert process.returncode == (-signal.SIGTERM if number == signal.SIGINT else -number)
    assert not scratch.exists()
    assert os.listdir(here) == []


def test_a_handler_of_the_users_is_left_alone(here):
    before = "again = writing.shutil.rmtree; signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(7))"
    code = LONG_WORK.format(before=before)
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=stub())
    process.stdout.readline()
    process.terminate()
    process.communicate(timeout=30)
    assert process.returncode == 7
    assert os.listdir(here) == []


def test_signals_are_as_before_afterwards_and_untouched_in_a_thread(here):
    before = [signal.getsignal(number) for number in writing.ENDING]
    during = []

    def work(name):
        with writing.new_file(name) as file:
            file.write_text("new")
            during.append([signal.getsignal(number) for number in writing.ENDING])

    thread = threading.Thread(target=work, args=("thread",))
    thread.start()
    thread.join()
    work("main")
    assert during[0] == before
    assert during[1] != before
    assert [signal.getsignal(number) for number in writing.ENDING] == before
    assert content(here) == {"thread": b"new", "main": b"new"}


#: Methods and functions that write. Those of `COPIES` are looked at only where they are `shutil`'s or `os`'s.
WRITES = {
    "write_text", "write_bytes", "savez", "savez_compressed", "save", "savefig", "tofile", "dump", "mkdtemp", "mkstemp",
    "NamedTemporaryFile", "TemporaryDirectory", "makedirs", "mkdir", "rmtree", "unlink", "touch", "rename", "to_csv",
    "save_model", "open", "write_image", "write_html",
}  # fmt: skip
COPIES = {"copy", "copyfile", "copytree", "move", "replace"}
#: Where else something is written, and why that is no way of its own.
ELSEWHERE = {
    ("engines.native.build", "write_bytes"): "into `new_file`",
    ("export.folder", "mkdir"): "into `private_folder`",
    ("export.folder", "rename"): "out of it",
    ("export.folder", "write_text"): "into `new_folder`",
    ("export.litert", "write_bytes"): "into `new_file`",
    ("export.micro", "write_text"): "into `new_folder`",
    ("export.quantization.promote", "write_bytes"): "into `scratch`",
    ("export.running.runtimes", "savez"): "into `scratch`",
    ("export.running.worker", "savez"): "the answer, into the `scratch` of the process that asks",
    ("export.running.worker", "open"): "the null device",
    ("engines.native.build", "write_text"): "into `scratch`",
    ("export.converter", "open"): "the null device",
    ("export.converter", "save"): "into `scratch`",
    ("export.plain_c.writing.files", "write_text"): "into `new_folder`, and `scratch`",
    ("export.plain_c.host", "write_text"): "into `scratch`",
    ("export.streaming", "write_bytes"): "into `new_file`",
    ("timeseries.commands", "to_csv"): "into `new_file`",
    ("timeseries.dialect_times", "rename"): "columns of a table",
    ("timeseries.forecasting.job", "to_csv"): "into `new_file`",
    ("timeseries.forecasting.picture", "savefig"): "into `new_file`",
    ("timeseries.forecasting.saving", "save"): "into `new_file`",
}


def writing_calls(tree):
    """Yield the name of each call that may write to a path that it is given."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        is_method = isinstance(node.func, ast.Attribute)
        name = node.func.attr if is_method else getattr(node.func, "id", "")
        owner = getattr(node.func.value, "id", "") if is_method else ""
        given = [*node.args, *(keyword.value for keyword in node.keywords)]
        modes = [str(each.value) for each in given if isinstance(each, ast.Constant)]
        flags = {each.attr for each in given for each in ast.walk(each) if isinstance(each, ast.Attribute)}
        reads = {
            "open": not flags & {"O_WRONLY", "O_RDWR", "O_CREAT"}
            and not any(len(mode) < 4 and set(mode) & set("wax+") for mode in modes),
            "to_csv": not node.args,  # to text
        }
        is_ours = not is_method and name in vars(writing)
        if (name in WRITES and not reads.get(name) and not is_ours) or (name in COPIES and owner in ("shutil", "os")):
            yield name


def test_nothing_else_in_the_package_writes():
    found = {
        (module.removeprefix(f"{PACKAGE}."), name)
        for module, path in MODULES.items()
        for name in writing_calls(ast.parse(path.read_text()))
    }
    others = {call for call in found if call[0] != "writing" and call not in ELSEWHERE}
    assert not others, f"these write past {PACKAGE}.writing: {sorted(others)}"
    assert not ELSEWHERE.keys() - found, "these write no more; take them out of the table"
