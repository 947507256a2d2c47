"""What MkDocs does not do by itself: pages made of files outside of docs/, links that lead out of it, and KaTeX."""

from __future__ import annotations

import logging
import os
import posixpath
import re
import subprocess
import sys
import tomllib
from collections.abc import Collection
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import nbformat
from mkdocs.structure.files import File
from nbconvert import MarkdownExporter

ROOT = Path(__file__).parents[2]
MODULES = Path(__file__).parent / "node_modules"
#: What `npm ci` brings and a page needs, and where it lies in the site: the equations, the diagram, and
#: the search without a server.
ASSETS = {
    "katex/dist/*.min.*": "assets/katex",
    "katex/dist/contrib/auto-render.min.js": "assets/katex",
    "katex/dist/fonts/*.woff2": "assets/katex/fonts",
    "iframe-worker/shim/index.js": "assets/iframe-worker",
    "@mermaid-js/tiny/dist/mermaid.tiny.js": "assets",
}
log = logging.getLogger("mkdocs.hooks.site")

#: Pages that lie elsewhere in the repository, where people look for them.
PAGES = {"README.md": "index.md", "CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md"}
NOTEBOOKS = {f"notebooks/{path.name}": f"notebooks/{path.stem}.md" for path in sorted(ROOT.glob("notebooks/*.ipynb"))}
LINK = re.compile(
    r"(?P<picture>!?)\[(?P<text>[^\]]*)\]\((?!https?://|#|mailto:)(?P<path>[^)#\s]+)(?P<anchor>#[^)\s]*)?\)"
)
#: What belongs to the item of a list: three spaces on GitHub, four for Python-Markdown.
LISTED = re.compile(r"^   (?=[ \S])", re.MULTILINE)
DIAGRAM = re.compile(r"^```mermaid\n.*?^```$", re.DOTALL | re.MULTILINE)


def source() -> str | None:
    """Return the repository's address, if it is known."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"].get("Source")


def relinked(markdown: str, file: str, page: str, beside: Collection[str] = ()) -> str:
    """Return a page whose links lead to pages of the site, to the repository, or, if that is not known, nowhere.

    Args:
        markdown: the text.
        file: where it lies in the repository, which its links are relative to.
        page: where it is in the site.
        beside: files that lie beside the page there, and have no other place.
    """

    def there(link: re.Match[str]) -> str:
        if link["path"] in beside:
            return link[0]
        target = posixpath.normpath(posixpath.join(posixpath.dirname(file), link["path"]))
        inside = PAGES.get(target) or NOTEBOOKS.get(target)
        if target.startswith("docs/"):
            inside = target.removeprefix("docs/")
        if inside:
            path = posixpath.relpath(inside, posixpath.dirname(page) or ".")
            return f"{link['picture']}[{link['text']}]({path}{link['anchor'] or ''})"
        address = source()
        return f"[{link['text']}]({address}/blob/HEAD/{target})" if address else link["text"]

    parts = markdown.split("```")  # every other one is code
    return "```".join(part if number % 2 else LINK.sub(there, part) for number, part in enumerate(parts))


def on_config(config: Any) -> Any:
    """Name the repository, where it is known."""
    if source():
        config.repo_url = source()
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that lie elsewhere, and KaTeX."""

    def add(name: str, content: str | bytes) -> None:
        files.append(File.generated(config, name, content=content))

    for file, page in PAGES.items():
        text = LISTED.sub("    ", (ROOT / file).read_text())
        add(page, relinked(text, file, page))
    for file, page in NOTEBOOKS.items():
        _add_notebook(file, page, add)
    add("reference/command-line.md", command_line())
    for pattern, folder in ASSETS.items():
        found = sorted(MODULES.glob(pattern))
        if not found:
            log.warning(f"{pattern} is not installed: npm ci --prefix tools/site")
        for path in found:
            add(f"{folder}/{path.name}", path.read_bytes())
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Mend the links of a page of docs/."""
    if page.is_homepage:
        page.meta["hide"] = ["navigation"]
    if page.file.generated_by:
        return markdown
    markdown = DIAGRAM.sub(r'<div class="wide" markdown>\n\n\g<0>\n\n</div>', markdown)
    return relinked(markdown, f"docs/{page.file.src_uri}", page.file.src_uri)


def _add_notebook(file: str, page: str, add: Any) -> None:
    """Add a notebook as a page, with its outputs and pictures."""
    notebook = nbformat.read(ROOT / file, as_version=4)
    name = Path(page).stem
    resources = {"unique_key": name, "output_files_dir": f"{name}-pictures"}
    text, made = MarkdownExporter().from_notebook_node(notebook, resources)
    add(page, relinked(text.replace("![png]", "![picture]"), file, page, beside=made["outputs"]))
    for picture, content in made["outputs"].items():
        add(f"notebooks/{picture}", content)


def command_line() -> str:
    """Return the page of the command, as `--help` says it."""
    command = [
        sys.executable,
        "-m",
        "typer",
        "keras_lstm_custom.commands",
        "utils",
        "docs",
        "--name",
        "keras-lstm-custom",
    ]
    backend = "tensorflow" if find_spec("tensorflow") else "jax"
    environment = {"KERAS_BACKEND": backend, **os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.replace("# `keras-lstm-custom`", "# The command", 1)
