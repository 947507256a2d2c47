"""Type checkers and editors see every public name, its arguments and its docstring."""

import ast
import inspect
import re
import runpy
import subprocess
import sys
import typing
from pathlib import Path

import keras
import pytest

import keras_lstm_custom as klc
from keras_lstm_custom.arguments import ARGUMENTS, BY_KEYWORD, BY_KEYWORD_OVER_TIME, described
from keras_lstm_custom.engines import EngineName
from keras_lstm_custom.equations.lstm_options import EPSILON
from keras_lstm_custom.options import own_options
from tests.descriptors import CELLS, LAYERS

ROOT = Path(__file__).parents[1]
USERS = ROOT / "tests" / "typing"
MADE_WITH = re.search(r"Keras (\d+\.\d+)", (ROOT / "keras_lstm_custom/layers/lstm.pyi").read_text())[1]
ERROR = re.compile(r"(right|wrong)\.py:(\d+)(?::\d+)?[ :-]+error")
CLASSES = pytest.mark.parametrize("cls", [row.public_class for row in LAYERS + CELLS], ids=lambda cls: cls.__qualname__)


def complaints(command):
    """Return which lines of the user's scripts a checker calls wrong."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return {(name, int(line)) for name, line in ERROR.findall(done.stdout)}, done.stdout


def marked():
    lines = enumerate((USERS / "wrong.py").read_text().splitlines(), 1)
    return {("wrong", number) for number, line in lines if line.endswith("# error")}


@pytest.mark.parametrize("checker", ["mypy", "pyright"])
def test_checkers_find_what_is_wrong_and_nothing_else(checker):
    pytest.importorskip(checker)
    command = [sys.executable, "-m", checker, str(USERS / "right.py"), str(USERS / "wrong.py")]
    if checker == "pyright":
        command[3:3] = ["--pythonpath", sys.executable]
        version = subprocess.run([*command[:3], "--version"], capture_output=True, text=True, check=False)
        if version.returncode:
            pytest.skip("pyright fetches its program when it first runs, and could not")
    found, told = complaints(command)
    assert found == marked(), told


def test_names_loaded_on_first_use_are_those_that_checkers_see():
    tree = ast.parse(Path(klc.__file__).read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    seen = {alias.name: f"{node.module}.{alias.name}" for node in block.body for alias in node.names}
    assert seen == {name: where.replace(":", ".") for name, where in klc._ON_FIRST_USE.items()}
    assert set(seen) <= set(klc.__all__)
    assert all(getattr(klc, name) for name in klc.__all__)


def test_a_misspelt_name_of_the_package_brings_the_near_one():
    with pytest.raises(AttributeError) as caught:
        klc.Lstm  # noqa: B018
    assert (caught.value.name, caught.value.obj) == ("Lstm", klc)  # of which Python makes "Did you mean: 'LSTM'?"
    assert "LSTM" in dir(klc)


def test_types_list_all_that_is_taken():
    assert set(typing.get_args(EngineName)) == {"auto", *klc.engines.ENGINES}
    forms = typing.get_args(typing.get_type_hints(klc.LSTMCell.__init__)["layer_normalization"])[0]
    assert set(typing.get_args(forms)) == set(EPSILON)


@CLASSES
def test_help_describes_every_argument_once(cls):
    section = re.search(r"^Args:\n(.*?)^\S", cls.__doc__, re.DOTALL | re.MULTILINE)[1]
    names = re.findall(r"^    (\w+): ", section, re.MULTILINE)
    more = BY_KEYWORD_OVER_TIME if hasattr(cls, "cell_class") else BY_KEYWORD
    assert names == [*(name for name in inspect.signature(cls).parameters if name != "kwargs"), *more]
    assert all(described(cls.__doc__).values())


@CLASSES
def test_what_keras_takes_by_keyword_is_taken(cls):
    options = BY_KEYWORD_OVER_TIME if hasattr(cls, "cell_class") else BY_KEYWORD
    layer = cls(3, **{**options, "name": "mine", "dtype": "float64", "trainable": False})
    assert (layer.name, layer.dtype, layer.trainable) == ("mine", "float64", False)


@CLASSES
def test_every_argument_of_keras_has_a_type_and_a_line(cls):
    of_keras = set(inspect.signature(cls).parameters) - {"kwargs"} - set(own_options(cls))
    of_keras -= set(own_options(getattr(cls, "cell_class", cls)))
    assert of_keras <= set(ARGUMENTS)


def test_a_cell_of_ones_own_is_described_too():
    class Own(klc.RecurrentCell):
        """A cell.

        Args: those of Keras, and
            leak: share that stays.

        Returns:
            `h`.
        """

        def __init__(self, *args, leak: float = 0.5, **kwargs):
            super().__init__(*args, **kwargs)

    class OwnLayer(klc.Recurrent):
        """A layer."""

        cell_class = Own

    texts = described(OwnLayer.__doc__)
    assert texts["leak"] == described(Own.__doc__)["leak"] == "share that stays."
    assert texts["units"] == ARGUMENTS["units"].text
    assert "checkpoint_every" in texts
    assert Own.__doc__.endswith("Returns:\n    `h`.")


@pytest.mark.skipif(
    not keras.__version__.startswith(f"{MADE_WITH}."), reason=f"the stubs have the arguments of Keras {MADE_WITH}"
)
def test_stubs_are_fresh():
    tool = runpy.run_path(str(ROOT / "tools/stubs.py"))
    written = {cls: tool["path_of"](cls).read_text() for cls in tool["CLASSES"]}
    stale = [cls.__qualname__ for cls, text in written.items() if text != tool["stub"](cls)]
    assert not stale, "`make stubs` writes them anew"


def test_every_stub_stands_for_a_public_class():
    stubs = {path.stem for path in (ROOT / "keras_lstm_custom").rglob("*.pyi")}
    assert stubs == {row.public_class.__module__.rpartition(".")[2] for row in LAYERS + CELLS}
