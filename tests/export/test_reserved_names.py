"""Namespaces of C++ files: what the compiler does not allow is refused, or made into what it does."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from keras_lstm_custom.errors import ArgumentError
from keras_lstm_custom.export.micro_package import shown
from keras_lstm_custom.export.reserved_names import HEADERS, KEYWORDS, TAKEN, chosen_name, why_not

INCLUDED = (
    "cstddef",
    "cstdint",
    "cstring",
    "cerrno",
    "cmath",
    "cstdio",
    "cstdlib",
    "ctime",
    "csignal",
    "cwchar",
    "algorithm",
)
#: Some of each kind, and what people call their models.
NOT_ALLOWED = (
    "class", "int", "and", "xor_eq", "co_await", "std", "main", "NULL", "EOF", "INT_MAX", "time", "signal", "index",
    "cosf", "lgammal", "rand_r", "y1", "int8_t", "my_t", "linux", "unix", "stdout", "errno", "tflite", "arena",
    "restrict", "typeof", "math", "Math", "string", "stdint", "features",
    "iswalpha", "towlower", "wcslen", "clock_gettime", "_x", "a__b", "9a", "a-b", "a b", "ü", "a\n", "", "a.b", "a::b",
)  # fmt: skip
ALLOWED = ("gesture", "Gesture", "model_64", "lstm64", "kws", "tower", "iswitch", "total", "sensor_l", "x", "a_b_c")
FOLDERS = {
    "gesture": "gesture", "Gesture-2": "gesture_2", "class": "model_class", "std": "model_std", "main": "model_main",
    "time": "model_time", "linux": "model_linux", "NULL": "null", "42": "model_42", "x__y_": "x_y", "": "model",
    "math": "model_math", "restrict": "model_restrict",
    "Gerät 1": "gerat_1", "手": "model", "arena": "model_arena", "y1": "model_y1", "int8_t": "model_int8_t_",
}  # fmt: skip


@pytest.mark.parametrize("name", [*NOT_ALLOWED, 3, b"gesture"], ids=repr)
def test_a_name_that_is_not_allowed_is_refused(name):
    with pytest.raises(ArgumentError, match="C identifier"):
        chosen_name(name, "out")


@pytest.mark.parametrize("name", ["k_io", "k_part"])
def test_a_name_of_what_plain_c_is_made_of_is_refused(name):
    with pytest.raises(ArgumentError, match="inside of plain C"):
        chosen_name(name, "out")
    assert chosen_name(None, name) == f"model_{name}"


def test_others_are_taken_as_they_are():
    assert [chosen_name(name, "class") for name in ALLOWED] == list(ALLOWED)


def test_a_folders_name_becomes_an_allowed_one(tmp_path):
    made = {folder: chosen_name(None, tmp_path / folder if folder else "/") for folder in FOLDERS}
    assert made == FOLDERS
    assert not any(map(why_not, made.values()))


@pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ here")
def test_the_compiler_takes_what_is_allowed_and_refuses_what_is_not(tmp_path):
    def errors(names):
        lines = [f"namespace {name} {{ extern int x_; }}" for name in names]
        source = tmp_path / "names.cc"
        source.write_text("\n".join([*(f"#include <{header}>" for header in INCLUDED), *lines]) + "\n")
        command = ["g++", "-std=gnu++17", "-fsyntax-only", "-fmax-errors=0", str(source)]
        return subprocess.run(command, capture_output=True, text=True).stderr

    assert errors([*ALLOWED, *FOLDERS.values()]) == ""
    for name in ("class", "time", "cosf", "y1", "linux", "NULL", "errno", "int8_t"):
        assert "error" in errors([name]), name


def test_the_tables():
    assert {"class", "char8_t", "requires"} <= KEYWORDS
    assert {"printf", "cos", "time"} <= TAKEN
    assert not KEYWORDS & TAKEN


@pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ here")
@pytest.mark.parametrize("name", ['quoted "y"', "back\\", "%d %s\n", "ü 手", "??/", "*/", "plain"])
def test_names_of_tensors_end_neither_a_comment_nor_a_string(tmp_path, name):
    """They are the user's layers', who may call them anything."""
    source = tmp_path / "print.cc"
    text = shown(name)
    source.write_text(
        f'#include <cstdio>\nint main() {{\n  int wrong = 1;\n  // {text}\n  wrong = 0;\n  fputs("{text}", stdout);\n'
        "  return wrong;\n}\n"
    )
    flags = ["-std=c++17", "-trigraphs", "-Wall", "-Wextra", "-Werror"]
    subprocess.run(["g++", *flags, str(source), "-o", str(tmp_path / "print")], check=True)
    done = subprocess.run([str(tmp_path / "print")], capture_output=True, check=True)
    assert done.stdout == name.encode()


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
@pytest.mark.parametrize("standard", ["c99", "gnu17"])
def test_allowed_names_are_no_words_of_c(standard, tmp_path):
    """And a driver, a test, and what a package's functions are called are names as others."""
    names = [*ALLOWED, "driver", "own_test", "start", "phase0", "m", "w", "t"]
    assert [chosen_name(name, "out") for name in names] == names
    (tmp_path / "names.c").write_text("".join(f"struct {name} {{ int s; }};\n" for name in names))
    subprocess.run(["cc", f"-std={standard}", "-fsyntax-only", "names.c"], cwd=tmp_path, check=True)


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_the_headers_that_stand_here_are_known():
    """Those of C, as this compiler finds them."""
    found = {name for name in HEADERS if _finds(name)}
    assert {"assert", "math", "string", "stdint", "features", "limits", "float"} <= found


def _finds(name):
    text = f"#include <{name}.h>\n"
    return not subprocess.run(["cc", "-E", "-o", "/dev/null", "-"], input=text.encode(), capture_output=True).returncode
