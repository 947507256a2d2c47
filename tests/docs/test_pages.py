"""The Python code in README.md and docs/*.md runs, page by page, from top to bottom.

A block that shall not run is fenced with another word than `python`.
"""

import re
from pathlib import Path

import keras
import pytest

ROOT = Path(__file__).parents[2]
CODE = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
PAGES = [page for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))] if page.exists()]

pytestmark = pytest.mark.tensorflow


@pytest.mark.parametrize("page", [page for page in PAGES if CODE.search(page.read_text())], ids=lambda page: page.name)
def test_code_runs(page, tmp_path, monkeypatch):
    """In an empty folder in which the project's data and artefacts can be read."""
    for folder in ("examples", "saved_models"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    keras.utils.clear_session()  # names that Keras gives ("lstm") are those of a fresh session
    text = page.read_text()
    namespace = {"__name__": "__page__"}
    for block in CODE.finditer(text):
        first_line = text.count("\n", 0, block.start(1))
        # line numbers of the page, so that a traceback points at the right place
        exec(compile("\n" * first_line + block.group(1), str(page), "exec"), namespace)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_within_the_project_lead_somewhere(page):
    links = re.findall(r"\]\((?!https?://|#|mailto:)([^)#\s]+)", page.read_text())
    assert not [link for link in links if not (page.parent / link).exists()]
