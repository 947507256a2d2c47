"""The built wheel holds what a user needs and nothing else; every setting has one home."""

import configparser
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = ["keras_lstm_custom", "pyproject.toml", "setup.cfg", "setup.py", "README.md", "LICENSE", "MANIFEST.in"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Build a wheel from a copy, so that the working tree stays clean."""
    folder = tmp_path_factory.mktemp("source")
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.exists():
            shutil.copy(source, folder / name)
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--quiet",
        "-w",
        "wheels",
        ".",
    ]
    built = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    (path,) = (folder / "wheels").iterdir()
    with zipfile.ZipFile(path) as archive:
        yield archive


def test_wheel_holds_the_package_and_no_tests(wheel):
    names = wheel.namelist()
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"keras_lstm_custom"}
    assert not [name for name in names if "test" in name.lower()]
    for source in (ROOT / "keras_lstm_custom").rglob("*.py"):
        assert source.relative_to(ROOT).as_posix() in names


def test_wheel_says_that_it_is_typed_and_under_which_licence(wheel):
    names = wheel.namelist()
    assert "keras_lstm_custom/py.typed" in names
    assert any(name.endswith("/LICENSE") for name in names)
    (metadata,) = (name for name in names if name.endswith(".dist-info/METADATA"))
    text = wheel.read(metadata).decode()
    assert "License-Expression: Apache-2.0" in text
    assert "Requires-Python: >=3.11" in text


def test_version_has_one_home(wheel):
    from keras_lstm_custom import __version__

    (metadata,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    assert f"Version: {__version__}\n" in wheel.read(metadata).decode()
    assert __version__ not in (ROOT / "pyproject.toml").read_text()


def test_no_setting_is_in_both_files():
    """What pyproject.toml can say, setup.cfg does not say."""
    cfg = configparser.ConfigParser()
    cfg.read(ROOT / "setup.cfg")
    has_a_home = ("metadata", "options", "tool:", "mypy", "flake8", "pycodestyle", "isort", "coverage", "bdist_wheel")
    assert not [section for section in cfg.sections() if section.startswith(has_a_home)]


def test_every_test_dependency_is_declared():
    """`make test` installs the extra `dev` and nothing else."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        dev = " ".join(tomllib.load(file)["project"]["optional-dependencies"]["dev"])
    for name in ("pytest", "pytest-xdist", "hypothesis", "mypy", "ruff", "tensorflow"):
        assert name in dev
