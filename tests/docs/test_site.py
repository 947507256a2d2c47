"""The site has every page and every public name, builds without a warning, and loads nothing from elsewhere."""

import importlib
import logging
import re
from pathlib import Path

import pytest

import keras_lstm_custom as klc

ROOT = Path(__file__).parents[2]
PAGES = [page.read_text() for page in (ROOT / "docs/reference").glob("*.md")]
REFERENCE = {name for page in PAGES for name in re.findall(r"^::: (\S+)", page, re.MULTILINE)}
#: Modules whose public names a user meets, beside those of the package itself.
MODULES = ("diagnostics", "equations", "export", "load", "plots", "tasks", "timeseries")
#: What a page loads by itself, as opposed to a link that a reader follows.
LOADED = re.compile(
    r"<(?:script|img|iframe)[^>]*\bsrc=\"?(https?:[^\" >]+)"
    r"|<link[^>]*rel=\"?(?:stylesheet|preload|preconnect|icon)[^>]*href=\"?(https?:[^\" >]+)"
)
#: What `npm ci` adds to a site; where nothing else is missing, the rest of it is as it will be.
NOT_INSTALLED = "is not installed: npm ci"


def public_names():
    yield from (f"keras_lstm_custom.{name}" for name in klc.__all__)
    for module in MODULES:
        path = "keras_lstm_custom.diagnostics.plots" if module == "plots" else f"keras_lstm_custom.{module}"
        loaded = importlib.import_module(path)
        names = getattr(loaded, "__all__", None) or [
            name for name, value in vars(loaded).items() if getattr(value, "__module__", "") == path and name[0] != "_"
        ]
        yield from (f"keras_lstm_custom.{module}.{name}" for name in names)
    for name, value in vars(importlib.import_module("keras_lstm_custom.errors")).items():
        if isinstance(value, type) and issubclass(value, Exception):
            yield f"keras_lstm_custom.errors.{name}"


def test_every_public_name_is_in_the_reference():
    at_the_top = {name.rpartition(".")[2] for name in REFERENCE if name.count(".") == 1}
    modules = {"__version__", "activations", "initializers", *MODULES}
    names = {name for name in public_names() if name.rpartition(".")[2] not in at_the_top | modules}
    # A function stands there where it is written: `export.micro.micro`.
    missing = {
        (package, short)
        for package, _, short in (name.rpartition(".") for name in names)
        if not any(known.startswith(package) and known.endswith(f".{short}") for known in REFERENCE)
    }
    assert not missing


def test_every_page_is_in_the_navigation():
    named = set(re.findall(r"^\s+- (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.M))
    pages = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    notebooks = {f"notebooks/{path.stem}.md" for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert pages | notebooks <= named


def test_the_site_builds_without_a_warning_and_loads_nothing_from_elsewhere(tmp_path, monkeypatch, caplog):
    pytest.importorskip("material", reason="needs the extra `docs`")
    build = pytest.importorskip("mkdocs.commands.build", reason="needs the extra `docs`")
    config = pytest.importorskip("mkdocs.config", reason="needs the extra `docs`")
    monkeypatch.chdir(ROOT)
    with caplog.at_level(logging.WARNING):
        build.build(config.load_config(str(ROOT / "mkdocs.yml"), site_dir=str(tmp_path)))
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert not [text for text in warnings if NOT_INSTALLED not in text]
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) > len(list((ROOT / "docs").glob("*.md")))
    assert not [(page.name, found) for page in pages for found in LOADED.findall(page.read_text())]
    layers = (tmp_path / "reference/layers.html").read_text()
    assert all(f'id="keras_lstm_custom.{name}"' in layers for name in ("LSTM", "GRU", "from_keras"))
    assert "recurrent_weight_dropout" in layers  # of the cell's options: the stub is what is shown
    assert "keras-lstm-custom streaming" in (tmp_path / "reference/command-line.html").read_text()
