"""The built wheel holds what a user needs and nothing else; every setting has one home."""

import configparser
import os
import platform
import re
import runpy
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

from keras_lstm_custom.engines.native.build import REMEDY, check_target, compiler
from keras_lstm_custom.errors import EngineError

ROOT = Path(__file__).parents[1]
SOURCES = ["keras_lstm_custom", "pyproject.toml", "setup.cfg", "setup.py", "README.md", "LICENSE", "MANIFEST.in"]
#: What else the repository has.
ARCHIVED = ["CHANGELOG.md", "CONTRIBUTING.md", "Makefile", ".ci", "benchmarks", "docs", "examples", "saved_models"]
ARCHIVED += ["tests", "tools"]
LIBRARY = "keras_lstm_custom/engines/native/libkeras_lstm_custom.so"

needs_compiler = pytest.mark.skipif(
    compiler() is None or platform.system() != "Linux", reason="needs a C++ compiler under Linux"
)


def build(folder, *options, **variables):
    """Build a wheel from a copy, so that the working tree stays clean; return its path and what was said."""
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
        elif source.exists():
            shutil.copy(source, folder / name)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", *options, "-w", "wheels", "."]
    told = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    built = subprocess.run(command, cwd=folder, env={**os.environ, **variables}, check=False, **told)
    assert built.returncode == 0, built.stdout
    (path,) = (folder / "wheels").iterdir()
    return path, built.stdout


@pytest.fixture(scope="module")
def wheel_file(tmp_path_factory):
    return build(tmp_path_factory.mktemp("source"), "--quiet")[0]


@pytest.fixture(scope="module")
def wheel(wheel_file):
    with zipfile.ZipFile(wheel_file) as archive:
        yield archive


@needs_compiler
def test_wheel_holds_the_native_library_for_any_python_of_this_platform(wheel, wheel_file):
    assert LIBRARY in wheel.namelist()
    platform_tag = sysconfig.get_platform().replace("-", "_").replace(".", "_")
    assert wheel_file.name.endswith(f"-py3-none-{platform_tag}.whl")
    (metadata,) = (name for name in wheel.namelist() if name.endswith(".dist-info/WHEEL"))
    assert "Root-Is-Purelib: false" in wheel.read(metadata).decode()


def test_a_wheel_is_not_for_another_machine_than_its_library(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: name)
    monkeypatch.setattr(
        "subprocess.run", lambda command, **_: subprocess.CompletedProcess(command, 0, "arm64-apple-darwin23.1.0\n")
    )
    check_target("macosx_11_0_arm64")
    check_target("manylinux_2_28_aarch64")
    with pytest.raises(EngineError, match=r"--plat-name, e\.g\. linux_aarch64"):
        check_target("linux_x86_64")


def test_source_archive_holds_what_the_tests_need(tmp_path):
    """It is made in a copy, whose tests could then be run: docs, examples, data, the sources of the C++ tests."""
    source, made = tmp_path / "source", tmp_path / "made"
    ignored = shutil.ignore_patterns("__pycache__", "*.so", "*.egg-info", ".hypothesis", "node_modules")
    source.mkdir()
    for path in ROOT.iterdir():
        if path.name in SOURCES + ARCHIVED:
            shutil.copytree(path, source / path.name, ignore=ignored) if path.is_dir() else shutil.copy(path, source)
    hook = f"import setuptools.build_meta as meta; meta.build_sdist({str(made)!r})"
    run = subprocess.run([sys.executable, "-c", hook], cwd=source, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    (archive,) = made.iterdir()
    with tarfile.open(archive) as tar:
        held = {name.partition("/")[2] for name in tar.getnames()}
    files = {path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file()}
    missing = {name for name in files - held if ".egg-info" not in name}
    assert not missing
    assert {"tests/test_package.py", "keras_lstm_custom/engines/native/src/test_core.cc", "Makefile"} <= held


@needs_compiler
@pytest.mark.tensorflow
def test_library_of_the_wheel_serves(wheel, tmp_path):
    """Installed elsewhere, the engine of the wheel runs; the working tree's library is not asked."""
    wheel.extractall(tmp_path)
    code = (
        "import numpy as np, keras_lstm_custom as klc; print(klc.__file__)\n"
        "layer = klc.LSTM(3, engine='native'); layer(np.ones((2, 4, 5), 'float32')); print(layer.last_engine)"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.stdout.split() == [str(tmp_path / "keras_lstm_custom/__init__.py"), "native"], run.stderr


def test_without_a_compiler_the_wheel_is_pure_python_and_says_so(tmp_path):
    path, told = build(tmp_path, "--verbose", CXX="no-such-compiler")
    assert path.name.endswith("-py3-none-any.whl")
    with zipfile.ZipFile(path) as archive:
        assert LIBRARY not in archive.namelist()
    assert "the native engine cannot be built" in told.lower()
    assert REMEDY in told


@needs_compiler
def test_editable_installation_builds_into_the_source_tree(tmp_path):
    """What `pip install -e .` asks for, with nothing installed."""
    build(tmp_path, "--quiet", CXX="no-such-compiler")
    assert not (tmp_path / LIBRARY).exists()
    hook = "import setuptools.build_meta as meta; print(meta.build_editable('editable'))"
    run = subprocess.run([sys.executable, "-c", hook], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (tmp_path / LIBRARY).exists(), run.stdout + run.stderr


def test_wheel_holds_the_package_and_no_tests(wheel):
    names = wheel.namelist()
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"keras_lstm_custom"}
    assert not [name for name in names if "/test" in name.lower()]
    for source in (ROOT / "keras_lstm_custom").rglob("*.py*"):
        if source.suffix not in (".py", ".pyi"):
            continue
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


def test_the_readme_of_the_wheel_can_be_shown_by_an_index(wheel, wheel_file):
    (metadata,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    shown = wheel.read(metadata).decode().partition("\n\n")[2]
    assert "# keras_lstm_custom" in shown
    assert not re.findall(r"\]\((?!https?://|#|mailto:)", shown)
    command = [sys.executable, "-m", "twine", "check", "--strict", str(wheel_file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "PASSED" in done.stdout, done.stdout + done.stderr


def test_links_of_the_readme_lead_into_the_repository_where_it_is_known(monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("setuptools.setup", lambda **_: None)
    convert = runpy.run_path("setup.py")["readme_for_the_index"]
    text = "![a b](docs/p.png) [x](docs/y.md#z) [w](https://w.org) [here](#there)"
    code = '\n```python\nf["a"](b)\n```\n'
    assert convert(text + code, "https://h.org/o/n/") == (
        "![a b](https://h.org/o/n/raw/HEAD/docs/p.png) [x](https://h.org/o/n/blob/HEAD/docs/y.md#z) "
        "[w](https://w.org) [here](#there)" + code
    )
    assert convert(text + code, None) == "*a b* x [w](https://w.org) [here](#there)" + code


def test_every_job_of_the_workflows_calls_a_target_of_the_makefile():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for path in (ROOT / ".github/workflows").glob("*.yml"):
        commands = re.findall(r"run: (.*)", path.read_text())
        assert commands
        for command in commands:
            assert re.match(r"make ([a-z-]+)", command)[1] in targets, command


def test_no_setting_is_in_both_files():
    """What pyproject.toml can say, setup.cfg does not say."""
    cfg = configparser.ConfigParser()
    cfg.read(ROOT / "setup.cfg")
    has_a_home = ("metadata", "options", "tool:", "mypy", "flake8", "pycodestyle", "isort", "coverage", "bdist_wheel")
    assert not [section for section in cfg.sections() if section.startswith(has_a_home)]


def test_every_test_dependency_is_declared():
    """`make test` installs the extra `dev` and nothing else; wheels are built with the setuptools that it brings."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        settings = tomllib.load(file)
    extras = settings["project"]["optional-dependencies"]
    declared = [*extras["dev"], *extras["test"]]
    for name in ("pytest", "pytest-xdist", "hypothesis", "mypy", "ruff", "tensorflow"):
        assert name in " ".join(declared)
    assert set(settings["build-system"]["requires"]) <= set(extras["dev"])
